"""A process that works on a journal: `worker.py opener|committer`, with its URL in `JOURNAL_URL`."""

import asyncio
import os
import sys

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.rotation import EventType, Rotation
from keyturn.journal import SqlJournal
from keyturn.ports.journal import Journal
from keyturn.testing.journal_cases import opened, step


def say(*words: object) -> None:
    # One write, unbuffered: what was said before a SIGKILL has been said.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def keep_committing(journal: Journal, number: int) -> None:
    rotation = await opened(journal, f"credential-{os.getpid()}-{number}")
    say(rotation.id, rotation.seq)
    while True:
        rotation = await step(journal, rotation, EventType.DEFERRED, failures=rotation.seq)
        say(rotation.id, rotation.seq)


async def race(journal: Journal, rotation: Rotation) -> int:
    try:
        await step(journal, rotation, EventType.ATTEMPT_CLAIMED, attempt=1)
    except JournalError as problem:
        if problem.fault is not JournalFault.CONFLICT:
            raise
        return 0
    return 1


async def claim_all(journal: Journal) -> None:
    """Open every credential and claim every rotation, as another process does at the same time."""
    for number in range(30):
        try:
            await opened(journal, f"credential-{number}")
        except JournalError as problem:
            if problem.fault is not JournalFault.CONFLICT:
                raise
    rotations = [rotation for rotation in await journal.latest() if rotation.seq == 1]
    say("won", sum(await asyncio.gather(*(race(journal, rotation) for rotation in rotations))))


async def main() -> None:
    journal = await SqlJournal.open_url(os.environ["JOURNAL_URL"])
    if sys.argv[1] == "committer":
        await asyncio.gather(*(keep_committing(journal, number) for number in range(50)))
    else:
        await claim_all(journal)
    await journal.close()


asyncio.run(main())
