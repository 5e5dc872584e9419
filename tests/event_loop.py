"""Whether a process runs on another event loop than Python's own."""

from __future__ import annotations

from pathlib import Path

import pytest


def uvloop_in(pid: int) -> bool:
    """Tell whether a running process has loaded uvloop, which is a shared library."""
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        pytest.skip("what a process has loaded is read from /proc: run it on Linux")
    try:
        return "/uvloop/" in maps.read_text()
    except PermissionError:
        pytest.skip("a process that opens secrets shows its memory to root alone: run this as root")
