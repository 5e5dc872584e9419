"""`keyturn rollback`, `keyturn abort`, `keyturn resume`: what a person decides about an open rotation."""

from __future__ import annotations

from keyturn.cli import ask, follow, session
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import Credential, InventoryPath, NoWait, Reason, Yes
from keyturn.cli.output import Out


def rollback(
    out: Out,
    name: Credential,
    reason: Reason,
    no_wait: NoWait = False,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> ExitCode:
    """Make the old key current again, while it lives: after the promotion, before its revoke."""
    loaded = session.load(inventory, warn=True)
    why = ask.reason(reason)
    ask.confirm(f"Roll {name} back? Its consumers move again, and the new key is revoked.", yes=yes)
    return follow.conduct(
        out, loaded, lambda engine: engine.rollback(name, why), wait=not no_wait, undoing=True
    )


def abort(
    out: Out, name: Credential, reason: Reason, no_wait: NoWait = False, inventory: InventoryPath = None
) -> ExitCode:
    """Undo a rotation that has not been promoted yet: the new key is revoked, the old one stays."""
    loaded = session.load(inventory, warn=True)
    why = ask.reason(reason)
    return follow.conduct(out, loaded, lambda engine: engine.abort(name, why), wait=not no_wait, undoing=True)


def resume(out: Out, name: Credential, no_wait: NoWait = False, inventory: InventoryPath = None) -> ExitCode:
    """Let a parked rotation go on, once what it asked for is done."""
    loaded = session.load(inventory, warn=True)
    return follow.conduct(out, loaded, lambda engine: engine.resume(name), wait=not no_wait)
