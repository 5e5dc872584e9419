"""Calls that the exchange refuses to the new key: they hold the old key's revoke until a person decides.

A call that works proves a key, and not that it may do all that the one before it could. What consumers meet
while both keys live shows it, so they are asked before the cut-over is taken for done, at each look during
the grace, and right before the old key's revoke.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeFault
from keyturn.domain.evidence import NoticeKind, Refusal
from keyturn.domain.rotation import EventType, Park
from keyturn.engine import proofs
from keyturn.engine.commands import with_reason
from keyturn.engine.notices import notices
from keyturn.engine.work import Rest, Work
from keyturn.ports.journal import JournaledEvent

_LACKS = {
    ExchangeFault.MISSING_PERMISSION: "a right is missing",
    ExchangeFault.WRONG_IP: "its address is not allowed",
}
# A bot looks at its mailbox every second, and says anew what somebody else has written over; folders that are
# kept alike between two hosts take some seconds.
_TIME_TO_REPORT_SECONDS = 60.0
_BETWEEN = "; "
_ACCEPTED = "accepted as refused: "


@dataclass(frozen=True, slots=True)
class Told:
    """What consumers tell of the new key."""

    #: The calls that nobody has accepted as refused.
    calls: Sequence[Refusal] = ()
    #: What is wrong with reports that do not count, where the journal does not have it yet.
    doubt: str = ""
    #: What is wrong with reports that do not count, whether the journal has it or not.
    doubts: str = ""


async def hold(work: Work) -> Rest | None:
    """Park when consumers report calls that nobody has accepted as refused; None: nothing is in the way.

    A report that does not count may stand in the place of one that does: its consumer has a minute to say it
    anew. No more, or a stranger could hold every revoke.

    Raises:
        ConsumerError: a consumer cannot be asked now.
    """
    found = await _ask(work, None)
    if found.doubts and not found.calls and work.rotation.problem != found.doubts:
        return await work.defer(_TIME_TO_REPORT_SECONDS, found.doubts, found.doubt)
    return await _stop(work, found)


async def look(work: Work) -> Rest | None:
    """Park as `hold` does, in passing: whoever cannot be asked now is asked again before the revoke."""
    return await _stop(work, await _ask(work, set()))


async def told(work: Work, silent: set[str] | None = None) -> Told:
    """Give what there is to park for or to write down, as far as consumers can be asked now.

    Args:
        work: of the rotation.
        silent: consumers that are not asked; those that do not answer are added.
    """
    return await _ask(work, set() if silent is None else silent)


async def _stop(work: Work, found: Told) -> Rest | None:
    if found.calls:
        return await park(work, found.calls)
    if found.doubt:
        await work.commit(proofs.doubted(work, found.doubt))
    return None


async def _ask(work: Work, silent: set[str] | None) -> Told:
    r, consumers = work.rotation, work.consumers()
    found: list[Refusal] = []
    doubts: list[str] = []
    for name, notice in notices(work, NoticeKind.PROMOTED, r.confirm_by or work.now()).items():
        if silent is not None and name in silent:
            continue
        try:
            found += [each for each in await consumers[name].refusals(notice) if _is_about(each, name, work)]
        except ConsumerError as error:
            # One that answers, and does not take the question, has nothing to tell.
            if error.fault is ConsumerFault.REFUSED:
                continue
            # Or a stranger could park every rotation, and hold every revoke.
            if error.fault is ConsumerFault.UNAUTHENTICATED:
                doubts.append(error.what)
                continue
            if silent is None:
                raise
            silent.add(name)
    if not found and not doubts:
        return Told()
    notes = await proofs.notes(work)
    accepted = _accepted(notes)
    calls = [each for each in found if _line(each) not in accepted]
    news = " ".join(doubt for doubt in doubts if not any(doubt in note for note in notes))
    return Told(calls, news, " ".join(doubts))


async def park(work: Work, refused: Sequence[Refusal]) -> Rest:
    """Stop for a person: the old key may be all that can do what the consumers do."""
    r = work.rotation
    calls = _BETWEEN.join(f"{each.consumer}: {each.call} ({_LACKS[each.fault]})" for each in refused)
    text = f"The exchange refuses calls to the new key: {calls}. Both keys live and nothing is revoked."
    todo = (
        "Give the new key the right or the address at the exchange and in the inventory, or accept the loss."
        f" Then: keyturn resume {r.credential}. Or go back: {with_reason('rollback', r.credential)}"
    )
    lines = _BETWEEN.join(map(_line, refused))
    await work.commit(
        work.event(
            EventType.PARKED,
            lines,
            parked=Park.REFUSED_CALLS,
            parked_why=text,
            parked_todo=todo,
            wake_at=None,
        )
    )
    return Rest(None, text)


def _is_about(refusal: Refusal, consumer: str, work: Work) -> bool:
    r = work.rotation
    given = (refusal.consumer, refusal.rotation_id, refusal.fingerprint)
    return given == (consumer, r.id, r.new_fingerprint) and _BETWEEN not in refusal.call


def _line(refusal: Refusal) -> str:
    """Name a refusal in the journal; the same call and fault of a consumer have one name."""
    return f"{refusal.consumer}: {refusal.call}: {refusal.fault}"


async def acceptance(work: Work) -> str:
    """Say what a person accepts who resumes the rotation now: what it has named, not what came since."""
    parked = [e.event for e in await _events(work) if e.event.type is EventType.PARKED]
    return _ACCEPTED + str(parked[-1].data.get("note", ""))


def _accepted(notes: Sequence[str]) -> set[str]:
    """Give what persons have accepted so far, from the notes of the journal's events."""
    return {
        line
        for note in notes
        if note.startswith(_ACCEPTED)
        for line in note.removeprefix(_ACCEPTED).split(_BETWEEN)
    }


async def _events(work: Work) -> Sequence[JournaledEvent]:
    return await work.world.journal.events(work.rotation.id)
