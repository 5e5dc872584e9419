"""Dies before every single change that a verb makes on disk, each time on a fresh copy of a store.

    python crash_points.py VERB KEY STORE COPIES

Leaves COPIES/<n>: the store as it is when the process died before its n-th change. The last one is
the store after the verb ran to its end.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Claim, Slot
from keyturn.stores.age_files import AgeFilesStore
from keyturn.testing.store_contract_support import fake_material, fake_meta, put_key

PATH = "bybit/main"
DIED = 9
LATER = Attempt("0123456789", 2)
CHANGES = ("open", "write", "pwrite", "ftruncate", "fsync", "rename", "unlink", "utime", "mkdir")


async def act(store: AgeFilesStore, verb: str) -> None:
    pending = await store.peek(PATH, Slot.PENDING)
    match verb:
        case "claim":
            await store.claim(PATH, LATER)
        case "stage":
            claim = Claim(pending.attempt, pending.version)
            meta = fake_meta("staged", pending.attempt)
            await store.stage(PATH, fake_material("staged"), meta, claim)
        case "promote":
            await store.promote(PATH, pending.attempt, expect_current="v000002")
        case "restore":
            await store.restore_previous(PATH, expect_current="v000002")
        case "discard previous":
            await store.discard(PATH, Slot.PREVIOUS, version="v000001")
        case "discard pending":
            await store.discard(PATH, Slot.PENDING, version=pending.version)
        case "vacate":
            await store.vacate(PATH, expect_current="v000002")
        case "put":
            await put_key(store, PATH, "put", "v000002")
        case "first put":
            await put_key(store, "fresh/path", "put")


def trap(after: int) -> None:
    """Let this process die, cleaning up nothing, before its change number `after`."""
    left = after

    def deadly(real):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(DIED)
            return real(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, deadly(getattr(os, name)))


def main(verb: str, key: Path, original: Path, copies: Path) -> None:
    text = key.read_text()
    for number in range(1000):
        copy = copies / str(number)
        shutil.copytree(original, copy)
        child = os.fork()
        if child == 0:
            store = AgeFilesStore(copy, lambda: text)
            store.sealer()
            trap(number)
            asyncio.run(act(store, verb))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return
        if status != DIED:
            sys.exit(f"the verb itself failed in copy {number}")


if __name__ == "__main__":
    main(sys.argv[1], *(Path(a) for a in sys.argv[2:]))
