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
        for pid in family(os.getpid()):
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


def family(root: int) -> list[int]:
    """Give the ids of a process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # After the command's name, which may hold anything, come state and parent.
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)
