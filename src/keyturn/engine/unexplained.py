"""Answers to a change that no table explains: how often the exchange is asked again before a person is.

Such an answer leaves the outcome open, always: between two rounds the engine looks what is true. But what an
exchange answers each time, waiting does not mend.
"""

from __future__ import annotations

from keyturn.domain.errors import ExchangeError
from keyturn.domain.rotation import BEFORE_PIVOT, EventType, Park
from keyturn.engine.commands import with_reason
from keyturn.engine.work import Rest, Work

#: Begins the note of each event that tells of such an answer.
MARK = "unexplained answer"
#: With the pauses of the backoff that is about four minutes: longer than an exchange that is being restarted
#: answers oddly, and few enough that nobody takes the calls for an attack.
ROUNDS = 8
# What a person said since counts as a new beginning.
_A_PERSONS_WORD = frozenset({EventType.RESUMED, EventType.ABORT_REQUESTED, EventType.ROLLBACK_REQUESTED})


def note(error: ExchangeError) -> str:
    """Give the note of the event that tells of an answer; for the others it is the error's own text."""
    return f"{MARK}: {error.what}" if error.unexplained else error.what


async def told(work: Work) -> list[str]:
    """Give what such answers said since a person last had a word, oldest first.

    Raises:
        JournalError: it cannot be read.
    """
    answers: list[str] = []
    for event in [each.event for each in await work.world.journal.events(work.rotation.id)]:
        if event.type in _A_PERSONS_WORD:
            answers.clear()
        elif (text := str(event.data.get("note", ""))).startswith(f"{MARK}: "):
            answers.append(text.removeprefix(f"{MARK}: "))
    return answers


def is_enough(answers: list[str]) -> bool:
    """Tell whether the exchange was asked so often that a person is asked now."""
    return len(answers) >= ROUNDS


async def park(work: Work, answers: list[str]) -> Rest:
    """Stop for a person, who is told the call, the code, and how the key can be found."""
    r = work.rotation
    label = r.current_attempt.label(work.driver.manifest.label.separator)
    undo = f", or undo it: {with_reason('abort', r.credential)}" if r.effective_state in BEFORE_PIVOT else ""
    return await work.park(
        Park.UNEXPLAINED,
        f"{answers[-1]} That was answer {len(answers)} of this kind, and whether the call was done is open.",
        f"Look the code up in the documentation of {work.driver.manifest.name}, and at"
        f" {work.driver.manifest.console_url} what became of the key {label}. Then go on:"
        f" keyturn resume {r.credential}{undo}",
    )
