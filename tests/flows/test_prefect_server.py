"""The launcher of Prefect's server."""

from __future__ import annotations

import subprocess
import sys

# A cycle that ends while the main thread asks for memory, which is where Python would collect it.
_CYCLES = """
import gc, threading, time
from flows.prefect_server import collect_garbage_beside

class Cursor:
    def __init__(self):
        self.myself = self
    def __del__(self):
        ended_in.add(threading.current_thread().name)

ended_in = set()
collect_garbage_beside()
end = time.monotonic() + 30
while not ended_in and time.monotonic() < end:
    [Cursor() for _ in range(10_000)]
print(*ended_in)
"""


def test_nothing_is_collected_in_the_thread_that_serves() -> None:
    child = subprocess.run([sys.executable, "-c", _CYCLES], capture_output=True, text=True, timeout=120)
    assert child.stdout.strip() == "garbage", child.stderr
