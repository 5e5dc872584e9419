"""`keyturn put`: takes in a key that a person has. Never by arguments or the environment."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import ask, rights, session, shapes
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out
from keyturn.domain.difference import ANY_ADDRESS
from keyturn.domain.keys import Permission
from keyturn.domain.material import SecretMaterial

if TYPE_CHECKING:
    from keyturn.domain.keys import KeyFacts
    from keyturn.domain.manifest import DriverManifest
    from keyturn.engine.adopt import TakenIn
    from keyturn.settings import LoadedInventory

# A private key in PEM is 3 KB; more than this is a wrong file.
_MOST_CHARACTERS = 64_000


def put(
    out: Out,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The credential that it is for.", show_default=False),
    ] = None,
    manager: Annotated[
        str | None,
        typer.Option(
            "--manager", metavar="ACCOUNT", help="It is this account's manager key.", show_default=False
        ),
    ] = None,
    write_rights: Annotated[
        bool,
        typer.Option(
            "--write-rights", help="Write what the bot's key may do, and from where, into the inventory."
        ),
    ] = False,
    may_withdraw: Annotated[
        bool, typer.Option("--may-withdraw", help="Take a manager key that may withdraw all the same.")
    ] = False,
    inventory: InventoryPath = None,
) -> None:
    """Put a key that you have into the store, after asking the exchange about it.

    A terminal is prompted for it, hidden. Otherwise stdin holds a JSON object with api_key, secret and,
    where the exchange has one, passphrase; or the same on a line each.
    """
    if (name is None) == (manager is None):
        raise ask.UsageError(
            "Say what the key is for: one credential, or one account's manager key.",
            now="Nothing was read.",
            todo="keyturn put NAME, or keyturn put --manager ACCOUNT",
        )
    loaded = session.load(inventory, warn=True)
    account = manager or _account_of(loaded, str(name))
    _known_account(loaded, account)
    material = _read(_manifest(loaded, account))
    taken = session.run(_put(loaded, name, account, material, may_withdraw=may_withdraw))
    written = False
    if name and taken.facts:
        written = rights.written(loaded, name, taken.facts, write=write_rights)
    if written:
        loaded = session.load(inventory)
    warnings = _warnings(loaded, name, account, taken)
    out.document({**_document(name, manager, taken, warnings), "inventory_written": written})
    _tell(out, name, account, taken, warnings)
    if written:
        out.line(f"Its rights and addresses are declared in {loaded.path.name} now.", "green")


def _account_of(loaded: LoadedInventory, name: str) -> str:
    session.known_credential(loaded, name)
    return loaded.inventory.credentials[name].account


def _known_account(loaded: LoadedInventory, account: str) -> None:
    from keyturn.cli.names import known_name

    accounts = loaded.inventory.accounts
    todo = f"The accounts are: {', '.join(sorted(accounts)) or 'none'}."
    known_name(loaded, "account", account, accounts, todo, now="Nothing was read or changed.")


def _manifest(loaded: LoadedInventory, account: str) -> DriverManifest:
    from keyturn.exchanges.catalog import manifests

    return manifests()[loaded.inventory.accounts[account].exchange]


async def _put(
    loaded: LoadedInventory, name: str | None, account: str, material: SecretMaterial, *, may_withdraw: bool
) -> TakenIn:
    from keyturn.engine.adopt import put_credential, put_manager

    async with session.world(loaded) as world:
        if name is None:
            return await put_manager(world, account, material, may_withdraw=may_withdraw)
        return await put_credential(world, name, material)


def _read(manifest: DriverManifest) -> SecretMaterial:
    """Read the key from the person or the pipe.

    Raises:
        UsageError: something is missing or is not a key; no text quotes what was read.
    """
    names = ["api_key", "secret", *(["passphrase"] if manifest.needs_passphrase else [])]
    # Whoever types is prompted, wherever stderr goes: what is typed must not show.
    values = _prompt(manifest, names) if sys.stdin.isatty() else _parse(names)
    values = {} if values is None else {field: text.strip() for field, text in values.items()}
    for field in names:
        text = values.get(field, "")
        # A private key in PEM has lines; nothing else that an exchange gives out has a gap.
        if not text or not text.isascii() or (len(text.split()) > 1 and not text.startswith("-----BEGIN ")):
            wrong = (
                "is missing" if not text else "is not what an exchange gives out (a space, a line, an accent)"
            )
            raise _unusable(f"The field {field} {wrong}.", names)
    if stray := sorted(values.keys() - set(names)):
        # The names come from outside and could be values in the wrong place: they are counted, not shown.
        raise _unusable(f"{len(stray)} more values than {manifest.name} has.", names)
    return SecretMaterial.of(values)


def _unusable(what: str, names: list[str]) -> ask.UsageError:
    return ask.UsageError(
        what,
        now="Nothing was stored, and the exchange was not asked.",
        todo=f"Give {', '.join(names)}: as a JSON object, or on a line each in this order.",
    )


def _prompt(manifest: DriverManifest, names: list[str]) -> dict[str, str]:
    from getpass import getpass

    # getpass writes its prompt to the terminal, not to stdout.
    return {field: getpass(f"{manifest.name} {field.replace('_', ' ')} (hidden): ") for field in names}


def _parse(names: list[str]) -> dict[str, str] | None:
    """Read the pipe; None when it holds neither form.

    A frame that raises nothing: an error about the text would carry the text.
    """
    try:
        text = sys.stdin.read(_MOST_CHARACTERS)
        if not text.lstrip().startswith("{"):
            lines = [line for line in text.splitlines() if line.strip()]
            return dict(zip([*names, *map(str, range(len(lines)))], lines, strict=False))
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if all(isinstance(value, str) for value in values.values()) else None


def _warnings(loaded: LoadedInventory, name: str | None, account: str, taken: TakenIn) -> list[str]:
    """Say where the key is not what the inventory, or its purpose, asks for."""
    facts = taken.facts
    unseen = [taken.unseen] if taken.unseen else []
    if facts is None:
        return ["The exchange refused this machine's address: what the key may do is not known.", *unseen]
    if name is None:
        return _manager_warnings(_manifest(loaded, account), facts)
    entry = loaded.inventory.credentials[name]
    more, less = facts.permissions - entry.permissions, entry.permissions - facts.permissions
    parks = "a rotation parks before it takes that away"
    warnings = [f"It can {_listed(more)}, which is not declared; {parks}."] if more else []
    warnings += [f"It cannot {_listed(less)}, which is declared; the next key can."] if less else []
    if facts.ip_allowlist is not None and facts.ip_allowlist != entry.ip_allowlist:
        warnings.append(f"Its addresses are not those that are declared; {parks}.")
    if warnings:
        warnings.append(
            f"To see what differs: keyturn plan {name}. To declare it: put it with --write-rights."
        )
    return warnings + unseen


def _manager_warnings(manifest: DriverManifest, facts: KeyFacts) -> list[str]:
    words, warnings = ", ".join(manifest.manager_needs()), []
    if not facts.permissions & {*manifest.manager_any_of}:
        warnings.append(f"It may not manage keys: give it one of {words}.")
    if more := manifest.manager_excess(facts):
        listed = ", ".join(more)
        warnings.append(f"It may also {listed}. Take that right away: it needs only one of {words}.")
    if facts.ip_allowlist is not None and not facts.ip_allowlist:
        warnings.append("It is not bound to addresses: whoever steals it could mint keys from anywhere.")
    return warnings


def _listed(permissions: frozenset[Permission]) -> str:
    return ", ".join(sorted(permissions))


def _document(name: str | None, manager: str | None, taken: TakenIn, warnings: list[str]) -> dict[str, Any]:
    facts, meta = taken.facts, taken.info.meta
    return {
        "credential": name,
        "manager_of": manager,
        "fingerprint": meta.fingerprint if meta else None,
        "adopted": name is not None,
        "permissions": sorted(facts.permissions) if facts else None,
        "ip_allowlist": sorted(facts.ip_allowlist) if facts and facts.ip_allowlist is not None else None,
        "expires_at": shapes.when(facts.expires_at) if facts else None,
        "warnings": warnings,
    }


def _tell(out: Out, name: str | None, account: str, taken: TakenIn, warnings: list[str]) -> None:
    facts, meta = taken.facts, taken.info.meta
    what = f"The key of {name}" if name else f"The manager key of {account}"
    out.line(f"{what} is in the store: {meta.fingerprint if meta else '-'}", "green")
    if facts:
        out.line(f"It may: {_listed(facts.permissions) or 'nothing that keyturn has a word for'}")
        if facts.ip_allowlist is not None:
            out.line(f"It works from: {', '.join(sorted(facts.ip_allowlist)) or ANY_ADDRESS}")
        if facts.expires_at is not None:
            out.line(f"The exchange ends it on {facts.expires_at:%Y-%m-%d}.", "yellow")
    for warning in warnings:
        out.line(f"Warning: {warning}", "yellow")
    out.line("Next: keyturn doctor" if name is None else f"Next: keyturn plan {name}")
