"""Does this stored key still live? The one place that asks a venue with a key, and judges what it answers.

Only "there is no such key" can prove that a key is dead, and not by itself: a venue says it also of living
keys of its other sites, and a manager key of another account calls every key of ours absent. So it counts
beside a revoke that was carried out, or where this very site or account has shown the key before. What has
shown a key is kept with its record in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import KeyRecord
from keyturn.domain.slots import Stored
from keyturn.engine import place
from keyturn.engine.work import Work
from keyturn.ports.exchange import Caller


class Life(StrEnum):
    """What a signed call tells of the key that signed it."""

    #: The call worked.
    WORKS = "works"
    #: The call came from an address that the key is not bound to. Of what such a call tells of a dead key,
    #: venues say nothing: neither death nor life is proved.
    OTHER_ADDRESS = "other_address"
    #: The venue knows the key, and it lacks the right to read a balance.
    LACKS_RIGHT = "lacks_right"
    #: The venue knows the key and refuses its calls: it exists, and may be let in again.
    REFUSED = "refused"
    #: The venue says that there is no such key.
    UNKNOWN_TO_VENUE = "unknown_to_venue"
    #: The venue does not say which of the last two it means, or the stored key cannot sign a call.
    UNCLEAR = "unclear"


_TOLD_BY = {
    ExchangeFault.WRONG_IP: Life.OTHER_ADDRESS,
    ExchangeFault.MISSING_PERMISSION: Life.LACKS_RIGHT,
    ExchangeFault.KEY_REFUSED: Life.REFUSED,
    ExchangeFault.UNKNOWN_KEY: Life.UNKNOWN_TO_VENUE,
    ExchangeFault.UNCLEAR_REFUSAL: Life.UNCLEAR,
    ExchangeFault.CANNOT_SIGN: Life.UNCLEAR,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was learned of a key, and the refusal that told it."""

    life: Life
    error: ExchangeError | None = None

    @property
    def serves(self) -> bool:
        """Whether bots can use the key, as far as it can be told from here."""
        return self.life in {Life.WORKS, Life.OTHER_ADDRESS}

    @property
    def is_known(self) -> bool:
        """Whether the venue knows the key for certain."""
        return self.life in {Life.WORKS, Life.LACKS_RIGHT, Life.REFUSED}


def told_by(error: ExchangeError) -> Answer | None:
    """Judge the refusal of a key's call; None when it says nothing of the key (network, rate, clock)."""
    life = _TOLD_BY.get(error.fault)
    return None if life is None else Answer(life, error)


async def ask(work: Work, stored: Stored) -> Answer:
    """Sign a harmless call with a stored key and say what the venue's answer tells of it.

    Raises:
        ExchangeError: the venue could not be asked.
    """
    try:
        await work.driver.private_read(Caller(stored.material, work.entry.egress_proxy))
    except ExchangeError as error:
        answer = told_by(error)
        if answer is None:
            raise
        return answer
    return Answer(Life.WORKS)


async def seen(work: Work, record: KeyRecord, manager: Caller) -> KeyRecord:
    """Give the record of a key that the manager key's account has just shown, by a list or by making it."""
    by = await work.fingerprint(manager.material.key_ref)
    return replace(record, known_at=place.here(work.world, work.rotation.account), listed_by=by)


async def sighted(
    work: Work, manager: Caller, listed: Sequence[KeyFacts], key_ref: str | None
) -> tuple[KeyRecord, ...]:
    """Give the record to write when a list shows a key of ours; none when that is known already."""
    if not shows(listed, key_ref):
        return ()
    record = await work.world.journal.key(work.rotation.exchange, work.rotation.account, key_ref or "")
    after = await seen(work, record, manager) if record else None
    return () if after is None or after == record else (after,)


def shows(listed: Sequence[KeyFacts], key_ref: str | None) -> bool:
    """Tell whether a list has a key."""
    return any(facts.key_ref == key_ref for facts in listed)


async def is_from_here(work: Work, record: KeyRecord | None, manager: Caller) -> bool:
    """Tell whether the manager key's own account has shown the key, so that its list must show it."""
    return record is not None and record.listed_by == await work.fingerprint(manager.material.key_ref)


def is_of_this_site(work: Work, record: KeyRecord | None) -> bool:
    """Tell whether the site that is asked has shown that it knows the key."""
    return record is not None and record.known_at == place.here(work.world, work.rotation.account)
