"""README.md is true: its commands run, its bot follows the key, its links and its proofs exist."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.simulator import IssuedKey, SimBybit

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
# The page speaks of a bot on another machine; here all is one machine.
THEIR_ADDRESS, OUR_ADDRESS = "203.0.113.7", "127.0.0.1"

# What a person's bot does around the lines of the page: it goes to the simulator, and it trades.
BOT = """
import time
import ccxt

def simulated(real=ccxt.bybit):
    exchange = real({{"enableRateLimit": False}})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], {url!r})
    return exchange

ccxt.bybit = simulated
{lines}
print("trading", flush=True)
while True:
    exchange.fetch_balance()
    time.sleep(0.1)
"""


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks(section("The first real inventory in five minutes"), "sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture
async def venue() -> AsyncIterator[tuple[SimBybit, IssuedKey, IssuedKey]]:
    async with SimBybit() as sim:
        sim.add_account("main")
        sim.add_account("bot", parent="main", uid="533285")
        manager = sim.add_key(
            "main", ["Wallet.AccountTransfer", "Wallet.SubMemberTransfer"], ips=[OUR_ADDRESS]
        )
        yield sim, manager, sim.add_key("bot", ["Spot.SpotTrade"], ips=[OUR_ADDRESS])


@pytest.mark.slow
async def test_the_first_inventory_works_as_the_page_says(
    tmp_path: Path, venue: tuple[SimBybit, IssuedKey, IssuedKey]
) -> None:
    sim, manager, first = venue
    setup = [["make", "setup"], [".", ".venv/bin/activate"]]
    given = commands()
    assert given[:2] == setup
    # The simulator needs the loop of this process: the walk goes on beside it, in a thread.

    outputs = await asyncio.to_thread(walk, tmp_path, given[2:], sim.base_url, manager, first)
    (minted,) = [key for key in sim.truth()["bot"] if key.minted_by_api]
    assert sim.calls_by(minted.key_ref).ok > 0
    assert sim.calls_by(minted.key_ref).refused == sim.calls_by(first.key_ref).refused == 0
    assert "grace" in outputs["rotate"]
    assert "mm-bybit" in outputs["status"]
    assert "consumer_confirmed" in outputs["history"]
    assert {"init", "check", "put", "doctor", "plan", "rotate", "status", "history"} <= outputs.keys()


def walk(
    folder: Path, given: list[list[str]], url: str, manager: IssuedKey, first: IssuedKey
) -> dict[str, str]:
    """Do what the page says, line by line; give what each command said."""
    outputs: dict[str, str] = {}
    bot: subprocess.Popen[str] | None = None
    try:
        for words in given:
            if words[0] == "cd":
                folder /= words[1]
                continue
            assert words[0] == "keyturn"
            if words[1] == "rotate":
                bot = start_bot(folder, url)
            key = manager if "--manager" in words else first
            outputs[words[1]] = run(folder, words[1:], key)
            if words[1] == "init":
                point_at(folder / words[2] / "keyturn.yaml", url)
    finally:
        if bot is not None:
            bot.kill()
            bot.wait()
    return outputs


def run(folder: Path, arguments: list[str], key: IssuedKey) -> str:
    typed = json.dumps({"api_key": key.key_ref, "secret": key.secret}) if arguments[0] == "put" else ""
    done = subprocess.run(
        [BIN / "keyturn", *(word.replace(THEIR_ADDRESS, OUR_ADDRESS) for word in arguments)],
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=90,
        env={name: value for name, value in os.environ.items() if not name.startswith("KEYTURN_")},
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def point_at(inventory: Path, url: str) -> None:
    text = inventory.read_text()
    assert "    exchange: bybit\n" in text
    inventory.write_text(text.replace("    exchange: bybit\n", f"    exchange: bybit\n    url: {url}\n"))


def start_bot(folder: Path, url: str) -> subprocess.Popen[str]:
    (lines,) = blocks(section("The first real inventory in five minutes"), "python")
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT.format(url=url, lines=lines)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bot.stdout
    assert bot.stdout.readline() == "trading\n"
    return bot


def proofs() -> Iterator[Any]:
    for promise, test in re.findall(r"^\| (.+) \| `(tests/.+)` \|$", TEXT, re.MULTILINE):
        for number, each in enumerate(test.split("`, `")):
            yield pytest.param(each, id=f"{promise}{number or ''}")


@pytest.mark.parametrize("test", list(proofs()))
def test_every_promise_names_a_test_that_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert (ROOT / path).exists()
    assert not name or re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_promises_are_there() -> None:
    assert len(list(proofs())) >= 12


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
    assert (ROOT / link).stat().st_size > 0


def test_the_two_commands_are_targets_of_make() -> None:
    (block,) = blocks(section("Two commands"), "sh")
    makefile = (ROOT / "Makefile").read_text()
    for line in block.splitlines():
        program, target = shlex.split(line, comments=True)
        assert program == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
