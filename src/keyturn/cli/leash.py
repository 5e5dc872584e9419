"""`python -m keyturn.cli.leash PARENT COMMAND...`: become COMMAND, and die when the process PARENT does.

A supervisor that is killed cannot stop its children. On Linux the kernel does it; elsewhere a small
process watches.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

# From <sys/prctl.h>; the setting outlives the exec below.
_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 1.0


def main(arguments: Sequence[str]) -> None:
    """Tie this process to its parent, then become the command; returns only when that fails."""
    parent, command = int(arguments[0]), list(arguments[1:])
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        watch(parent)
    if os.getppid() != parent:  # it died before the line above
        return
    os.execvp(command[0], command)  # noqa: S606 - a list of arguments from `keyturn up`, no shell


def watch(parent: int) -> None:
    """Start a process that kills this process group when the parent is gone, and ends with this process."""
    watched = os.getpid()
    if os.fork():
        return
    while os.getppid() == watched:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.killpg(0, signal.SIGKILL)
        time.sleep(_WATCH_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(1)
