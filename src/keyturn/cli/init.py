"""`keyturn init`: a folder from which one can go on. Overwrites nothing; leaves nothing when it fails."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import ask, rights, session
from keyturn.cli.output import Out
from keyturn.domain.errors import InventoryError, RefusedError
from keyturn.domain.urls import BASE, url_fault
from keyturn.files import make_folder, write_new

if TYPE_CHECKING:
    from keyturn.cli.template import Choices, StoreKind
    from keyturn.domain.manifest import DriverManifest
    from keyturn.settings import LoadedInventory

# What bots of other users may read, and nobody else may change, whatever the umask allows.
_SHARED_FOLDER, _SHARED_FILE = 0o755, 0o644
# As AWS writes them: eu-central-1, us-gov-west-1.
_REGION = r"[a-z]{2}(-[a-z]+)+-\d"


PERMISSION = typer.Option(
    "--permission", help="What the bot's key may do, such as read; may be repeated.", show_default=False
)
ACCEPT = typer.Option(
    "--accept",
    help="A right that the venue adds by itself and the key may have; may be repeated.",
    show_default=False,
)


def init(
    out: Out,
    context: typer.Context,
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
    permission: Annotated[list[str] | None, PERMISSION] = None,
    accept: Annotated[list[str] | None, ACCEPT] = None,
    testnet: Annotated[
        bool, typer.Option("--testnet", help="The account is at the venue's sandbox.")
    ] = False,
    store: Annotated[
        str, typer.Option("--store", help="Where keys are kept: age (files on this machine), vault, aws.")
    ] = "age",
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="The Vault server (default: VAULT_ADDR), or another endpoint of AWS.",
            show_default=False,
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--place",
            help="The KV mount in Vault (default: secret), or the AWS region (default: AWS_REGION).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Begin: an inventory to edit, a place for keys, an empty journal."""
    kept = _store(store, server, place)
    choices = _choices(exchange, account, credential, subaccount, tuple(ip or ()), testnet=testnet)
    choices = replace(choices, **kept, **_rights(context, choices, permission or (), accept or ()))
    folder = folder.absolute()
    loaded, text = _sound(folder, choices)
    recipient = _write(folder, loaded, text, choices.store)
    _tell(out, folder, choices, recipient, loaded)


def _tell(out: Out, folder: Path, choices: Choices, recipient: str | None, loaded: LoadedInventory) -> None:
    """Say what was made, what the venue may add, and what comes next."""
    from keyturn.cli.template import DATA, IDENTITY
    from keyturn.domain.additions import open_additions
    from keyturn.exchanges.catalog import manifests

    notes = open_additions(loaded.inventory, manifests())
    identity = [IDENTITY] if recipient else []
    files = ["keyturn.yaml", *identity, f"{DATA}/journal.db", f"{DATA}/.gitignore"]
    steps = _next(folder, choices)
    document = {"folder": str(folder), "files": files, "age_recipient": recipient}
    out.document({**document, "notes": notes, "next": steps})
    out.line(f"Made in {folder}: {', '.join(files)}", "green")
    for note in notes:
        out.line(f"Note: {note}", "yellow")
    if recipient:
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


def _rights(
    context: typer.Context, choices: Choices, permission: Sequence[str], accept: Sequence[str]
) -> dict[str, Any]:
    """Settle what the first key may do, and which rights of the venue's own it may have."""
    if choices.manifest is None:
        if permission or accept:
            raise ask.UsageError(
                "What a key may do is said of a key at an exchange, and none is named.",
                now="Nothing was written.",
                todo="Name it: --exchange",
            )
        return {}
    permissions = rights.permissions_for(context, choices.manifest, permission)
    return {
        "permissions": permissions,
        "accepts": rights.accepted_for(choices.manifest, permissions, accept),
    }


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


def _store(kind: str, server: str | None, place: str | None) -> dict[str, Any]:
    """Settle where keys are kept, with what the environment knows of it."""
    from keyturn.cli.template import STORE_NAMES

    if kind not in STORE_NAMES:
        raise ask.UsageError(
            "There is no such store.",
            now="Nothing was written.",
            todo=f"Write one of: {', '.join(STORE_NAMES)}",
        )
    if kind == "age" and (server or place):
        raise ask.UsageError(
            "Age files are on this machine: they have no server and no place of that kind.",
            now="Nothing was written.",
            todo="Leave --server and --place out, or say --store vault or --store aws.",
        )
    named = "--server" if server else "The variable VAULT_ADDR"
    if kind == "vault":
        server = server or os.environ.get("VAULT_ADDR")
    if server and (fault := url_fault(server, BASE)) is not None:
        raise ask.UsageError(
            f"{named} names {fault.wrong}.",
            now="Nothing was written.",
            todo=f"In its place {fault.write}.",
        )
    if kind == "aws":
        place = place or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not place or not re.fullmatch(_REGION, place):
            raise ask.UsageError(
                "The region of AWS is not known." if not place else "That is not a region of AWS.",
                now="Nothing was written.",
                todo="Say it: --place eu-central-1, or set AWS_REGION.",
            )
    return {"store": kind, "server": server, "place": place}


def _write(folder: Path, loaded: LoadedInventory, text: str, kind: StoreKind) -> str | None:
    """Make the files; give the public key of the age identity, where there is one.

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
        make_folder(folder, _SHARED_FOLDER)
        for name in (DATA, RUNTIME):
            (folder / name).mkdir(mode=0o700)
            made.append(folder / name)
            write_new(folder / name / ".gitignore", b"# Nothing in here belongs in a repository.\n*\n")
        recipient = None
        if kind == "age":
            recipient = generate_identity(folder / IDENTITY)
            (folder / DATA / "store").mkdir(mode=0o700)
        session.run(_make_journal(loaded))
        write_new(loaded.path, text.encode(), _SHARED_FILE)
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


def _ready(choices: Choices) -> list[str]:
    """Give what the store needs before the first key."""
    from keyturn.cli.template import VAULT_TOKEN

    return {
        "age": [],
        "vault": ["write the policies: infra/vault", f"export {VAULT_TOKEN}=...   # of keyturn's own login"],
        "aws": ["attach the policies: infra/aws", "aws sts get-caller-identity   # who keyturn will be"],
    }[choices.store]


def _next(folder: Path, choices: Choices) -> list[str]:
    steps = [f"cd {folder}"] if folder != Path.cwd() else []
    steps += _ready(choices)
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
