"""`keyturn verify-journal`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import session
from keyturn.cli.ask import UsageError
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out

if TYPE_CHECKING:
    from keyturn.ports.journal import ChainReport
    from keyturn.settings import LoadedInventory

_HASH = re.compile(r"[0-9a-f]{64}")
_DO = "Do: stop rotating, keep this journal as it is, and compare it with a backup."

Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        metavar="HASH",
        help="A hash that this command printed before: it must still be in the chain.",
        show_default=False,
    ),
]


def verify_journal(out: Out, inventory: InventoryPath = None, expect: Expect = None) -> ExitCode:
    """Check the journal's hash chain, and that its events lead to what its tables show.

    The newest hash stands for the whole journal up to there. Kept where nobody who can write the journal can,
    and given back with --expect, it shows a journal that was rewritten as a whole.
    """
    expected = _hash(expect)
    loaded = session.load(inventory)
    report = session.run(_verify(loaded, expected))
    found = expected is None or report.since is not None
    out.document(
        {
            "ok": found and not report.breaks,
            "events": report.events,
            "breaks": list(report.breaks),
            "newest": report.newest,
            "expected": expected,
            "since": report.since if expected else None,
        }
    )
    if report.breaks:
        for each in report.breaks:
            out.line(f"Broken: {each}", "red")
        out.line(f"Breaks: {len(report.breaks)}, in {report.events} events. Other hands changed the journal.")
        out.line(_DO)
        return ExitCode.JOURNAL
    if not found:
        _tell_another(out, report)
        return ExitCode.JOURNAL
    _tell_whole(out, report, expected)
    return ExitCode.OK


def _hash(given: str | None) -> str | None:
    if given is None or _HASH.fullmatch(given.strip().lower()):
        return given and given.strip().lower()
    raise UsageError(
        "What --expect was given is no hash of a journal.",
        now="Nothing was verified.",
        todo="Give the 64 letters and digits that keyturn verify-journal printed as the newest hash.",
    )


def _tell_another(out: Out, report: ChainReport) -> None:
    out.line(
        "Another journal: each event follows the one before it, and none of them"
        f" ({report.events}) has the hash that you expect.",
        "red",
    )
    out.line(
        "It was rewritten and its hashes made anew, or a copy from before that hash was put in its place, or"
        " the hash is that of another journal."
    )
    out.line(_DO)


def _tell_whole(out: Out, report: ChainReport, expected: str | None) -> None:
    out.line(
        f"The journal is whole: every one of its events ({report.events}) follows the one before it.", "green"
    )
    if expected is not None:
        out.line(f"It has the hash that you expect; events since then: {report.since}.", "green")
    out.line(f"Newest hash: {report.newest}")
    if expected is None:
        out.line(
            "Keep it where nobody who can write the journal can. Later, `keyturn verify-journal --expect`"
            " with it tells a journal that was rewritten."
        )


async def _verify(loaded: LoadedInventory, expect: str | None) -> ChainReport:
    async with session.reading_journal(loaded) as journal:
        return await journal.verify(expect=expect)
