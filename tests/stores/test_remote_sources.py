"""A bot follows its key in Vault and in AWS, with rights to read that key and no other."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ccxt
import pytest

import keyturn.client
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import NoticeMessage
from keyturn.client.settings import StoreSource, for_a_bot, source_of
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.evidence import NoticeKind
from keyturn.domain.inventory import AwsSecretsManagerStore, Inventory, VaultKv2Store
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.ports.store import SecretStore
from keyturn.stores.catalog import open_store
from keyturn.stores.formats import formats_of
from keyturn.testing.store_contract_support import put_key, stage_key

from .aws_server import REGION
from .vault_server import Server, simulated

NAME, PATH = "mm", "bots/mm"
FREQTRADE = {"kind": "freqtrade"}


@pytest.fixture(scope="module")
def vault() -> Iterator[Server]:
    with simulated() as server:
        yield server


@dataclass
class House:
    """An inventory with one credential, keyturn's store for it, and the bot's source."""

    inventory: Inventory
    store: SecretStore
    folder: Path
    path: str

    def source(self, **options: Any) -> StoreSource:
        found = source_of(self.inventory, self.folder, NAME, **options)
        assert isinstance(found, StoreSource)
        return found

    async def rotate(self, number: int) -> str:
        attempt, name = Attempt(f"r{number}", 1), f"n{number}"
        current = await self.store.peek(self.path, Slot.CURRENT)
        await stage_key(self.store, self.path, attempt, name)
        await self.store.promote(self.path, attempt, expect_current=current.version if current else None)
        return f"fp{name}"


def inventory(store: dict[str, Any], path: str, form: dict[str, Any] | None = None) -> Inventory:
    return Inventory.model_validate(
        {
            "version": 1,
            "stores": {"remote": store},
            "accounts": {"main": {"exchange": "bybit", "manager": {"store": "remote", "path": "managers/m"}}},
            "credentials": {
                NAME: {
                    "account": "main",
                    "permissions": ["read"],
                    "store": "remote",
                    "path": path,
                    "consumers": ["bot"],
                    "format": form or {"kind": "field"},
                }
            },
            "consumers": {"bot": {"kind": "client"}},
        }
    )


@pytest.fixture(params=["vault", "secrets manager", "parameter store"])
async def house(
    request: pytest.FixtureRequest, vault: Server, aws: str, tmp_path: Path
) -> AsyncIterator[House]:
    path = f"bots/{tmp_path.name}".lower()
    if request.param == "vault":
        entry = vault_entry(vault, tmp_path, path)
    else:
        kind = "aws_" + request.param.replace(" ", "_")
        entry = {"kind": kind, "region": REGION, "endpoint_url": aws}
    made = inventory(entry, path)
    store = open_store("remote", made.stores["remote"], tmp_path, formats_of(made, "remote"))
    await put_key(store, path, "n0")
    yield House(made, store, tmp_path, path)
    await store.close()


def vault_entry(server: Server, folder: Path, path: str) -> dict[str, Any]:
    """Give an entry with two logins: keyturn's, which may all, and the bot's, which may read its key."""
    rotator = server.approle(folder, server.policy("rotator", PATHS="bots"))
    consumer = server.approle(folder, server.policy("consumer", CREDENTIAL=path))
    entry = server.entry(rotator, consumer_auth=consumer)
    return entry.model_dump(mode="json", exclude_none=True)


def until(true: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait until something holds; give how long it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() < begun + seconds, "it did not become true in time"
        time.sleep(0.01)
    return time.monotonic() - begun


async def test_a_bot_sees_a_rotation_in_under_a_second(house: House) -> None:
    attachment = keyturn.client.attach(ccxt.bybit(), NAME, source=house.source(), verify_with=None)
    try:
        assert attachment.fingerprint == "fpn0"
        time.sleep(0.7)
        for number in (1, 2):
            mark = await house.rotate(number)
            assert until(lambda mark=mark: attachment.fingerprint == mark) < 1.0
    finally:
        attachment.detach()


async def test_a_notice_has_the_key_read_at_once(house: House, tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "mailbox" / NAME)
    attachment = keyturn.client.attach(
        ccxt.bybit(), NAME, source=house.source(pace=3600), mailbox=tmp_path / "mailbox", verify_with=None
    )
    try:
        time.sleep(0.5)
        mark = await house.rotate(1)
        time.sleep(0.7)
        assert attachment.fingerprint == "fpn0", "nobody asked yet"
        told = NoticeMessage(
            credential=NAME,
            consumer=NAME,
            rotation_id="r1",
            fingerprint=mark,
            kind=NoticeKind.PROMOTED,
            version="1",
            confirm_by=datetime.now(UTC) + timedelta(hours=1),
        )
        box.put(told)
        assert until(lambda: attachment.fingerprint == mark) < 1.0
    finally:
        attachment.detach()


async def test_the_store_is_asked_at_the_pace_and_never_for_the_secret_in_vain(house: House) -> None:
    found = house.source()
    asked, read = [], []
    counted = StoreSource(_Counting(found.store, asked, read), found.path, pace=found.pace)
    begun = time.monotonic()
    attachment = keyturn.client.attach(ccxt.bybit(), NAME, source=counted, verify_with=None)
    until(lambda: len(asked) >= 5, 30)
    attachment.detach()
    assert time.monotonic() - begun > 1.4, "four pauses of half a second, less what a timer may be early"
    # At the attaching, and once more when the first sign of the store comes.
    assert len(read) == 2


class _Counting:
    def __init__(self, store: Any, asked: list[str], read: list[Slot]) -> None:
        self._store, self._asked, self._read = store, asked, read

    def signature(self, path: str) -> object:
        self._asked.append(path)
        return self._store.signature(path)

    def read_sync(self, path: str, slot: Slot) -> Any:
        self._read.append(slot)
        return self._store.read_sync(path, slot)


async def test_a_store_that_is_away_leaves_the_bot_its_key(vault: Server, tmp_path: Path) -> None:
    made = inventory(vault_entry(vault, tmp_path, PATH), PATH)
    store = open_store("remote", made.stores["remote"], tmp_path)
    await put_key(store, PATH, "n0")
    found = source_of(made, tmp_path, NAME)
    away = threading.Event()

    class Flaky:
        def signature(self, path: str) -> object:
            if away.is_set():
                raise StoreError(StoreFault.UNAVAILABLE, "The store does not answer.")
            return found.store.signature(path)  # type: ignore[attr-defined]

        def read_sync(self, path: str, slot: Slot) -> Any:
            if away.is_set():
                raise StoreError(StoreFault.UNAVAILABLE, "The store does not answer.")
            return found.store.read_sync(path, slot)  # type: ignore[attr-defined]

    attachment = keyturn.client.attach(ccxt.bybit(), NAME, source=StoreSource(Flaky(), PATH, pace=0.1))
    away.set()
    time.sleep(0.6)
    mark = await House(made, store, tmp_path, PATH).rotate(1)
    assert attachment.fingerprint == "fpn0"
    away.clear()
    until(lambda: attachment.fingerprint == mark)
    attachment.detach()
    await store.close()


async def test_a_bots_login_reads_its_key_and_nothing_else(vault: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    made = inventory(vault_entry(vault, tmp_path, path), path)
    store = open_store("remote", made.stores["remote"], tmp_path)
    await put_key(store, path, "n0")
    await put_key(store, f"{path}x", "other")
    await stage_key(store, path, Attempt("r1", 1), "pending")
    found = source_of(made, tmp_path, NAME)
    stored = found.read(Slot.CURRENT)
    assert stored is not None
    assert stored.material.key_ref == "key-n0"
    with pytest.raises(StoreError) as caught:
        found.read(Slot.PENDING)
    assert caught.value.fault is StoreFault.DENIED
    with pytest.raises(StoreError) as caught:
        found.store.read_sync(f"{path}x", Slot.CURRENT)  # type: ignore[attr-defined]
    assert caught.value.fault is StoreFault.DENIED
    await store.close()


async def test_a_token_in_the_environment_goes_first(
    vault: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"bots/{tmp_path.name}"
    entry = vault_entry(vault, tmp_path, path)
    made = inventory(entry, path)
    store = open_store("remote", made.stores["remote"], tmp_path)
    await put_key(store, path, "n0")
    token, _ = vault.token(tmp_path, vault.policy("consumer", CREDENTIAL=path))
    useless = {**entry, "consumer_auth": {"method": "token", "token": {"env": "NOT_SET_ANYWHERE"}}}
    made = inventory(useless, path)
    with pytest.raises(StoreError):
        source_of(made, tmp_path, NAME).read(Slot.CURRENT)
    for variable in ("VAULT_TOKEN", "KEYTURN_VAULT_TOKEN"):
        monkeypatch.setenv(variable, token)
        stored = source_of(made, tmp_path, NAME).read(Slot.CURRENT)
        assert stored is not None
        monkeypatch.delenv(variable)
    await store.close()


async def test_a_bot_reads_the_format_that_was_written(vault: Server, tmp_path: Path) -> None:
    path = f"bots/{tmp_path.name}"
    made = inventory(vault_entry(vault, tmp_path, path), path, FREQTRADE)
    store = open_store("remote", made.stores["remote"], tmp_path, formats_of(made, "remote"))
    await put_key(store, path, "n0")
    assert vault.get(path)["exchange"]["key"] == "key-n0"
    stored = source_of(made, tmp_path, NAME).read(Slot.CURRENT)
    assert stored is not None
    assert stored.material.key_ref == "key-n0"
    await store.close()


def test_keyturns_own_role_is_not_the_bots() -> None:
    entry = AwsSecretsManagerStore(
        kind="aws_secrets_manager",
        region=REGION,
        profile="rotator",
        assume_role="arn:aws:iam::123456789012:role/keyturn",
        external_id="x",
    )
    bots = for_a_bot(entry)
    assert isinstance(bots, AwsSecretsManagerStore)
    assert (bots.profile, bots.assume_role, bots.external_id) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "missing", "extra"),
    [("vault_kv2", "hvac", "keyturn[vault]"), ("aws_secrets_manager", "boto3", "keyturn[aws]")],
)
def test_what_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, kind: str, missing: str, extra: str
) -> None:
    stores: dict[str, dict[str, Any]] = {
        "vault_kv2": {
            "kind": "vault_kv2",
            "addresses": ["http://127.0.0.1:9"],
            "auth": {"method": "token", "token": {"env": "T"}},
        },
        "aws_secrets_manager": {"kind": "aws_secrets_manager", "region": REGION},
    }
    VaultKv2Store.model_validate(stores["vault_kv2"])
    (tmp_path / "keyturn.yaml").write_text(inventory(stores[kind], PATH).model_dump_json(exclude_none=True))
    program = f"""
