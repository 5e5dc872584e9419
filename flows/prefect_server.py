"""`python -m flows.prefect_server OPTIONS`: `prefect server start`, with its garbage collected in a thread.

On SQLite Prefect's server may stand still for a minute at a time (3.8.8, seen 2026-11-21). A statement that
failed leaves its cursor in a reference cycle; where the collector meets it in the thread of the event loop,
the cursor's end waits for its connection's mutex; that connection waits, up to 60 seconds, for the
database's lock; and whoever holds the lock waits for the event loop. In a thread of the collector's own,
that wait (which gives the interpreter away) stops nobody else.
"""

from __future__ import annotations

import gc
import runpy
import sys
import threading
import time

# Often enough that little piles up; the young generations are small, so that each turn takes a millisecond.
_YOUNG_SECONDS = 0.2
# The whole heap takes a fifth of a second, in which nothing else runs.
_YOUNG_TURNS_PER_FULL = 150


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
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    collect_garbage_beside()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
