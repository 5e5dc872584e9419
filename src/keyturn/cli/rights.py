"""What a key may do, from a person: asked for on a terminal, taken from options elsewhere."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from keyturn.cli import ask
from keyturn.domain.additions import addition
from keyturn.domain.errors import InventoryError, RefusedError
from keyturn.domain.keys import TRADING, Permission

if TYPE_CHECKING:
    from keyturn.domain.inventory import CredentialEntry
    from keyturn.domain.keys import KeyFacts
    from keyturn.domain.manifest import DriverManifest
    from keyturn.settings import LoadedInventory

# Nobody's key is given these because a key that was found has them.
_NEVER_WRITTEN = frozenset({Permission.WITHDRAW, Permission.MANAGE_KEYS})


def usual(manifest: DriverManifest) -> tuple[str, ...]:
    """Give what most bots need at a venue: to look, and its first kind of trading."""
    trading = [str(p) for p in manifest.permissions if p in TRADING]
    return (str(Permission.READ), *trading[:1])


def permissions_for(
    context: typer.Context, manifest: DriverManifest, given: Sequence[str]
) -> tuple[str, ...]:
    """Settle what a new key may do.

    Raises:
        UsageError: the venue has no such right, or nobody said any and nobody can be asked.
    """
    known = sorted(set(manifest.permissions) - _NEVER_WRITTEN)
    if not given and not ask.on_a_terminal():
        words = [word for right in usual(manifest) for word in ("--permission", right)]
        raise ask.UsageError(
            "Nobody said what the bot's key may do, and there is no terminal to ask on.",
            now="Nothing was written.",
            todo=f"For what most bots need: {ask.again(context, *words)} (others are: {', '.join(known)})",
        )
    if not given:
        shown = " ".join(usual(manifest))
        typer.echo(f"What may the bot's key do? Some of: {' '.join(known)}", err=True)
        typer.echo(f"Nothing for {shown}. Rights: ", err=True, nl=False)
        given = input().replace(",", " ").split()
    if unknown := set(given) - set(manifest.permissions):
        raise ask.UsageError(
            f"{manifest.name} grants no such right: {len(unknown)} of those that were named.",
            now="Nothing was written.",
            todo=f"Write some of: {', '.join(known)}",
        )
    return tuple(dict.fromkeys(given)) or usual(manifest)


def accepted_for(
    manifest: DriverManifest, permissions: Sequence[str], given: Sequence[str]
) -> tuple[str, ...]:
    """Settle which rights that the venue adds by itself the key may have.

    Raises:
        UsageError: the venue adds no such right.
    """
    known = [each.right for each in manifest.adds]
    if set(given) - set(known):
        raise ask.UsageError(
            f"{manifest.name} adds no such right by itself.",
            now="Nothing was written.",
            todo=f"Write some of: {', '.join(known)}" if known else "Leave --accept out.",
        )
    accepted = list(given)
    if ask.on_a_terminal():
        grants = manifest.grants_for(frozenset(map(Permission, permissions)))
        accepted += [
            added.right
            for added in manifest.unaccepted(grants, frozenset(given))
            if ask.agrees(f"{addition(manifest, added)} May the key have it?")
        ]
    return tuple(accepted)


def as_living(manifest: DriverManifest, entry: CredentialEntry, facts: KeyFacts) -> CredentialEntry:
    """Give the entry that declares what a living key may do; the right to withdraw is never taken over."""
    found = facts.permissions - _NEVER_WRITTEN - manifest.unsupported(facts.permissions)
    added = {each.right for each in manifest.adds if not each.opens} & facts.grants
    fields: dict[str, object] = {
        "permissions": found or entry.permissions,
        "accepts": entry.accepts | added,
    }
    if facts.ip_allowlist:
        fields |= {"ip_allowlist": facts.ip_allowlist, "no_ip_allowlist_reason": None}
    return entry.model_copy(update=fields)


def written(loaded: LoadedInventory, name: str, facts: KeyFacts, *, write: bool) -> bool:
    """Write a living key's rights and addresses into its entry, if a person says so; tell whether it was.

    Args:
        loaded: the inventory.
        name: of the credential.
        facts: what the exchange says of the key.
        write: said by an option; on a terminal it is asked.

    Raises:
        InventoryError: a rule forbids what the key may do.
        RefusedError: only a person can change the file safely.
    """
    from keyturn.cli.rehouse import change, told_rights, with_entry
    from keyturn.client.files import write_atomic
    from keyturn.exchanges.catalog import manifests

    entry = loaded.inventory.credentials[name]
    manifest = manifests()[loaded.inventory.accounts[entry.account].exchange]
    living = as_living(manifest, entry, facts)
    if living == entry:
        return False
    lines = "; ".join(told_rights(living))
    if not write and not (
        ask.on_a_terminal() and ask.agrees(f"Write what it may do into the entry of {name} ({lines})?")
    ):
        return False
    after = with_entry(loaded.inventory, name, living)
    stored = f"The key of {name} is in the store; the inventory was not changed."
    try:
        text = loaded.path.read_text(encoding="utf-8-sig")
        changed = change(
            text, name, loaded.inventory, after, manifests(), loaded.real_path, shown=told_rights
        )
    except RefusedError as error:
        raise RefusedError(error.what, now=stored, todo=error.todo) from None
    except InventoryError as error:
        raise InventoryError(
            f"What the living key may do cannot be declared for {name}:",
            problems=error.problems,
            now=stored,
            todo="Declare what the bot needs by hand, and see what is lost with: keyturn plan " + name,
        ) from None
    target = loaded.path.resolve()
    write_atomic(target, changed.text.encode(), stat.S_IMODE(target.stat().st_mode))
    return True
