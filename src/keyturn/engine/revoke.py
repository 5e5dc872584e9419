"""GRACE to COMPLETED: revoke the old key, prove that it is dead, destroy its secret."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.rotation import EventType, Fate, KeyRecord, Park
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine import mirrors
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, Work
from keyturn.ports.exchange import Caller, KeyHandle

# A venue that still honours a revoked key this long after its stated propagation has not revoked it.
_DEATH_MARGIN_SECONDS = 600.0
# And it has been asked this often: a worker that finds the intent hours later has only just revoked. With the
# pauses below, that many looks take some minutes.
_DEATH_LOOKS = 10
# The longest pause between two looks at a key that should be dead.
_DEATH_POLL_SECONDS = 60.0


async def begin(work: Work) -> Rest | None:
    """GRACE: when it has passed, journal the intent to revoke the old key (invariants 4 and 7), and do it."""
    r = work.rotation
    if r.grace_until and work.now() < r.grace_until:
        return Rest(r.grace_until, "the end of the grace period")
    if r.old_ref is None:
        await work.commit(work.event(EventType.COMPLETED, "there was no key before this one"))
        return None
    record = await _licence(work)
    if isinstance(record, Rest):
        return record
    intended = work.event(EventType.REVOKE_INTENDED, revoke_at=work.now())
    await work.commit(intended, keys=(replace(record, fate=Fate.REVOKING, recorded_at=work.now()),))
    return await _kill(work, record)


async def _licence(work: Work) -> KeyRecord | Rest:
    """Give the record that allows the revoke; park when there is none or the key is in use (invariant 2)."""
    r = work.rotation
    record = await work.world.journal.key(r.exchange, r.account, r.old_ref or "")
    if record is None or record.credential != r.credential:
        return await work.park(
            Park.NOT_OURS,
            "The journal does not own the old key, so keyturn does not revoke it.",
            f"keyturn adopt {r.credential}, or delete the key at the exchange;"
            f" then: keyturn resume {r.credential}",
        )
    current = await work.peek(Slot.CURRENT)
    if current is None or current.meta is None or current.meta.key_ref == r.old_ref:
        return await work.park(
            Park.NOT_OURS,
            "The store shows the old key as current again, or no key at all; nothing was revoked.",
            f"See who wrote to {work.path}. Then: keyturn rollback {r.credential}, or keyturn resume.",
        )
    if named := await mirrors.naming(work, r.old_ref):
        return await work.defer(backoff(r), f"The old key is still current in {', '.join(named)}.")
    if behind := await mirrors.spread(work):
        return await work.defer(backoff(r), f"Not everywhere yet: {mirrors.told(behind)}.")
    return record


async def finish(work: Work) -> Rest | None:
    """REVOKING, found on the way: revoke, if the death is not proved yet, and close."""
    if work.rotation.dead_at is None:
        record = await _licence(work)
        return record if isinstance(record, Rest) else await _kill(work, record)
    await _forget(work, await work.peek(Slot.PREVIOUS))
    return None


async def _forget(work: Work, previous: SlotInfo | None) -> None:
    """Destroy what is left of the dead key's secret, and close."""
    r = work.rotation
    if previous and previous.meta and previous.meta.key_ref == r.old_ref:
        await work.store.discard(work.path, Slot.PREVIOUS, version=previous.version)
    await mirrors.forget_previous(work, r.old_ref)
    await work.commit(work.event(EventType.COMPLETED))


async def _kill(work: Work, record: KeyRecord) -> Rest | None:
    """Revoke and prove the death; `record` is the licence, given in this very step."""
    r = work.rotation
    previous = await work.store.read(work.path, Slot.PREVIOUS)
    if previous and previous.info.meta and previous.info.meta.key_ref != r.old_ref:
        return await work.park(
            Park.NOT_OURS,
            "The journal and the store disagree about which key came before; nothing was revoked.",
            f"keyturn verify-journal, and see who wrote to {work.path}. Then: keyturn resume {r.credential}",
        )
    manager = await work.manager()
    try:
        await work.driver.revoke_key(manager, KeyHandle(r.old_ref or "", r.old_handle, r.subaccount))
    except ExchangeError as error:
        if error.fault is not ExchangeFault.OUTCOME_UNKNOWN:
            raise
        # The proof below tells whether it happened; revoking twice is harmless.
    proof = await _proof_of_death(work, manager, previous)
    if proof is None:
        return await _still_alive(work)
    dead = work.event(EventType.OLD_KEY_DEAD, dead_at=work.now(), death_proof=proof)
    await work.commit(dead, keys=(replace(record, fate=Fate.REVOKED, recorded_at=work.now()),))
    await _forget(work, previous.info if previous else None)
    return None


async def _proof_of_death(work: Work, manager: Caller, previous: Stored | None) -> str | None:
    """Sign a call with the old key: only a refusal as an invalid key proves that it is dead.

    Where that answer cannot be had (the secret is gone, or the venue answers another machine's key by
    its address first), the venue's own list must no longer show the key.
    """
    r = work.rotation
    if previous is not None:
        try:
            await work.driver.private_read(Caller(previous.material, work.entry.egress_proxy))
        except ExchangeError as error:
            if error.fault is ExchangeFault.INVALID_KEY:
                return "a call signed with it was refused as an invalid key"
            if error.fault is not ExchangeFault.WRONG_IP:
                raise
        else:
            return None
    listed = await work.list_keys(manager)
    return None if any(k.key_ref == r.old_ref for k in listed) else "the exchange no longer lists it"


async def _still_alive(work: Work) -> Rest:
    r = work.rotation
    margin = work.driver.manifest.propagation_seconds + _DEATH_MARGIN_SECONDS
    late = r.revoke_at is not None and work.now() > r.revoke_at + timedelta(seconds=margin)
    if late and r.failures >= _DEATH_LOOKS:
        return await work.park(
            Park.NO_PROOF,
            "The exchange took the revoke and still honours the old key.",
            f"Delete the key in the exchange's console, then: keyturn resume {r.credential}",
        )
    pause = min(_DEATH_POLL_SECONDS, backoff(r))
    return await work.defer(pause, "The exchange still honours the old key.")
