"""GRACE to COMPLETED: revoke the old key, prove that it is dead, destroy its secret."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.keys import Revocation
from keyturn.domain.rotation import EventType, Fate, Park
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine import beside, licence, listing, liveness, mirrors, old_keys, refusals
from keyturn.engine.commands import with_reason
from keyturn.engine.liveness import Answer, Life, is_from_here, shows
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, Work
from keyturn.ports.exchange import Caller

# A venue that still honours a revoked key this long after its stated propagation has not revoked it.
_DEATH_MARGIN_SECONDS = 600.0
# And it has been asked this often: a worker that finds the intent hours later has only just revoked. With the
# pauses below, that many looks take some minutes.
_DEATH_LOOKS = 10
# The longest pause between two looks at a key that should be dead.
_DEATH_POLL_SECONDS = 60.0
# The venue may be slow, or what was kept is not the secret of the key that lives there.
_ASKED_AGAIN = "It was told to revoke it, and is asked again; if it stays so, look in its console."
_NO_KEY_LIVES = "The exchange refuses the new key by now, and the old one, too."
# A confirmation that is older than this says nothing of the key that it was given for.
_FRESH_SECONDS = 60.0


async def begin(work: Work) -> Rest | None:
    """GRACE: when it has passed, revoke the old key."""
    r = work.rotation
    if r.grace_until and work.now() < r.grace_until:
        return await refusals.look(work) or Rest(r.grace_until, "the end of the grace period")
    if r.old_ref is None and not await old_keys.unnamed(work, None):
        await work.commit(work.event(EventType.COMPLETED, "there was no key before this one"))
        return None
    if rest := await _dead_current(work):
        return rest
    if rest := await refusals.hold(work):
        return rest
    return await (_close(work, None) if r.old_ref is None else _kill(work))


async def _dead_current(work: Work) -> Rest | None:
    """Park when the key that is current died since it was proved: the old one may be all that lives.

    Somebody may have deleted it at the exchange while both lived. What was proved a moment ago is believed.
    """
    r = work.rotation
    if r.confirmed_at and work.now() <= r.confirmed_at + timedelta(seconds=_FRESH_SECONDS):
        return None
    current = await work.store.read(work.path, Slot.CURRENT)
    if current is None:
        return None  # the licence tells
    if (await liveness.ask(work, current)).serves:
        return None
    previous = await work.store.read(work.path, Slot.PREVIOUS)
    if previous and (await liveness.ask(work, previous)).life in {Life.UNKNOWN_TO_VENUE, Life.UNCLEAR}:
        return await _both_dead(work)
    return await work.park(
        Park.NO_PROOF,
        "The exchange refuses the new key by now; the old one was not revoked.",
        f"Go back: {with_reason('rollback', r.credential)}. Or see at the exchange what became"
        f" of the key; then: keyturn resume {r.credential}",
    )


async def _both_dead(work: Work) -> Rest | None:
    """Say once that no key lives; who resumes then wants this rotation closed, and a new one."""
    r = work.rotation
    if r.problem == _NO_KEY_LIVES:
        return None
    return await work.park(
        Park.NO_PROOF,
        _NO_KEY_LIVES,
        f"keyturn resume {r.credential} closes this rotation. Then make a new key:"
        f" {with_reason('rotate', r.credential)}",
    )


async def park_manager_key(work: Work) -> Rest:
    """Stop: the key that would be revoked is the one that manages the account."""
    r = work.rotation
    return await work.park(
        Park.NOT_OURS,
        f"The key of {r.credential} is the manager key of the account {r.account}; it was not revoked.",
        f"Give the account a manager key of its own: keyturn put --manager {r.account}."
        f" Then: keyturn resume {r.credential}",
    )


async def finish(work: Work) -> Rest | None:
    """REVOKING, found on the way: revoke, if the death is not proved yet, and close."""
    if work.rotation.dead_at is None:
        return await _kill(work)
    return await _close(work, await work.peek(Slot.PREVIOUS))


async def _close(work: Work, previous: SlotInfo | None) -> Rest | None:
    """End what lived beside the old key, destroy what is left of its secret, and close."""
    r = work.rotation
    if rest := await beside.end(work):
        return rest
    if previous and previous.meta and previous.meta.key_ref == r.old_ref:
        await work.store.discard(work.path, Slot.PREVIOUS, version=previous.version)
    await mirrors.forget_previous(work, r.old_ref)
    await work.commit(work.event(EventType.COMPLETED))
    return None


async def _kill(work: Work) -> Rest | None:
    """Revoke the old key, and prove that it is dead."""
    r = work.rotation
    shown, previous = await _previous(work)
    manager = await work.manager()
    if manager.material.key_ref == r.old_ref:
        return await park_manager_key(work)
    # Last, so that nothing stands between its looks and the revoke.
    revoked = await licence.revoke_old(work, manager, shown)
    if isinstance(revoked, Rest):
        return revoked
    answer = await liveness.ask(work, previous) if previous else None
    if answer and answer.is_known:
        return await _still_alive(work, _still_known(answer), revoked)
    proof = "a call signed with it was refused: the exchange knows no such key"
    record = revoked.record
    told = revoked.answer is Revocation.REVOKED
    here = told or liveness.is_of_this_site(work, record) or await is_from_here(work, record, manager)
    if answer is None or answer.life is not Life.UNKNOWN_TO_VENUE or not told:
        # The secret is gone, or the venue does not say whether it knows the key, or its "no such key" stands
        # alone (the API of another site says it of living keys, too): the list tells. Where a person has said
        # that the new key is dead, too, nothing can be its witness but that it has shown the old one before.
        lone = r.problem == _NO_KEY_LIVES and await is_from_here(work, record, manager)
        if doubt := await _doubt(work, manager, revoked.subaccount, lone=lone):
            return await _still_alive(work, doubt, revoked)
        if not here:
            why = "Nothing has ever shown that the old key is of this account."
            return await _still_alive(work, why, revoked)
        proof = "the exchange no longer lists it"
    dead = work.event(EventType.OLD_KEY_DEAD, dead_at=work.now(), death_proof=proof)
    await work.commit(dead, keys=(replace(revoked.record, fate=Fate.REVOKED, recorded_at=work.now()),))
    return await _close(work, shown)


async def _previous(work: Work) -> tuple[SlotInfo | None, Stored | None]:
    """Give what stands in previous, and open it; what nobody can open any more proves nothing, as if gone."""
    try:
        opened = await work.store.read(work.path, Slot.PREVIOUS)
    except StoreError as error:
        if error.fault not in {StoreFault.CORRUPT, StoreFault.MISCONFIGURED}:
            raise
        return await work.peek(Slot.PREVIOUS), None
    return opened.info if opened else None, opened


async def _doubt(work: Work, manager: Caller, subaccount: str | None, *, lone: bool) -> str:
    """Say why the venue's list does not prove that the old key is gone; empty if it does.

    A list counts if it shows the new key: that of another account, or half a list, shows neither. A lone one
    counts without that.
    """
    r = work.rotation
    listed = await listing.look_in(work, manager, subaccount)
    if shows(listed, r.old_ref):
        return "The exchange still lists the old key."
    if subaccount != r.subaccount:
        listed = await listing.look(work, manager)
    if not lone and not shows(listed, r.new_ref):
        return f"The list of the manager key of {r.account} does not show the new key, so it proves nothing."
    return ""


async def _still_alive(work: Work, why: str, revoked: licence.Revoked) -> Rest:
    r, why = work.rotation, f"{why} {revoked.open_because}".strip()
    margin = work.driver.manifest.propagation_seconds + _DEATH_MARGIN_SECONDS
    late = r.revoke_at is not None and work.now() > r.revoke_at + timedelta(seconds=margin)
    if late and r.failures >= _DEATH_LOOKS:
        return await work.park(
            Park.NO_PROOF,
            f"The exchange was told to revoke the old key, and its death is not proved. {why}",
            f"See in the exchange's console that the key is gone, and whose key {r.account} is managed by."
            f" Then: keyturn resume {r.credential}",
        )
    pause = min(_DEATH_POLL_SECONDS, backoff(r))
    return await work.defer(pause, f"{why} {_ASKED_AGAIN}")


def _still_known(answer: Answer) -> str:
    """Say that the venue knows the old key, and by which refusal it tells where it does not take its call."""
    told = f" {answer.error.what}" if answer.error else ""
    return f"The exchange still knows the old key.{told}"
