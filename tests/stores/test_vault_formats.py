"""Formats in Vault: the bot's document holds the key as the bot reads it, through every move of the slots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keyturn.domain.inventory import FormatEntry
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.stores.formats import Formats, format_of
from keyturn.stores.vault_kv2 import VaultKv2Store, open_vault_kv2
from keyturn.testing.store_contract_support import (
    key_in,
    keys_in,
    put_key,
)

from .format_cases import (
    ENV,
    FREQTRADE,
    NESTED,
    OLD,
    other_lines_are_kept,
    turned,
    what_does_not_fit_is_refused,
    what_is_in_the_way_is_told_before_a_key_is_made,
)
from .vault_cases import server
from .vault_server import Server

__all__ = ["server"]


def opened(server: Server, folder: Path, path: str, entry: FormatEntry) -> VaultKv2Store:
    auth = server.approle(folder, server.policy("rotator", PATHS="bots"))
    return open_vault_kv2("vault", server.entry(auth), folder, Formats({path: format_of(entry)}))


def without_notes(document: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != "keyturn"}


async def test_a_rotation_writes_what_the_bot_reads_and_keeps_the_rest(
    server: Server, tmp_path: Path
) -> None:
    path = f"bots/{tmp_path.name}"
    server.put(path, {"exchange": OLD, "fee": 1})
    store = opened(server, tmp_path, path, FREQTRADE)
    done = await turned(store, path, lambda: without_notes(server.get(path)))
    await store.restore_previous(path, expect_current=done.current)
    assert server.get(path)["exchange"]["key"] == "key-old"
    assert server.get(path)["exchange"]["name"] == "bybit"
    await store.close()


async def test_what_was_written_in_one_format_is_read_under_another(server: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    one, other = opened(server, tmp_path, path, FREQTRADE), opened(server, tmp_path, path, ENV)
    first = await put_key(one, path, "one")
    assert await key_in(other, path, Slot.CURRENT) == "key-one"
    second = await put_key(other, path, "two", first.version)
    text = "FREQTRADE__EXCHANGE__KEY=key-two\nFREQTRADE__EXCHANGE__SECRET=not-a-real-secret-two\n"
    assert without_notes(server.get(path)) == {"env": text}
    assert await keys_in(one, path) == (None, "key-two", "key-one")
    await one.restore_previous(path, expect_current=second.version)
    assert server.get(path)["exchange"]["key"] == "key-one"
    assert "env" not in server.get(path)
    await one.close()
    await other.close()


async def test_a_key_that_the_bot_would_misread_is_not_written(server: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    store = opened(server, tmp_path, path, ENV)
    await what_does_not_fit_is_refused(store, path)
    assert "12e4" not in json.dumps(server.get(f"keyturn/pending/{path}"))
    await store.close()


async def test_an_edit_by_hand_is_somebody_elses_key(server: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    store = opened(server, tmp_path, path, FREQTRADE)
    info = await put_key(store, path, "one")
    document = server.get(path)
    document["exchange"]["secret"] = "not-a-real-secret-by-hand"
    server.put(path, document)
    there = await store.read(path, Slot.CURRENT)
    assert there is not None
    assert there.info.meta is None
    assert there.info.version != info.version
    assert there.material == SecretMaterial("key-one", "not-a-real-secret-by-hand")
    await store.close()


async def test_a_rotation_keeps_the_other_lines_of_an_env(server: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    store = opened(server, tmp_path, path, ENV)
    await other_lines_are_kept(
        store, path, lambda document: server.put(path, document), lambda: without_notes(server.get(path))
    )
    await store.close()


async def test_what_is_in_the_way_of_a_field_is_kept_and_told(server: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    store = opened(server, tmp_path, path, NESTED)
    await what_is_in_the_way_is_told_before_a_key_is_made(
        store, path, lambda document: server.put(path, document), lambda: without_notes(server.get(path))
    )
    await store.close()
