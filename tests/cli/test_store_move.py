"""`keyturn store move` on real files and a Vault on the wire, with a bot that follows without a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ccxt
import pytest
import requests

import keyturn.client
from keyturn.cli.rehouse import change, wanted
from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.inventory import FormatEntry, Inventory, MirrorAddress, StoreAddress
from keyturn.domain.inventory_text import parse_inventory
from keyturn.exchanges.catalog import manifests
from keyturn.simulator.vault import VaultSimulator
from keyturn.stores.keys import generate_identity
from tests.cli.processes import environment

from .conftest import CREDENTIAL, Home, Venue

OLD, NEW = f"local:bots/{CREDENTIAL}", f"vault:desk/{CREDENTIAL}"
TO = ("--to", "vault", "--path", f"desk/{CREDENTIAL}")


@pytest.fixture
def vault() -> Iterator[VaultSimulator]:
    with VaultSimulator() as served:
        answer = requests.post(
            f"{served.address}/v1/sys/mounts/secret",
            headers={"X-Vault-Token": served.root},
            json={"type": "kv", "options": {"version": "2"}},
            timeout=10,
        )
        assert answer.ok
        yield served


@pytest.fixture
def moving(live: Home, vault: VaultSimulator, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A credential in age files whose bot is a client, and a Vault to move to."""
    monkeypatch.setenv("MOVE_TOKEN", vault.root)
    consumer = "    kind: file\n    evidence: timed\n    path: bot-key.json\n"
    live.edit(consumer, "    kind: client\n    mailbox: keyturn-data/mailbox\n")
    entry = f"""stores:
  vault: # the house to move to
    kind: vault_kv2
    addresses: [{vault.address}]
    auth: {{method: token, token: {{env: MOVE_TOKEN}}}}
"""
    live.edit("stores:\n", entry)
    return live


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


def bot(home: Home, venue: Venue) -> keyturn.client.Attachment:
    exchange = ccxt.bybit({"enableRateLimit": False})
    exchange.urls["api"] = {
        name: venue.sim.base_url if isinstance(url, str) else url
        for name, url in exchange.urls["api"].items()
    }
    return keyturn.client.attach(exchange, CREDENTIAL, inventory=home.inventory, verify_after=0.1)


def key_in(home: Home, store: str, path: str) -> str | None:
    """Read a place as keyturn does; give the fingerprint."""
    import asyncio

    from keyturn.domain.slots import Slot
    from keyturn.settings import load_inventory
    from keyturn.wiring import InventoryAdapters

    async def read() -> str | None:
        adapters = InventoryAdapters(load_inventory(home.inventory, manifests=manifests()))
        stored = await adapters.store(store).read(path, Slot.CURRENT)
        await adapters.close()
        return stored.info.meta.fingerprint if stored and stored.info.meta else None

    return asyncio.run(read())


def places(home: Home) -> tuple[str | None, str | None]:
    return key_in(home, "local", f"bots/{CREDENTIAL}"), key_in(home, "vault", f"desk/{CREDENTIAL}")


def test_a_credential_moves_with_its_bot_and_the_old_copy_goes_last(moving: Home, venue: Venue) -> None:
    attachment = bot(moving, venue)
    mark = attachment.fingerprint
    try:
        copied = moving.json("store", "move", CREDENTIAL, *TO)
        assert (copied["step"], copied["from"], copied["to"]) == ("copied", OLD, NEW)
        assert places(moving) == (mark, mark)
        before = moving.inventory.read_text()
        told = moving.json("store", "move", CREDENTIAL, *TO, "--write")
        assert told["inventory_written"]
        page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
        documented = json.loads(page.split("### store move")[1].split("```json\n")[1].split("```")[0])
        assert set(documented) == set(told)
        after = moving.inventory.read_text()
        kept = [line for line in before.splitlines() if not line.startswith("    path: bots/")]
        assert [line for line in kept if line not in after.splitlines()] == []
        assert "# the house to move to" in after
        until(lambda: moving.json("store", "move", CREDENTIAL, *TO)["confirmed"] == [CREDENTIAL])
        done = moving.json("store", "move", CREDENTIAL, "--finish", "--write")
        assert (done["step"], done["missing"], done["next"]) == ("finished", {}, [])
        assert places(moving) == (None, mark)
        assert "mirrors" not in moving.inventory.read_text()
        moving.run("check").ok()
        # And it goes on rotating there, under the eyes of the same bot.
        moving.run("rotate", CREDENTIAL, "--reason", "in the new house").ok()
        until(lambda: attachment.fingerprint != mark)
        assert places(moving) == (None, attachment.fingerprint)
    finally:
        attachment.detach()


