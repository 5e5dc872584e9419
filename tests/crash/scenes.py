"""A scene: one credential at one simulated venue, its store and journal on disk, a bot in its own process."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.domain.labels import fingerprint
from keyturn.domain.rotation import Rotation
from keyturn.domain.slots import Slot, Stored
from keyturn.engine import adopt
from keyturn.exchanges import catalog
from keyturn.journal import SqlJournal
from keyturn.settings import load_inventory
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity
from keyturn.wiring import open_world

from .nursery import Nursery, Process
from .venues import Books, Venue, material_of

NAME, PATH = "mm", "bots/mm"
# Twenty seconds in one: takeovers and the settling of a key that never was pass in four.
PACE = 20.0


def inventory(books: Books, timeout: str) -> str:
    """Write the inventory of a scene. JSON is YAML."""
    return json.dumps(
        {
            "version": 1,
            "journal": {"url": "sqlite:///journal.db"},
            "stores": {"local": {"kind": "age_files", "path": "secrets", "key": {"file": "age.key"}}},
            "accounts": {
                "main": {
                    "exchange": books.venue.code,
                    "url": books.sim.base_url,
                    "timeout": timeout,
                    "manager": {"store": "local", "path": "managers/main"},
                }
            },
            "credentials": {
                NAME: {
                    "account": "main",
                    "subaccount": books.subaccount,
                    "permissions": list(books.venue.permissions),
                    "ip_allowlist": ["127.0.0.1"],
                    "path": PATH,
                    "consumers": ["bot", "file"],
                }
            },
            "consumers": {
                "bot": {"kind": "client", "evidence": "ack"},
                "file": {"kind": "file", "path": "key.json"},
            },
            "policies": {"quick": {"grace": "2s", "confirm_within": "1h"}},
            "defaults": {"store": "local", "policy": "quick"},
        }
    )


@dataclass
class Scene:
    """What a test drives and judges."""

    books: Books
    folder: Path
    nursery: Nursery
    began: float = field(default_factory=time.time)
    bot: Process | None = None

    async def start(self, role: str, **job: object) -> Process:
        """Start a process that works on this scene."""
        return await self.nursery.start(self.folder, role, began=self.began, pace=PACE, **job)

    async def sweep(self) -> None:
        """Let a new process sweep until nothing is left to do."""
        process = await self.start("sweep")
        status = await process.wait()
        assert status == 0, f"the sweep ended with {status}: {process.told()} {await self.latest()}"

    async def latest(self) -> Rotation | None:
        """Give the newest rotation."""
        journal = await SqlJournal.open_url(f"sqlite:///{self.folder}/journal.db")
        try:
            found = await journal.latest()
            return found[0] if found else None
        finally:
            await journal.close()

    async def attach_bot(self) -> None:
        """Start the bot, and wait for its first call."""
        venue, sim = self.books.venue, self.books.sim
        self.bot = await self.nursery.start(
            self.folder,
            "bot",
            exchange=venue.code,
            url=sim.base_url,
            began=self.began,
            pace=PACE,
            method=venue.bot_method,
            params=venue.bot_params,
        )
        end = time.monotonic() + 20
        while not (self.folder / "bot.json").exists():
            assert time.monotonic() < end, self.bot.told()
            assert not self.bot.ended.done(), self.bot.told()
            await asyncio.sleep(0.02)

    async def judge(self, *, turned: bool | None = True) -> None:
        """Hold every invariant against what the exchange, the store, the journal and the bot say.

        Args:
            turned: whether the key must be another one than at first; None: either.
        """
        store = AgeFilesStore(self.folder / "secrets", (self.folder / "age.key").read_text)
        journal = await SqlJournal.open_url(f"sqlite:///{self.folder}/journal.db")
        try:
            current = await self._judge_store(store)
            self.books.judge_current(current.material)
            is_new = current.material.key_ref != self.books.old.key_ref
            if turned is not None:
                assert is_new is turned, "the key was not turned" if turned else "the key was turned"
            salt = await journal.salt()
            mark = fingerprint(salt, self.books.venue.code, current.material.key_ref)
            assert current.info.meta is not None
            assert current.info.meta.fingerprint == mark
            report = await journal.verify()
            assert report.breaks == ()
            assert await journal.open_rotation(NAME) is None, "a rotation is still open"
            assert not await journal.unsettled(), "the fate of a key is still open"
            if is_new:
                shown = json.loads((self.folder / "key.json").read_text())
                assert shown["api_key"] == current.material.key_ref, "the file shows another key"
            await self._judge_bot(mark)
        finally:
            await journal.close()
            await store.close()

    async def _judge_store(self, store: AgeFilesStore) -> Stored:
        current = await store.read(PATH, Slot.CURRENT)
        assert current is not None, "no key is current"
        assert await store.peek(PATH, Slot.PENDING) is None, "a pending secret is left over"
        assert await store.peek(PATH, Slot.PREVIOUS) is None, "the old secret was not destroyed"
        left = [file.name for file in (self.folder / "secrets" / PATH).iterdir() if file.suffix == ".age"]
        assert len(left) == 1, f"secrets are left over on the disk: {left}"
        return current

    async def _judge_bot(self, mark: str) -> None:
        assert self.bot is not None
        status = await self.bot.kill(signal.SIGTERM)
        assert status == 0, self.bot.told()
        report = json.loads((self.folder / "bot.json").read_text())
        assert report["failed"] == [], "calls of the bot failed"
        assert report["loaded"] == mark, "the bot was not moved to current"
        calls = self.books.sim.calls(match=self.books.venue.bot_path.rpartition(" ")[2])
        assert len(calls) >= report["made"] > 0
        assert {call.outcome for call in calls} == {"ok"}, "calls of the bot were refused"


@asynccontextmanager
async def scene(nursery: Nursery, venue: Venue, folder: Path) -> AsyncIterator[Scene]:
    """Open a venue, take in what a person has, start the bot."""
    folder.mkdir(parents=True)
    generate_identity(folder / "age.key")
    async with venue.simulator() as sim:
        books = Books.open(venue, sim)
        file = folder / "keyturn.yaml"
        # A person waits for an answer; what the suite is about is soon sure that a worker is dead.
        file.write_text(inventory(books, timeout="30s"))
        loaded = load_inventory(file, manifests=catalog.manifests())
        async with open_world(loaded, actor="a person", rate_limit=False) as world:
            await adopt.put_manager(world, "main", material_of(books.manager))
            await adopt.put_credential(world, NAME, material_of(books.old))
        file.write_text(inventory(books, timeout="1s"))
        built = Scene(books, folder, nursery)
        await built.attach_bot()
        try:
            yield built
        finally:
            if built.bot is not None:
                await built.bot.kill()
