"""Look again and again at the command line and the environment of every process that the tests start."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

# Python takes longer than this to start.
_EVERY_SECONDS = 0.1


class Sampler:
    """Watches this process and all that descend from it, on Linux; elsewhere there is no /proc to watch."""

    def __init__(self) -> None:
        #: What was seen: "what of which process" -> its bytes, of every different look.
        self.seen: dict[tuple[str, str], set[bytes]] = {}
        self._family, self._looking = _Family(os.getpid()), threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self.look()

    def look(self) -> None:
        """Look once."""
        with self._looking:
            for pid in self._family.now():
                for what in ("cmdline", "environ"):
                    try:
                        data = Path(f"/proc/{pid}/{what}").read_bytes()
                    except OSError:  # it ended
                        continue
                    if data:
                        program = data if what == "cmdline" else b""
                        name = program.replace(b"\0", b" ").decode(errors="replace")[:80]
                        self.seen.setdefault((what, f"{pid} {name}".strip()), set()).add(data)

    def blobs(self, what: str) -> Iterator[tuple[str, bytes]]:
        """Give everything that was seen of a kind: `cmdline` or `environ`."""
        for (kind, name), looks in self.seen.items():
            if kind == what:
                for data in looks:
                    yield f"{what} of process {name}", data


class _Family:
    """A process and all that descend from it.

    Whose child a process is, is read once, when it is new: to read it of all the machine's processes at every
    look took a quarter of a core. So one whose parent has ended, and which is the system's child then, stays.
    """

    def __init__(self, root: int) -> None:
        self._known, self._found = {root}, {root}

    def now(self) -> list[int]:
        """Give the ids of those that live."""
        living = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - ten times as fast
        parents = {pid: _parent(pid) for pid in living - self._known}
        self._known = living
        self._found &= living
        while more := {pid for pid, parent in parents.items() if parent in self._found} - self._found:
            self._found |= more
        return sorted(self._found)


def _parent(pid: int) -> int:
    try:
        # After the command's name, which may hold anything, come state and parent.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended
        return 0
