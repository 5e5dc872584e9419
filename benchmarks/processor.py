"""Holding a measured client to one processor."""

from __future__ import annotations

import os
from pathlib import Path


def one_processor() -> None:
    """Let every thread of this process run on one processor; nothing on systems that cannot.

    For each client that is compared, the bare ones, too, once its servers run: they are free. One interpreter
    runs one thread at a time. On several processors its threads hand that right from one to the other, which
    costs a process that waits in many threads a third of its time, and another third in the next run: what
    was to be compared drowns in it.
    """
    threads = Path("/proc/self/task")
    if not hasattr(os, "sched_setaffinity") or not threads.exists():
        return
    chosen = {min(os.sched_getaffinity(0))}
    for thread in threads.iterdir():
        os.sched_setaffinity(int(thread.name), chosen)
