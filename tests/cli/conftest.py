"""A real folder (inventory, age store, SQLite journal) and a real exchange server under the command line."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.main import main
from keyturn.simulator import IssuedKey, SimBybit
from tests.cli.processes import Result

CREDENTIAL, SUBACCOUNT = "mm-bybit", "2002"


class _Pipe(io.StringIO):
    """A stream that is no terminal."""

    def isatty(self) -> bool:
        return False


Run = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in this process; every argument as text."""

    def run(*arguments: object, stdin: str = "") -> Result:
        out, err = _Pipe(), _Pipe()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", _Pipe(stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        code = ended.value.code
        return Result(
            code if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue()
        )

    return run


@dataclass
class Venue:
    """A simulated Bybit that serves from a thread of its own, so that synchronous tests can use it."""

    sim: SimBybit
    loop: asyncio.AbstractEventLoop
    manager: IssuedKey = field(init=False)
    bot: IssuedKey = field(init=False)

    def live_keys(self) -> list[str]:
        """The keys of the bot's account that work."""
        return [key.key_ref for key in self.sim.truth()["bot"]]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.sim.stop(), self.loop).result(10)

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self.sim.start(), self.loop).result(10)


@pytest.fixture
def venue() -> Iterator[Venue]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    served = Venue(SimBybit(), loop)
    served.sim.add_account("main", uid="1001")
    served.sim.add_account("bot", parent="main", uid=SUBACCOUNT, key_limit=5)
    served.manager = served.sim.add_key("main", ["Wallet.SubMemberTransfer"], ips=["127.0.0.1"])
    served.bot = served.sim.add_key("bot", ["Spot.SpotTrade"])
    served.start()
    try:
        yield served
    finally:
        served.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


_CONSUMER = """\
  mm-bybit:
    kind: file
    evidence: timed
    path: bot-key.json
"""


@dataclass
class Home:
    """A folder that `keyturn init` made, pointed at the simulated exchange."""

    folder: Path
    cli: Run

    @property
    def inventory(self) -> Path:
        return self.folder / "keyturn.yaml"

    def run(self, command: str, *arguments: object, stdin: str = "") -> Result:
        return self.cli(command, *arguments, "--inventory", self.inventory, stdin=stdin)

    def json(self, command: str, *arguments: object, stdin: str = "") -> Any:
        result = self.run(command, *arguments, "--json", stdin=stdin)
        return result.document

    def edit(self, old: str, new: str) -> None:
        text = self.inventory.read_text()
        assert old in text, old
        self.inventory.write_text(text.replace(old, new))

    @property
    def journal(self) -> Path:
        return self.folder / "keyturn-data" / "journal.db"


def key_document(key: IssuedKey) -> str:
    return json.dumps({"api_key": key.key_ref, "secret": key.secret})


@pytest.fixture
def home(tmp_path: Path, cli: Run) -> Home:
    """An inventory of one credential, with an empty store; nothing listens at its exchange."""
    folder = tmp_path / "home"
    options = ("--exchange", "bybit", "--credential", CREDENTIAL, "--subaccount", SUBACCOUNT)
    cli("init", folder, *options, "--permission", "read", "--permission", "trade_spot").ok()
    made = Home(folder, cli)
    made.edit("    exchange: bybit\n", "    exchange: bybit\n    url: http://127.0.0.1:9\n    timeout: 3s\n")
    made.edit("  mm-bybit: # the bot, with keyturn.client beside its ccxt exchange\n", "  mm-bybit:\n")
    made.edit("    kind: client\n    mailbox: keyturn-data/mailbox\n", _CONSUMER.partition("\n")[2])
    return made


@pytest.fixture
def live(home: Home, venue: Venue) -> Home:
    """The same with the exchange served, both keys in the store, and a grace of an instant."""
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    return home
