"""The folder that the demo leaves: an inventory, a journal, a store. What a person would have, too."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keyturn.cli import bundling
from keyturn.cli.bundling import Order
from keyturn.client.bundle import IDENTITY as BOT_IDENTITY
from keyturn.demo.cast import ADDRESS, PARTS, Part
from keyturn.domain.errors import RefusedError
from keyturn.domain.inventory_text import parse_inventory
from keyturn.exchanges import catalog
from keyturn.settings import DEFAULT_NAME, LoadedInventory
from keyturn.stores.keys import generate_identity
from keyturn.stores.sealing import Sealer

#: The kind of store that lives in the folder, and so outlives the demo.
AGE = "age"
IDENTITY = "age-identity.txt"
STORE = "secrets"
#: One folder a bot: all that it would have on a host of its own.
BUNDLES = "bots"
#: What is of this machine alone: logs, Prefect's database, the lock.
PRIVATE = ".keyturn"
#: Long enough that both keys are seen alive side by side, short enough for a demo. Real ones say 24h.
GRACE = "2s"
#: A bot confirms within a second. This leaves room for a machine that is busy with something else.
CONFIRM_WITHIN = "45s"
# Before the exchanges run their addresses are not known; nothing is ever sent here.
_NOWHERE = "http://127.0.0.1:9"
_OURS = {DEFAULT_NAME, IDENTITY, STORE, PRIVATE, BUNDLES, "mailbox"}
_JOURNAL = "keyturn-journal.db"
# In the private folder: what the last demo kept its keys in. None was written when there was but one kind.
_KIND = "store"
_UNFINISHED = "none"
# The exchanges of the inventory, as `_account` writes them.
_URL = re.compile(rf"exchange: (\w+)\n\s+url: http://{re.escape(ADDRESS)}:(\d+)$", re.MULTILINE)
# What a killed demo has started looks twice a second whether it is alone, and ends then.
_LEFT_SECONDS = 5.0


class House:
    """The demo's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.inventory_file = self.folder / DEFAULT_NAME
        self.private = self.folder / PRIVATE
        #: How the inventory writes the store; of a server it is known once that runs.
        self.entry = f"{{kind: age_files, path: {STORE}, key: {{file: {IDENTITY}}}}}"
        #: Of the bots, by name, in an age store.
        self.recipients: dict[str, str] = {}

    def settle(self) -> None:
        """Make the folder, and nothing in it that belongs to a store.

        Raises:
            RefusedError: the folder holds something that the demo did not put there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        strange = [p.name for p in self.folder.iterdir() if not _is_ours(p.name)]
        if strange:
            raise RefusedError(
                f"{self.folder} holds {', '.join(sorted(strange)[:3])}, which no demo has put there.",
                now="Nothing was changed.",
                todo="Move the folder away, or say --folder for another one.",
            )
        self.private.mkdir(mode=0o700, exist_ok=True)

    def furnish(self, kind: str) -> bool:
        """Make the folder fit a kind of store: a journal must not speak of keys that no store has any more.

        Only an age store is there again the next time. For any other kind, and after any other, all that
        was left here is taken away.

        Returns:
            Whether there was something to take away.
        """
        mark = self.private / _KIND
        before = mark.read_text() if mark.exists() else AGE
        cleared = False
        if (before, kind) != (AGE, AGE):
            # First, so that the next demo clears the rest if this one does not come to it.
            mark.write_text(_UNFINISHED)
            cleared = self._clear()
        mark.write_text(kind)
        if kind == AGE:
            if not (self.folder / IDENTITY).exists():
                generate_identity(self.folder / IDENTITY)
            self.recipients = {part.bot: self._recipient(part) for part in PARTS}
        return cleared

    def bundle(self, part: Part) -> Path:
        """Give the folder of a bot: its settings, and in an age store its own identity."""
        return self.folder / BUNDLES / part.bot

    def _recipient(self, part: Part) -> str:
        file = self.bundle(part) / BOT_IDENTITY
        if not file.exists():
            for folder in (file.parent.parent, file.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            return generate_identity(file)
        return Sealer(file.read_text()).recipient

    def write_bundles(self, urls: Mapping[str, str]) -> None:
        """Write what each bot needs to know, as `keyturn client-bundle` does."""
        loaded = self.loaded(urls)
        for part in PARTS:
            order = Order(part.bot, self.bundle(part))
            bundling.write(loaded, order, bundling.settings(loaded, order))

    def identity_files(self) -> list[Path]:
        """Give the files that open something in the age store, if there is one."""
        files = [self.folder / IDENTITY, *(self.bundle(part) / BOT_IDENTITY for part in PARTS)]
        return [file for file in files if file.exists()]

    def identities(self) -> list[str]:
        """Give what opens the age store, or a bot's key in it."""
        lines = [line for file in self.identity_files() for line in file.read_text().splitlines()]
        return [line for line in lines if line.startswith("AGE-SECRET-KEY-")]

    def _clear(self) -> bool:
        left = [p for p in self.folder.iterdir() if p.name != PRIVATE and _is_left_by_a_demo(p.name)]
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return bool(left)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second demo out of the folder for as long as the block lasts.

        Raises:
            RefusedError: there is one in it.
        """
        with (self.private / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RefusedError(
                    f"Another demo runs in {self.folder}.",
                    now="This one has not begun.",
                    todo="Wait for it, or say --folder for another one.",
                ) from None
            yield

    def loaded(self, urls: Mapping[str, str] | None = None) -> LoadedInventory:
        """Give the inventory with these addresses of the exchanges; without them it serves for the store."""
        text = self._text(urls or {})
        parsed = parse_inventory(text, DEFAULT_NAME, manifests=catalog.manifests())
        return LoadedInventory(parsed.inventory, parsed.warnings, self.inventory_file)

    def write_inventory(self, urls: Mapping[str, str]) -> None:
        """Write the inventory, whole or not at all."""
        fresh = self.private / "keyturn.yaml.new"
        fresh.write_text(self._text(urls), encoding="utf-8")
        fresh.replace(self.inventory_file)

    def _text(self, urls: Mapping[str, str]) -> str:
        return _render(urls, self.entry, self.recipients)

    def ports(self) -> dict[str, int]:
        """Give the port that each exchange had in the last demo here: its keys are those of that address.

        Raises:
            RefusedError: another program has one of them now.
        """
        if not self.inventory_file.exists():
            return {}
        found: dict[str, int] = {}
        give_up = time.monotonic() + _LEFT_SECONDS
        for exchange, port in _URL.findall(self.inventory_file.read_text(encoding="utf-8")):
            while not _is_free(int(port)):
                if time.monotonic() >= give_up:
                    raise RefusedError(
                        f"Another program has port {port}, where the simulated {exchange} was before.",
                        now="This one has not begun. Keys count at the address where they were made.",
                        todo="End that program, or say --folder for another demo.",
                    )
                time.sleep(0.1)
            found[exchange] = int(port)
        return found

    def log(self, name: str) -> Path:
        """Give the file that takes what a child process complains about."""
        folder = self.private / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def typed(path: Path) -> str:
    """Write a path the way that a person would type it here."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def _is_ours(name: str) -> bool:
    return _is_left_by_a_demo(name) or name.startswith(".")


