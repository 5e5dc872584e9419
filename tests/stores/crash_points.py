"""Dies before every single change that a verb makes on disk, each time on a fresh copy of a store.

    python crash_points.py VERB KEY STORE COPIES [PATH RECIPIENT]

RECIPIENT is a bot's, for which what is current at PATH is encrypted, too.

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
from keyturn.stores.age_files_readers import Readers
from keyturn.testing.store_contract_support import fake_material, fake_meta, put_key

PATH = "bybit/main"
DIED = 9
LATER = Attempt("0123456789", 2)
CHANGES = ("open", "write", "pwrite", "ftruncate", "fsync", "rename", "unlink", "utime", "mkdir")


async def act(store: AgeFilesStore, verb: str, path: str) -> None:
    pending, current = await store.peek(path, Slot.PENDING), await store.peek(path, Slot.CURRENT)
    match verb:
        case "claim":
            await store.claim(path, LATER)
        case "stage":
            claim = Claim(pending.attempt, pending.version)
            meta = fake_meta("staged", pending.attempt)
            await store.stage(path, fake_material("staged"), meta, claim)
        case "promote":
            await store.promote(path, pending.attempt, expect_current=current.version)
        case "restore":
            await store.restore_previous(path, expect_current=current.version)
        case "spread":
            await store.spread(path)
        case "discard previous":
            await store.discard(path, Slot.PREVIOUS, version="v000001")
        case "discard pending":
            await store.discard(path, Slot.PENDING, version=pending.version)
        case "vacate":
            await store.vacate(path, expect_current=current.version)
        case "put":
            await put_key(store, path, "put", current.version)
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


def main(verb: str, key: str, original: str, copies: str, path: str = PATH, recipient: str = "") -> None:
    text = Path(key).read_text()
    readers = {path: Readers(frozenset([recipient]))} if recipient else {}
    for number in range(1000):
        copy = Path(copies) / str(number)
        shutil.copytree(original, copy)
        child = os.fork()
        if child == 0:
            store = AgeFilesStore(copy, lambda: text, readers=readers)
            store.sealer()
            trap(number)
            asyncio.run(act(store, verb, path))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return
        if status != DIED:
            sys.exit(f"the verb itself failed in copy {number}")


if __name__ == "__main__":
    main(*sys.argv[1:])
