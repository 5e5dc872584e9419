"""Formats in AWS: the bot's document holds the key as the bot reads it, through every move of the slots."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.inventory import FormatEntry
from keyturn.domain.slots import Slot
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import Formats, format_of
from keyturn.testing.store_contract_support import (
    fake_meta,
    key_in,
    keys_in,
    put_key,
)

from .aws_server import REGION
from .format_cases import (
    ATTEMPT,
    ENV,
    FREQTRADE,
    NESTED,
    OLD,
    other_lines_are_kept,
    turned,
    what_does_not_fit_is_refused,
    what_is_in_the_way_is_told_before_a_key_is_made,
)

Store = AwsSecretsManager | AwsParameterStore


class Account:
    """Opens stores, and looks at a path as a bot does."""

    def __init__(self, url: str, kind: type[Store], path: str) -> None:
        self.wire, self.kind, self.path = Wire("aws", region=REGION, endpoint_url=url), kind, path

    def open(self, entry: FormatEntry) -> Store:
        return self.kind(self.wire, formats=Formats({self.path: format_of(entry)}))

    def write(self, document: dict[str, Any]) -> None:
        text = json.dumps(document)
        if self.kind is AwsSecretsManager:
            self.wire.call("secretsmanager", "create_secret", Name=self.path, SecretString=text)
        else:
            self.wire.call(
                "ssm", "put_parameter", Name=f"/{self.path}", Value=text, Type="SecureString", Overwrite=True
            )

    def read(self) -> dict[str, Any]:
        if self.kind is AwsSecretsManager:
            text = self.wire.call(
                "secretsmanager", "get_secret_value", SecretId=self.path, VersionStage="AWSCURRENT"
            )["SecretString"]
        else:
            found = self.wire.call("ssm", "get_parameter", Name=f"/{self.path}", WithDecryption=True)
            text = found["Parameter"]["Value"]
        return {k: v for k, v in json.loads(text).items() if k != "keyturn"}


@pytest.fixture(params=[AwsSecretsManager, AwsParameterStore])
async def account(aws: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Account]:
    made = Account(aws, request.param, f"bots/{tmp_path.name}")
    yield made
    await made.wire.close()


async def test_a_rotation_writes_what_the_bot_reads_and_keeps_the_rest(account: Account) -> None:
    path = account.path
    account.write({"exchange": OLD, "fee": 1})
    store = account.open(FREQTRADE)
    done = await turned(store, path, account.read)
    current = await store.peek(path, Slot.CURRENT)
    assert current is not None
    assert current.meta == fake_meta("new", ATTEMPT), "it is known as ours"
    await store.restore_previous(path, expect_current=done.current)
    assert account.read() == {"exchange": OLD, "fee": 1}


async def test_what_was_written_in_one_format_is_read_under_another(account: Account) -> None:
    path = account.path
    one, other = account.open(FREQTRADE), account.open(ENV)
    first = await put_key(one, path, "one")
    assert await key_in(other, path, Slot.CURRENT) == "key-one"
    await put_key(other, path, "two", first.version)
    text = "FREQTRADE__EXCHANGE__KEY=key-two\nFREQTRADE__EXCHANGE__SECRET=not-a-real-secret-two\n"
    assert account.read() == {"env": text}
    assert await keys_in(one, path) == (None, "key-two", "key-one")


async def test_a_key_that_the_bot_would_misread_is_not_written(account: Account) -> None:
    path, store = account.path, account.open(ENV)
    await what_does_not_fit_is_refused(store, path)
    assert await key_in(store, path, Slot.PENDING) == "key-new"


async def test_a_rotation_keeps_the_other_lines_of_an_env(account: Account) -> None:
    await other_lines_are_kept(account.open(ENV), account.path, account.write, account.read)


async def test_what_is_in_the_way_of_a_field_is_kept_and_told(account: Account) -> None:
    store = account.open(NESTED)
    await what_is_in_the_way_is_told_before_a_key_is_made(store, account.path, account.write, account.read)
