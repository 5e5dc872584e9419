"""A `file` consumer that writes the key into freqtrade's own configuration."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyturn.consumers.file import RenderedFile
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import Notice, NoticeKind
from keyturn.domain.inventory import FileConsumer, FormatEntry
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.stores.formats import format_of

CONFIG: dict[str, Any] = {
    "max_open_trades": 3,
    "exchange": {
        "name": "okx",
        "key": "key-0",
        "secret": "not-a-real-secret-0",
        "pair_whitelist": ["BTC/USDT"],
    },
    "bot_name": "größe",
}


def stored(number: int, **more: Any) -> Stored:
    meta = KeyMeta("okx", "main", f"key-{number}", f"fp{number}", None, datetime.now(UTC))
    material = SecretMaterial(f"key-{number}", f"not-a-real-secret-{number}", **more)
    return Stored(SlotInfo(Slot.CURRENT, str(number), None, meta), material)


def notice(number: int) -> Notice:
    until = datetime.now(UTC) + timedelta(hours=1)
    return Notice("mm", "bot", f"r{number}", NoticeKind.PROMOTED, f"fp{number}", str(number), until)


def consumer(base: Path, current: Stored, **entry: Any) -> RenderedFile:
    async def read() -> Stored:
        return current

    entry = {"kind": "file", "path": "config.json", "format": "freqtrade", **entry}
    return RenderedFile("bot", FileConsumer.model_validate(entry), base=base, read_current=read)


async def test_the_key_goes_where_freqtrade_reads_it_and_all_else_is_kept(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    key = stored(1, passphrase="not-a-real-pass")
    await consumer(tmp_path, key).notify(notice(1))
    ours = {"key": "key-1", "secret": "not-a-real-secret-1", "password": "not-a-real-pass"}
    assert json.loads(file.read_text()) == {**CONFIG, "exchange": {**CONFIG["exchange"], **ours}}
    assert format_of(FormatEntry(kind="freqtrade")).parse(json.loads(file.read_text())) == key.material
    assert file.stat().st_mode & 0o777 == 0o600


async def test_without_a_file_it_makes_one_for_a_further_config(tmp_path):
    await consumer(tmp_path, stored(1)).notify(notice(1))
    document = json.loads((tmp_path / "config.json").read_text())
    assert document == {"exchange": {"key": "key-1", "secret": "not-a-real-secret-1"}}


async def test_a_passphrase_and_a_shadow_of_an_older_key_do_not_stay(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"exchange": {"name": "bybit", "apiKey": "key-0", "password": "x"}}))
    await consumer(tmp_path, stored(1)).notify(notice(1))
    exchange = json.loads(file.read_text())["exchange"]
    assert exchange == {"name": "bybit", "key": "key-1", "secret": "not-a-real-secret-1"}


async def test_a_notice_that_was_carried_out_is_not_carried_out_again(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    bot = consumer(tmp_path, stored(1), run=["/bin/sh", "-c", "echo ran >> runs"])
    for _ in range(3):
        await bot.notify(notice(1))
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("text", ['{"exchange": {} // mine\n}', "[]", ""])
async def test_a_file_with_comments_is_left_alone_and_the_way_out_is_named(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ConsumerError) as caught:
        await consumer(tmp_path, stored(1)).notify(notice(1))
    assert caught.value.fault is ConsumerFault.MISCONFIGURED
    assert "--config" in caught.value.todo
    assert "not-a-real" not in caught.value.diagnostics()
    assert file.read_text() == text


async def test_a_field_that_freqtrade_has_no_place_for_is_named(tmp_path):
    key = stored(1, extra={"wallet": "not-a-real-wallet"})
    with pytest.raises(ConsumerError, match="wallet") as caught:
        await consumer(tmp_path, key).notify(notice(1))
    assert "not-a-real" not in caught.value.diagnostics()
