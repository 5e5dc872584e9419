"""`keyturn verify-journal`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.cli import session
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out

if TYPE_CHECKING:
    from keyturn.ports.journal import ChainReport
    from keyturn.settings import LoadedInventory


def verify_journal(out: Out, inventory: InventoryPath = None) -> ExitCode:
    """Check the journal's hash chain, and that its events lead to what its tables show."""
    loaded = session.load(inventory)
    report = session.run(_verify(loaded))
    out.document({"ok": not report.breaks, "events": report.events, "breaks": list(report.breaks)})
    if not report.breaks:
        out.line(
            f"The journal is whole: every one of its events ({report.events}) follows the one before it.",
            "green",
        )
        return ExitCode.OK
    for each in report.breaks:
        out.line(f"Broken: {each}", "red")
    out.line(f"Breaks: {len(report.breaks)}, in {report.events} events. Other hands changed the journal.")
    out.line("Do: stop rotating, keep this journal as it is, and compare it with a backup.")
    return ExitCode.JOURNAL


async def _verify(loaded: LoadedInventory) -> ChainReport:
    async with session.reading_journal(loaded) as journal:
        return await journal.verify()
