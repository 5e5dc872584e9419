"""Asking a consumer for its proof, and saying why there is none that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import STRENGTH, Confirmation, Evidence, Notice
from keyturn.domain.rotation import Event, EventType
from keyturn.engine.work import Work
from keyturn.ports.consumer import Consumer


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a consumer's proof is missing."""

    #: Empty: it has said nothing yet.
    why: str = ""
    todo: str = ""
    #: Whether something was said that does not count; else it was silent, or could not be asked.
    spoken: bool = False


async def ask(consumer: Consumer, notice: Notice, owed: Evidence) -> Confirmation | Missing:
    """Ask a consumer for what it owes."""
    try:
        proofs = await consumer.confirmations(notice)
    except ConsumerError as error:
        return Missing(error.what, error.todo, error.fault is ConsumerFault.UNAUTHENTICATED)
    of_key = [proof for proof in proofs if proof.fingerprint == notice.fingerprint]
    for proof in of_key:
        if enough(proof, owed):
            return proof
    if of_key:
        return Missing(f"{notice.consumer}: {of_key[0].detail}.", spoken=True)
    return Missing()


def doubted(work: Work, doubt: str) -> Event:
    """Build the event that tells of something that does not count; it changes nothing."""
    return work.event(EventType.DEFERRED, doubt)


async def write_down(work: Work, doubt: str) -> None:
    """Tell in the journal of something that does not count, once in a rotation."""
    if doubt and not any(doubt in note for note in await notes(work)):
        await work.commit(doubted(work, doubt))


async def notes(work: Work) -> list[str]:
    """Give the notes of a rotation's events so far."""
    events = await work.world.journal.events(work.rotation.id)
    return [str(each.event.data.get("note", "")) for each in events]


def enough(proof: Confirmation, owed: Evidence) -> bool:
    """Tell whether a proof is of the grade that is owed, or a better one."""
    return STRENGTH[proof.evidence] >= STRENGTH[owed]


def discounted(missing: Mapping[str, Missing]) -> str:
    """Say what was said and does not count; empty when nothing was."""
    return " ".join(each.why for each in missing.values() if each.spoken)


def reasons(missing: Mapping[str, Missing]) -> str:
    """Say all that is known of why proofs are missing, with a space before it; empty when nothing is."""
    return "".join(f" {each.why}" for each in missing.values() if each.why)


def todos(missing: Mapping[str, Missing]) -> str:
    """Say what may help, each thing once, with a space before it."""
    each_once = dict.fromkeys(each.todo for each in missing.values() if each.todo)
    return "".join(f" {todo.removesuffix('.')}." for todo in each_once)
