"""`python -m flows.prefect_server OPTIONS`: `prefect server start`, with its garbage collected in a thread.

On asyncio, because the loop that uvicorn would choose closes files of others (docs/adr/0009).

On SQLite Prefect's server may stand still for a minute at a time (3.8.8, seen 2026-11-21). A statement that
failed leaves its cursor in a reference cycle; where the collector meets it in the thread of the event loop,
the cursor's end waits for its connection's mutex; that connection waits, up to 60 seconds, for the
database's lock; and whoever holds the lock waits for the event loop. In a thread of the collector's own,
that wait (which gives the interpreter away) stops nobody else.

What the environment does not say of `SERVER_WISHES` is said for it.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
import threading
import time
from functools import partial

import uvicorn

# Often enough that little piles up; the young generations are small, so that each turn takes a millisecond.
_YOUNG_SECONDS = 0.2
# The whole heap takes a fifth of a second, in which nothing else runs.
_YOUNG_TURNS_PER_FULL = 150
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
    # With --background Prefect starts `python -m uvicorn`, which reads this.
    "UVICORN_LOOP": "asyncio",
}


def stay_on_asyncio() -> None:
    """Make asyncio the event loop of a server that is started without naming one, as Prefect starts its own.

    uvicorn's default is uvloop where it is installed, and Prefect has no setting for it (3.8.8, read
    2026-11-28). What is given here also reaches the processes of `--workers`.
    """
    uvicorn.run = partial(uvicorn.run, loop="asyncio")


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
    for name, value in SERVER_WISHES.items():
        os.environ.setdefault(name, value)
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    stay_on_asyncio()
    collect_garbage_beside()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
