"""`python -m flows.prefect_server OPTIONS`: `prefect server start`, with its garbage collected in a thread.

On asyncio, because the loop that uvicorn would choose closes files of others (docs/adr/0009).

On SQLite Prefect's server may stand still for a minute at a time (3.8.8, seen 2026-11-21). A statement that
failed leaves its cursor in a reference cycle; where the collector meets it in the thread of the event loop,
the cursor's end waits for its connection's mutex; that connection waits, up to 60 seconds, for the
database's lock; and whoever holds the lock waits for the event loop. In a thread of the collector's own,
that wait (which gives the interpreter away) stops nobody else.

It starts with an auth string alone, and takes requests by its own names and from its own pages only
(`flows.own_requests`). What the environment does not say of `SERVER_WISHES` is said for it. It reads no
settings from files where it is started (`.env`, `prefect.toml`, `pyproject.toml`).
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

from flows.own_requests import App, OwnRequests
from keyturn.prefect_access import CLIENT_AUTH, SERVER_AUTH, own_hosts, own_origins
from keyturn.processes import importing_safely, leave_folder

# Often enough that little piles up; the young generations are small, so that each turn takes a millisecond.
_YOUNG_SECONDS = 0.2
# The whole heap takes a fifth of a second, in which nothing else runs.
_YOUNG_TURNS_PER_FULL = 150
# `create_app` below, also where this module is `__main__`.
_FACTORY = "flows.prefect_server:create_app"
#: What Prefect's server is told unless the environment says otherwise.
SERVER_WISHES = {
    # The newer UI calls an analytics host from the browser, whatever the settings say (3.8.8 and
    # 3.9.1, seen 2026-11-21); the older one calls nobody.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # A sweep every five minutes is 100,000 runs a year, and Prefect keeps them for ever unless told.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # By default each change of a step's state is a transaction of its own: a third of what the server
    # does, and what its writers wait for on SQLite (3.8.8, seen 2026-11-21). So it is a second late instead.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # A page that has a browser's login, or is shown one, needs a second thing that it cannot ask for.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}


def serve_our_way() -> None:
    """Make uvicorn serve on asyncio, and own requests alone, whatever Prefect starts by it.

    uvicorn's default loop is uvloop where it is installed, and Prefect has no setting for it, nor for the
    names of a server (3.8.8, read 2026-11-28). What is given here also reaches the processes of `--workers`.
    """
    uvicorn.run = partial(_serve, uvicorn.run)


def _serve(run: Callable[..., None], app: str | App, **options: Any) -> None:
    # A name is for processes of uvicorn's, each of which makes the application itself.
    own = _FACTORY if isinstance(app, str) else _guarded(app)
    run(own, **options | {"loop": "asyncio"})


def create_app() -> App:
    """Make the application for one of several processes."""
    from prefect.server.api import server

    return _guarded(server.create_app())


def _guarded(app: App) -> App:
    return OwnRequests(app, own_hosts(os.environ), own_origins(os.environ))


def collect_garbage_beside() -> None:
    """Turn the automatic collector off, which runs wherever memory is asked for, and collect in a thread."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    while True:
        for _ in range(_YOUNG_TURNS_PER_FULL):
            time.sleep(_YOUNG_SECONDS)
            gc.collect(1)
        gc.collect()


def main() -> None:
    """Start the server; ends with the exit status of Prefect's own command."""
    if {"-b", "--background"} & set(sys.argv):
        sys.exit("Error: --background starts a server that answers any name and any page.\nDo: leave it out")
    leave_folder()
    os.environ |= importing_safely(os.environ)
    origins = ",".join(own_origins(os.environ))
    for name, value in (SERVER_WISHES | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins}).items():
        os.environ.setdefault(name, value)
    _refuse_without_auth()
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    serve_our_way()
    collect_garbage_beside()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _refuse_without_auth() -> None:
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    if not PREFECT_SERVER_API_AUTH_STRING.value() and "--help" not in sys.argv:
        sys.exit(
            "Error: every user of this machine could run commands by a Prefect without an auth string.\n"
            "Now: Nothing was started.\n"
            f"Do: set {SERVER_AUTH} to USER:PASSWORD, and {CLIENT_AUTH} to the same for workers and commands."
        )


if __name__ == "__main__":
    main()
