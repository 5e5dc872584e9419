"""Dies before every single change on disk of a verb that encrypts anew, each time on a fresh copy of a store.

python die_while_sealing.py VERB KEY RECIPIENT STORE COPIES
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from keyturn.domain.labels import Attempt
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.age_files_readers import Readers

PATH = "bots/mm"
DIED = 9
CHANGES = ("open", "write", "pwrite", "ftruncate", "fsync", "rename", "unlink", "utime", "mkdir")


async def act(store: AgeFilesStore, verb: str) -> None:
    match verb:
        case "promote":
            await store.promote(PATH, Attempt("0123456789", 1), expect_current="v000001")
        case "restore":
            await store.restore_previous(PATH, expect_current="v000002")
        case "spread":
            await store.spread(PATH)


def trap(after: int) -> None:
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


def main(verb: str, key: str, recipient: str, original: str, copies: str) -> None:
    text = Path(key).read_text()
    for number in range(1000):
        copy = Path(copies) / str(number)
        shutil.copytree(original, copy)
        child = os.fork()
        if child == 0:
            store = AgeFilesStore(copy, lambda: text, readers={PATH: Readers(frozenset([recipient]))})
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
    main(*sys.argv[1:])
