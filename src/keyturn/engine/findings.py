"""What the sweeps found when they compared the books: in the journal, so that who only looks asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from keyturn.domain.comparison import Discrepancy, Findings
from keyturn.domain.rotation import KeyRecord
from keyturn.engine import books
from keyturn.engine.world import World

# How often a sweep compares: a manager key's list for each place and a look at each slot are cheap, and not
# so cheap that they are asked every few minutes.
_EVERY = timedelta(hours=1)


async def compare_if_due(world: World) -> bool:
    """Compare, and write down what was found, when the last comparison is an hour old; tell whether it was.

    Raises:
        JournalError: the journal fails.
    """
    last, now = await world.journal.findings(), world.clock.now()
    if last is not None and timedelta(0) <= now - last.at < _EVERY:
        return False
    found = (await books.compare(world)).differences
    await world.journal.record_findings(Findings(world.clock.now(), world.actor, tuple(found)))
    return True


class FindingsReader(Protocol):
    """What `standing` asks of a journal."""

    async def findings(self) -> Findings | None:
        """Give what the last comparison found."""
        ...

    async def keys(self, credential: str) -> Sequence[KeyRecord]:
        """Give every key of a credential, oldest first."""
        ...


async def standing(journal: FindingsReader) -> list[Discrepancy]:
    """Give what the last comparison found, less what was written of those keys since.

    Raises:
        JournalError: the journal fails.
    """
    last = await journal.findings()
    if last is None:
        return []
    found = []
    for each in last.differences:
        changed = {k.key_id for k in await journal.keys(each.credential) if k.recorded_at > last.at}
        if each.key_id not in changed:
            found.append(each)
    return found
