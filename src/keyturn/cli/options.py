"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

InventoryPath = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        "-i",
        help="The inventory. Default: the variable KEYTURN_INVENTORY, or ./keyturn.yaml.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it goes into the journal. No secrets.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Do what can be done at once, and leave the rest to the sweep.")
]
Credential = Annotated[
    str, typer.Argument(metavar="NAME", help="A credential of the inventory.", show_default=False)
]
