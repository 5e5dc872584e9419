"""`keyturn up`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from keyturn.cli import session
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out


def serve(
    out: Out,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of Prefect's UI and API.")] = 4200,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; this machine by default.")
    ] = "127.0.0.1",
    inventory: InventoryPath = None,
) -> None:
    """Run everything on this machine: Prefect with its UI, the flows, the sweep. Ctrl-C stops it."""
    loaded = session.load(inventory, warn=True)
    from keyturn.cli.up import run_up

    # In JSON mode the document is all that stdout gets.
    with contextlib.redirect_stdout(sys.stderr if out.as_json else sys.stdout):
        code = run_up(loaded.path, port=port, host=host)
    out.document({"inventory": str(loaded.path), "ui": f"http://{host}:{port}", "exit_code": code})
    if code:
        raise SystemExit(code)
