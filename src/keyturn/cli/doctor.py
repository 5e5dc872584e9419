"""`keyturn doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keyturn.cli import session, shapes
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out
from keyturn.cli.writers import who_can_write

if TYPE_CHECKING:
    from keyturn.ports.store import Finding
    from keyturn.settings import LoadedInventory


def doctor(out: Out, inventory: InventoryPath = None) -> ExitCode:
    """Check accounts, clocks, key slots, stores and consumers for real, and who can write here; read-only."""
    loaded = session.load(inventory, warn=True)
    findings = [*who_can_write(loaded), *session.run(_examine(loaded))]
    bad = [finding for finding in findings if not finding.ok]
    out.document({"ok": not bad, "findings": [shapes.finding(finding) for finding in findings]})
    out.table(
        ("", "SUBJECT", "FINDING"),
        [("ok" if f.ok else "NOT OK", f.subject, _sentence(f)) for f in findings],
        ["" if f.ok else "red" for f in findings],
    )
    if bad:
        out.line(f"Not as it should be: {len(bad)} of {len(findings)}.", "red")
        return ExitCode.FINDINGS
    out.line(f"All is well: {len(findings)} checks.", "green")
    return ExitCode.OK


def _sentence(finding: Finding) -> str:
    return f"{finding.detail.rstrip('.')}. Do: {finding.todo}" if finding.todo else finding.detail


async def _examine(loaded: LoadedInventory) -> Sequence[Finding]:
    from keyturn.engine.doctor import doctor as examine

    async with session.world(loaded, reading=True) as world:
        return await examine(world)
