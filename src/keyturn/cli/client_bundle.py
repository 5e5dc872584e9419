"""`keyturn client-bundle`: what a bot's host needs in place of the inventory and the store's identity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import session
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out
from keyturn.domain.errors import RefusedError

if TYPE_CHECKING:
    from keyturn.cli.bundling import Made, Order
    from keyturn.settings import LoadedInventory


def client_bundle(
    out: Out,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A consumer of the inventory.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="The folder to make. Default: ./NAME-bundle."),
    ] = None,
    new_identity: Annotated[
        bool, typer.Option("--new-identity", help="Make the bot's age identity, in the folder.")
    ] = False,
    recipient: Annotated[
        str | None,
        typer.Option(
            "--recipient",
            metavar="age1...",
            help="Of the identity that the bot's host has made itself.",
            show_default=False,
        ),
    ] = None,
    store_path: Annotated[
        str | None,
        typer.Option(
            "--store-path",
            metavar="PATH",
            help="Where the store's files are on the bot's host. Default: as here.",
            show_default=False,
        ),
    ] = None,
    mailbox: Annotated[
        str | None,
        typer.Option(
            "--mailbox",
            metavar="PATH",
            help="Where the mailboxes are on the bot's host. Default: as here.",
            show_default=False,
        ),
    ] = None,
    inventory: InventoryPath = None,
) -> None:
    """Make the folder that a bot's host needs: settings, and an age identity of its own. No key is in it."""
    from keyturn.cli import bundling

    loaded = session.load(inventory, warn=True)
    _known(loaded, name)
    order = bundling.Order(
        name, (to or Path(f"{name}-bundle")).absolute(), new_identity, recipient, store_path, mailbox
    )
    settings = bundling.settings(loaded, order)
    bundling.check_identity(loaded, order, settings)
    made = bundling.write(loaded, order, settings)
    _tell(out, loaded, order, made)


def _known(loaded: LoadedInventory, name: str) -> None:
    from keyturn.domain.inventory_findings import choose_from

    inventory = loaded.inventory
    if name not in inventory.consumers:
        entry = inventory.credentials.get(name)
        known = list(entry.consumers) if entry else list(inventory.consumers)
        raise RefusedError(
            f"There is no consumer {name} in the inventory {loaded.path}.",
            now="Nothing was written.",
            todo=f"A bundle is for a consumer: {choose_from(known, name)}."
            if known
            else "Write the bot among `consumers`, and name it in its credential.",
        )
    if inventory.consumers[name].kind == "file":
        raise RefusedError(
            f"{name} is a consumer of kind file: keyturn writes its file, and it reads no store.",
            now="Nothing was written.",
            todo="Name a consumer of kind client or webhook.",
        )
    if not any(name in entry.consumers for entry in inventory.credentials.values()):
        raise RefusedError(
            f"No credential names {name} among its consumers.",
            now="Nothing was written.",
            todo=f"Write `consumers: [{name}]` in the entry of its credential.",
        )


def _tell(out: Out, loaded: LoadedInventory, order: Order, made: Made) -> None:
    entry = loaded.inventory.consumers[order.consumer]
    declared = getattr(entry, "recipient", None)
    changes = made.recipient is not None and made.recipient != declared
    line = f"recipient: {made.recipient}" if changes else None
    steps = made.steps(loaded, order, changes=changes)
    out.document(
        {
            "consumer": order.consumer,
            "folder": str(order.folder),
            "files": made.files,
            "recipient": made.recipient,
            "inventory_line": line,
            "notes": made.notes,
            "next": steps,
        }
    )
    out.line(f"Made {order.folder}: {', '.join(made.files)}", "green")
    if line:
        out.line(f"Write into {loaded.path.name}, under consumers, {order.consumer}:")
        out.line(f"    {line}")
    for note in made.notes:
        out.line(f"Note: {note}", "yellow")
    out.line("Next:")
    for step in steps:
        out.line(f"  {step}")
