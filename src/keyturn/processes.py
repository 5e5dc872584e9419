"""How a process of keyturn's starts others in Python, and what it does about its own memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

# From <sys/prctl.h>. An exec sets it back, so that no program that is started from here inherits it.
_PR_SET_DUMPABLE = 4


def python(*arguments: str) -> list[str]:
    """Give the command for Python with these arguments, which imports nothing from the folder it starts in.

    With `-m`, Python looks there first, before its own library: whoever may write to that folder would run
    code as the user who starts keyturn in it.
    """
    return [sys.executable, "-P", *arguments]


def importing_safely(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables with which each Python below a process imports nothing from where it starts.

    `-P` says it to one process, this to those that others (Prefect's runner, its worker) start. An empty or
    relative part of PYTHONPATH means that folder as well: `PYTHONPATH=$PYTHONPATH:/opt/lib` has one.
    """
    parts = environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(p for p in parts if Path(p).is_absolute())}


def leave_folder() -> None:
    """Go where nobody but root writes.

    Prefect reads settings from `.env`, `prefect.toml` and `pyproject.toml` where it is imported (3.8.8, read
    2026-11-28): among them where its database is, and which code it runs.
    """
    os.chdir("/")


def keep_memory_private() -> None:
    """Leave no core dump of this process, and let no other process of this user read its memory.

    For every process in which keyturn opens secrets; not for a bot's, whose owner decides that. Only the
    soft limit is lowered: what a consumer's command starts may raise it again.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    if sys.platform.startswith("linux"):
        # A core that goes to a program (`|` in core_pattern) knows no limit; this keeps that one back, too.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
