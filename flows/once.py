"""`python -m flows.once`: run flows now, on a Prefect of their own that ends with them.

For a program that stands above: it sends a line of JSON for each batch of runs, such as
`{"flow": "rotate", "credentials": ["mm-bybit"], "reason": "...", "requested_by": "..."}` or
`{"flow": "sweep"}`, and reads a line when Prefect is ready and one for each run that has ended. When stdin
ends, so does this process, with Prefect's server: nothing outlives the program above.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from flows.own_server import OwnServer
from keyturn.processes import leave_folder
from keyturn.settings import INVENTORY_VARIABLE, find_inventory

if TYPE_CHECKING:
    from flows.ending import Ending

# What Prefect's server gets to end well.
_GOODBYE_SECONDS = 5.0


def _alone() -> None:
    """Forget what this user has told Prefect. Before it is imported."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"


class Desk:
    """Takes orders from stdin and says on stdout what became of them."""

    def __init__(self, out: TextIO, server: OwnServer) -> None:
        self._out, self._server = out, server

    def say(self, **message: Any) -> None:
        """Write a line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    async def work(self, orders: asyncio.Queue[dict[str, Any] | None]) -> None:
        """Wait for Prefect and do what is ordered, until there are no more orders."""
        import flows.rotate
        import flows.sweep  # noqa: F401 - imported while the server starts

        self._server.wait_until_ready()
        self.say(event="ready")
        while (order := await orders.get()) is not None:
            await self._batch(order)

    async def _batch(self, order: dict[str, Any]) -> None:
        from flows.sweep import sweep

        if order["flow"] == "sweep":
            self._tell("sweep", None, await sweep(return_state=True))
        else:
            await asyncio.gather(*(self._rotate(name, order) for name in order["credentials"]))
        self.say(event="done", flow=order["flow"])

    async def _rotate(self, name: str, order: dict[str, Any]) -> None:
        from flows.forms import RotateRequest
        from flows.rotate import rotate_credential

        form = RotateRequest(credential=name, reason=order["reason"], requested_by=order["requested_by"])
        self._tell("rotate", name, await rotate_credential(form, return_state=True))

    def _tell(self, flow: str, credential: str | None, state: Ending) -> None:
        self.say(event="ended", flow=flow, credential=credential, state=state.name, message=state.message)


def _listen(loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[dict[str, Any] | None]) -> None:
    """Read orders; when there are no more, end what is under way too."""
    for line in sys.stdin:
        loop.call_soon_threadsafe(orders.put_nowait, json.loads(line))
    loop.call_soon_threadsafe(orders.put_nowait, None)
    time.sleep(_GOODBYE_SECONDS)
    # A run that is under way is finished by the next sweep, as after any other death.
    os.killpg(0, signal.SIGKILL)


async def _run(out: TextIO, server: OwnServer) -> None:
    orders: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    threading.Thread(target=_listen, args=(asyncio.get_running_loop(), orders), daemon=True).start()
    await Desk(out, server).work(orders)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, work, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.once", description="Run keyturn's flows now.")
    parser.add_argument("--prefect-home", type=Path, required=True, help="Prefect's folder for these runs")
    home = parser.parse_args(arguments).prefect_home.absolute()
    # A relative path would mean another file elsewhere.
    os.environ[INVENTORY_VARIABLE] = str(find_inventory())
    # The leader of its group, so that the group can be ended as one; a session's leader is that already.
    with suppress(PermissionError):
        os.setpgid(0, 0)
    _alone()
    leave_folder()
    # What a library prints is for the log; our stdout is for the program above.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with OwnServer(home) as server:
        asyncio.run(_run(out, server))
    return 0


if __name__ == "__main__":
    sys.exit(main())
