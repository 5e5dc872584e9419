"""Rotates one credential without end, and says on stdout what was acknowledged: `rotated N VERSION`.

    python write_loop.py KEY STORE TURNS

Whoever meets a conflict reads again, as a rotation does. Ends after TURNS promotions, 0 for never.
"""

import asyncio
import os
import sys
from pathlib import Path

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.age_files import AgeFilesStore
from keyturn.testing.store_contract_support import stage_key

PATH = "bybit/main"


async def rotate(store: AgeFilesStore) -> str:
    while True:
        attempt = Attempt(new_rotation_id(), 1)
        current = await store.peek(PATH, Slot.CURRENT)
        try:
            await stage_key(store, PATH, attempt, str(attempt))
            done = await store.promote(PATH, attempt, expect_current=current and current.version)
        except StoreError as error:
            if error.fault is not StoreFault.CONFLICT:
                raise
            continue
        if done.previous:
            await store.discard(PATH, Slot.PREVIOUS, version=done.previous)
        return done.current


async def main(key: Path, root: Path, turns: int) -> None:
    store, turn = AgeFilesStore(root, key.read_text), 0
    while turn < turns or not turns:
        turn += 1
        version = await rotate(store)
        os.write(1, f"rotated {turn} {version}\n".encode())
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
