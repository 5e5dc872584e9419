"""`keyturn init`: a folder from which one can go on. Overwrites nothing; leaves nothing when it fails."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import ask, session
from keyturn.cli.output import Out
from keyturn.domain.errors import InventoryError, RefusedError

if TYPE_CHECKING:
    from keyturn.cli.template import Choices
    from keyturn.domain.manifest import DriverManifest
    from keyturn.settings import LoadedInventory


def init(
    out: Out,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.")] = Path(),
    exchange: Annotated[
        str | None, typer.Option("--exchange", help="The venue of the first account.", show_default=False)
    ] = None,
    account: Annotated[str, typer.Option("--account-name", help="What to call the account.")] = "main",
    credential: Annotated[str, typer.Option("--credential", help="What to call the first key.")] = "bot",
    subaccount: Annotated[
        str | None,
        typer.Option("--subaccount", help="Owner of the key, in the venue's form.", show_default=False),
    ] = None,
    ip: Annotated[
        list[str] | None,
        typer.Option("--ip", help="Address of the bot's machine; may be repeated.", show_default=False),
    ] = None,
    testnet: Annotated[
        bool, typer.Option("--testnet", help="The account is at the venue's sandbox.")
    ] = False,
) -> None:
    """Begin: an inventory to edit, an age identity, an empty journal."""
    choices = _choices(exchange, account, credential, subaccount, tuple(ip or ()), testnet=testnet)
    folder = folder.absolute()
    loaded, text = _sound(folder, choices)
    recipient = _write(folder, loaded, text)
    from keyturn.cli.template import DATA, IDENTITY

    files = ["keyturn.yaml", IDENTITY, f"{DATA}/journal.db", f"{DATA}/.gitignore"]
    steps = _next(folder, choices)
    out.document({"folder": str(folder), "files": files, "age_recipient": recipient, "next": steps})
    out.line(f"Made in {folder}: {', '.join(files)}", "green")
    out.line(f"Back up {IDENTITY}: whoever has it reads the store, and without it nobody does.", "yellow")
    out.line("Next:")
    for step in steps:
        out.line(f"  {step}")


def _choices(
    exchange: str | None,
    account: str,
    credential: str,
    subaccount: str | None,
    addresses: tuple[str, ...],
    *,
    testnet: bool,
) -> Choices:
    from keyturn.cli.template import ROTATE_DAYS, Choices
    from keyturn.domain.inventory import NAME_PATTERN
    from keyturn.exchanges.catalog import manifests

    for option, name in (("--account-name", account), ("--credential", credential)):
        if not re.fullmatch(NAME_PATTERN, name):
            raise ask.UsageError(
                f"{option} is not a name that keyturn takes.",
                now="Nothing was written.",
                todo="Write lower-case letters, digits, `.`, `_` and `-`, 63 at most.",
            )
    if exchange is not None and exchange not in manifests():
        raise ask.UsageError(
            "There is no such exchange.",
            now="Nothing was written.",
            todo=f"Write one of: {', '.join(manifests())}",
        )
    manifest = manifests()[exchange] if exchange else None
    if manifest and not addresses and (manifest.expiry_days_without_ip or ROTATE_DAYS) < ROTATE_DAYS:
        raise ask.UsageError(
            f"{manifest.name} ends a key without addresses after {manifest.expiry_days_without_ip} days.",
            now="Nothing was written.",
            todo="Say the address of the bot's machine: --ip 203.0.113.7",
        )
    if manifest and manifest.subaccount == "required" and not subaccount:
        subaccount = _ask_subaccount(manifest)
    return Choices(manifest, account, credential, subaccount, addresses, testnet)


def _ask_subaccount(manifest: DriverManifest) -> str:
    if ask.on_a_terminal():
        typer.echo(f"{manifest.name} mints keys for sub-accounts; the one of your bot: ", err=True, nl=False)
        if given := input().strip():
            return given
    raise ask.UsageError(
        f"{manifest.name} mints keys for sub-accounts only.",
        now="Nothing was written.",
        todo="Say which: --subaccount, in the form that the venue shows.",
    )


def _sound(folder: Path, choices: Choices) -> tuple[LoadedInventory, str]:
    """Write the inventory in memory, and hold it to the rules before anything is made."""
    from keyturn.cli.template import render
    from keyturn.domain.inventory_text import parse_inventory
    from keyturn.exchanges.catalog import manifests
    from keyturn.settings import DEFAULT_NAME, LoadedInventory

    text = render(choices)
    try:
        parsed = parse_inventory(text, DEFAULT_NAME, manifests=manifests())
    except InventoryError as error:
        raise InventoryError(
            "These options do not make a sound inventory:",
            problems=error.problems,
            now="Nothing was written.",
            todo="Change the options.",
        ) from None
    return LoadedInventory(parsed.inventory, parsed.warnings, folder / DEFAULT_NAME), text


def _write(folder: Path, loaded: LoadedInventory, text: str) -> str:
    """Make the files; give the public key of the age identity.

    Raises:
        RefusedError: something is there already.
        UsageError: the folder cannot be written.
    """
    from keyturn.cli.template import DATA, IDENTITY, RUNTIME
    from keyturn.stores.keys import generate_identity

    for path in (loaded.path, folder / DATA, folder / RUNTIME):
        if os.path.lexists(path):
            raise RefusedError(
                f"{path} is there already; init overwrites nothing.",
                now="Nothing was changed.",
                todo="Go on with what is there (keyturn check), or choose another folder.",
            )
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DATA, RUNTIME):
            (folder / name).mkdir(mode=0o700)
            made.append(folder / name)
            (folder / name / ".gitignore").write_text("# Nothing in here belongs in a repository.\n*\n")
        recipient = generate_identity(folder / IDENTITY)
        (folder / DATA / "store").mkdir(mode=0o700)
        session.run(_make_journal(loaded))
        with loaded.path.open("x", encoding="utf-8") as file:
            file.write(text)
    except BaseException as error:
        for each in made:
            # Made a moment ago by this very call: the identity in it has encrypted nothing yet.
            shutil.rmtree(each, ignore_errors=True)
        if isinstance(error, OSError):
            raise ask.UsageError(
                f"{folder} cannot be written: {error.strerror}.",
                now="Nothing was left there.",
                todo="Make room, or choose another folder.",
            ) from None
        raise
    return recipient


async def _make_journal(loaded: LoadedInventory) -> None:
    from keyturn.wiring import open_journal

    async with open_journal(loaded) as journal:
        await journal.salt()


def _next(folder: Path, choices: Choices) -> list[str]:
    steps = [f"cd {folder}"] if folder != Path.cwd() else []
    if choices.manifest is None:
        return [*steps, "edit keyturn.yaml: an account, a credential", "keyturn check"]
    return [
        *steps,
        f"keyturn put --manager {choices.account}   # may manage keys: {choices.manifest.console_url}",
        f"keyturn put {choices.credential}   # the bot's present key, if it has one",
        "keyturn doctor",
        f"keyturn plan {choices.credential}",
        f'keyturn rotate {choices.credential} --reason "first rotation"   # or: keyturn up',
    ]