def _is_left_by_a_demo(name: str) -> bool:
    return name in _OURS or name.startswith(_JOURNAL)


def _render(urls: Mapping[str, str], entry: str, recipients: Mapping[str, str]) -> str:
    return "\n".join(
        [
            _HEAD,
            f"stores:\n  local: {entry}\n",
            "accounts:",
            *(_account(part, urls.get(part.exchange, _NOWHERE)) for part in PARTS),
            "\ncredentials:",
            *(_credential(part) for part in PARTS),
            "\nconsumers:",
            *(_consumer(part, recipients.get(part.bot)) for part in PARTS),
            _foot(),
        ]
    )


def _account(part: Part, url: str) -> str:
    return f"""\
  {part.account}:
    exchange: {part.exchange}
    url: {url}
    manager: {{store: local, path: {part.manager_path}}}"""


def _credential(part: Part) -> str:
    owner = f"    subaccount: {json.dumps(part.subaccount)}\n" if part.subaccount else ""
    return f"""\
  {part.credential}:
    account: {part.account}
{owner}    permissions: [{", ".join(part.permissions)}]
    ip_allowlist: [{ADDRESS}]
    path: {part.path}
    consumers: [{part.bot}]"""


def _consumer(part: Part, recipient: str | None) -> str:
    own = f", recipient: {recipient}" if recipient else ""
    return f"  {part.bot}: {{kind: client, evidence: ack{own}}}"


def _foot() -> str:
    return f"""
policies:
  demo:
    rotate_every: 60d
    grace: {GRACE} # real ones say 24h: nobody watches a demo for a day
    confirm_within: {CONFIRM_WITHIN} # real ones say 2h

defaults: {{store: local, policy: demo}}
"""


_HEAD = f"""\
# Left by `make demo`, and written anew by each: the simulated exchanges take other ports every time, so the
# `url` lines change. A real inventory has no `url`; see keyturn.example.yaml.
version: 1

journal:
  url: sqlite:///{_JOURNAL}
"""