import sys
sys.modules[{missing!r}] = None
import keyturn.client
from keyturn.domain.errors import KeyturnError
try:
    keyturn.client.current({NAME!r}, inventory="keyturn.yaml")
except KeyturnError as error:
    print(error.diagnostics())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert missing in done.stdout
    assert extra in done.stdout


@pytest.mark.parametrize("kind", ["vault", "aws"])
def test_a_bot_imports_the_library_of_its_own_store_alone(
    tmp_path: Path, vault: Server, aws: str, kind: str
) -> None:
    store = (
        vault_entry(vault, tmp_path, PATH)
        if kind == "vault"
        else {"kind": "aws_secrets_manager", "region": REGION, "endpoint_url": aws}
    )
    (tmp_path / "keyturn.yaml").write_text(inventory(store, PATH).model_dump_json(exclude_none=True))
    program = f"""
import json, sys
import keyturn.client
from keyturn.domain.errors import KeyturnError
before = set(sys.modules)
try:
    keyturn.client.current({NAME!r}, inventory="keyturn.yaml")
except KeyturnError:
    pass
print(json.dumps([sorted(m for m in seen if "." not in m) for seen in (before, set(sys.modules))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, after = map(set, json.loads(done.stdout))
    own, other = ("hvac", "boto3") if kind == "vault" else ("boto3", "hvac")
    assert not before & {"hvac", "boto3", "botocore", "requests"}
    assert own in after
    assert not after & {other, "prefect", "sqlalchemy", "alembic", "typer", "fastapi"}
