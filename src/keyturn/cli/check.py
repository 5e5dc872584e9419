"""`keyturn check`."""

from __future__ import annotations

from keyturn.cli import session
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out


def check(out: Out, inventory: InventoryPath = None) -> None:
    """Read the inventory and hold it to every rule; asks nobody and changes nothing."""
    from keyturn.domain.additions import open_additions
    from keyturn.exchanges.catalog import manifests

    loaded = session.load(inventory)
    counts = {
        section: len(getattr(loaded.inventory, section))
        for section in ("stores", "accounts", "credentials", "consumers", "policies")
    }
    for warning in loaded.warnings:
        out.line(f"Warning: {warning}", "yellow")
    notes = open_additions(loaded.inventory, manifests())
    for note in notes:
        out.line(f"Note: {note}", "yellow")
    out.line(f"{loaded.path} is sound: " + ", ".join(f"{name} {n}" for name, n in counts.items()) + ".")
    out.document(
        {
            "ok": True,
            "inventory": str(loaded.path),
            "counts": counts,
            "warnings": list(loaded.warnings),
            "notes": notes,
        }
    )