def test_a_bot_that_reads_the_old_place_keeps_the_old_copy_alive(moving: Home) -> None:
    moving.run("store", "move", CREDENTIAL, *TO, "--write").ok()
    refused = moving.run("store", "move", CREDENTIAL, "--finish", "--write")
    assert refused.code == 3
    assert CREDENTIAL in refused.err
    mark, other = places(moving)
    assert mark == other
    assert mark is not None
    assert f"mirrors: [{{store: local, path: bots/{CREDENTIAL}}}]" in moving.inventory.read_text()


def test_without_write_the_lines_to_change_are_told_and_the_file_stays(moving: Home) -> None:
    before = moving.inventory.read_text()
    text = moving.run("store", "move", CREDENTIAL, *TO).ok().out
    assert moving.inventory.read_text() == before
    for line in ("store: vault", f"path: desk/{CREDENTIAL}", "mirrors: [{store: local"):
        assert line in text
    again = moving.run("store", "move", CREDENTIAL, *TO).ok().out
    assert again == text


@pytest.mark.parametrize("seconds", [0.6, 0.9, 1.1, 1.3, 1.6])
def test_a_killed_move_is_finished_by_the_next(moving: Home, venue: Venue, seconds: float) -> None:
    mark = key_in(moving, "local", f"bots/{CREDENTIAL}")
    script = Path(sys.executable).with_name("keyturn")
    arguments = ["store", "move", CREDENTIAL, *TO, "--write", "-i", str(moving.inventory)]
    process = subprocess.Popen(
        [script, *arguments],
        env=environment(MOVE_TOKEN=os.environ["MOVE_TOKEN"]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    moving.run("check").ok()
    moving.run("store", "move", CREDENTIAL, *TO, "--write").ok()
    assert places(moving) == (mark, mark)
    with bot(moving, venue):
        until(lambda: moving.json("store", "move", CREDENTIAL, *TO)["confirmed"] == [CREDENTIAL])
        moving.run("store", "move", CREDENTIAL, "--finish", "--write").ok()
    assert places(moving) == (None, mark)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "nowhere"), "There is no store nowhere"),
        ((), "Say where to move"),
        (("--to", "vault", "--finish"), "Say where to move"),
        (("--to", "vault", "--path", "../etc"), "not a path"),
        (("--to", "local", "--path", "managers/main"), "the manager key of main is there"),
        (("--finish",), "no mirrors"),
        (("--finish", "--from", "local:managers/main"), "has a key of its own"),
        (("--to", "local"), "no mirrors"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_nothing_changed(
    moving: Home, arguments: tuple[str, ...], words: str
) -> None:
    before, there = moving.inventory.read_text(), places(moving)
    refused = moving.run("store", "move", CREDENTIAL, *arguments)
    assert refused.code in {2, 3}
    assert words in refused.err
    assert (moving.inventory.read_text(), places(moving)) == (before, there)


def test_nothing_moves_while_a_rotation_is_open(moving: Home, venue: Venue) -> None:
    venue.stop()
    moving.run("rotate", CREDENTIAL, "--reason", "to be in the way", "--no-wait")
    refused = moving.run("store", "move", CREDENTIAL, *TO, "--write")
    assert refused.code == 3
    assert "being rotated" in refused.err
    assert "vault:" in moving.inventory.read_text()
    assert f"desk/{CREDENTIAL}" not in moving.inventory.read_text()


# The lines of the inventory.

HEAD = """\
version: 1
stores:
  a: {kind: age_files, path: a, key: {env: K}}
  b: {kind: age_files, path: b, key: {env: K}} # the new one
  c: {kind: age_files, path: c, key: {env: K}}
accounts:
  main: {exchange: bybit, manager: {store: a, path: managers/main}}
credentials:
"""
TAIL = """\
consumers:
  bot: {kind: client}
defaults: {store: a}
"""
FIELDS = """\
    account: main
    subaccount: "2002"
    permissions: [read]
    no_ip_allowlist_reason: This is a test.
"""
ENTRIES = {
    "plain": f"  mm:\n{FIELDS}    path: bots/mm\n    consumers: [bot]\n",
    "with words": f"  mm: # the first\n{FIELDS}    path: bots/mm  # where\n    consumers: [bot] # who\n",
    "with a store": f"  mm:\n    store: a # here\n{FIELDS}    path: bots/mm\n    consumers: [bot]\n",
    "quoted": f"  mm:\n    path: 'bots/mm'\n{FIELDS}    consumers: [bot]\n",
    "last in the file": f"  mm:\n{FIELDS}    consumers: [bot]\n    path: bots/mm\n",
    "with a mirror": f"  mm:\n{FIELDS}    path: bots/mm\n    mirrors: [{{store: c, path: x}}] # far\n"
    "    consumers: [bot]\n",
    "with a block of mirrors": f"  mm:\n{FIELDS}    path: bots/mm\n    mirrors:\n    - store: c\n"
    "      path: x\n    consumers: [bot]\n",
    "with a neighbour": f"  aa:\n{FIELDS}    path: bots/aa\n  mm:\n{FIELDS}    path: bots/mm\n"
    "    consumers: [bot]\n",
}
CANNOT = {
    "in one line": "  mm: {account: main, subaccount: '2002', permissions: [read], path: bots/mm,"
    " consumers: [bot], no_ip_allowlist_reason: This is a test.}\n",
    "with its name in quotes": f'  mm:\n{FIELDS}    "path": bots/mm\n    consumers: [bot]\n',
    "on two lines": f"  mm:\n{FIELDS}    path:\n      bots/mm\n    consumers: [bot]\n",
    "with words between its mirrors": f"  mm:\n{FIELDS}    path: bots/mm\n    mirrors:\n      # far\n"
    "      - {store: c, path: x}\n    consumers: [bot]\n",
}


def edited(text: str, to: StoreAddress, *, without: StoreAddress | None = None) -> tuple[str, Inventory]:
    before = parse_inventory(text, manifests=manifests()).inventory
    after = wanted(before, "mm", to, without=without)
    return change(text, "mm", before, after, manifests()).text, after


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_lines_are_changed_and_changed_back_with_every_comment_kept(entry: str) -> None:
    text = HEAD + entry + TAIL
    old, new = StoreAddress(store="a", path="bots/mm"), StoreAddress(store="b", path="new/mm")
    moved, after = edited(text, new)
    assert parse_inventory(moved, manifests=manifests()).inventory == after
    assert after.store_of("mm") == new
    assert [(m.store, m.path) for m in after.credentials["mm"].mirrors][-1] == (old.store, old.path)
    finished, _ = edited(moved, new, without=old)
    back, _ = edited(finished, old)
    last, after = edited(back, old, without=new)
    assert after.store_of("mm") == old
    for comment in ("# the new one", "# the first", "# where", "# who", "# here", "# far"):
        assert (comment in last) == (comment in text), comment
    untouched = [line for line in text.splitlines() if "path: bots/mm" not in line and "bots/mm'" not in line]
    block = "block" in "".join(k for k, v in ENTRIES.items() if v == entry)
    assert block or [line for line in untouched if line not in last.splitlines()] == []


@pytest.mark.parametrize("entry", CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_changed_without_doubt_is_left_and_told(entry: str) -> None:
    text = HEAD + entry + TAIL
    with pytest.raises(RefusedError) as caught:
        edited(text, StoreAddress(store="b", path="new/mm"))
    assert "store: b; path: new/mm; mirrors: [" in caught.value.todo
    assert "{store: a, path: bots/mm}]" in caught.value.todo


def test_the_format_of_the_old_place_stays_with_it(tmp_path: Path) -> None:
    remote = "{kind: vault_kv2, addresses: ['https://v:8200'], auth: {method: token, token: {env: T}}}"
    other = remote.replace("//v", "//w")
    text = (
        HEAD.replace("stores:\n", f"stores:\n  v: {remote}\n  w: {other}\n")
        + ENTRIES["plain"].replace("    path:", "    store: v\n    format: {kind: freqtrade}\n    path:")
        + TAIL
    )
    moved, after = edited(text, StoreAddress(store="w", path="bots/mm"))
    mirror = after.credentials["mm"].mirrors[0]
    assert mirror == MirrorAddress(store="v", path="bots/mm", format=FormatEntry(kind="freqtrade"))
    assert parse_inventory(moved, manifests=manifests()).inventory == after
    generate_identity(tmp_path / "age.key")
    with pytest.raises(KeyturnError) as caught:
        edited(text, StoreAddress(store="b", path="bots/mm"))
    problems: Any = getattr(caught.value, "problems", ())
    assert "no bot reads them in the format freqtrade" in "".join(problems)
