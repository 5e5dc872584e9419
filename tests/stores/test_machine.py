"""Proxies and credentials of the environment that cannot be used are told as that, and nothing is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import AwsParameterStore, AwsSecretsManagerStore, VaultKv2Store
from keyturn.domain.slots import Slot

# Nobody listens there: whatever is sent would be told as a server that cannot be reached.
NOWHERE = "https://127.0.0.1:9"
UNUSABLE = ["socks5://127.0.0.1:1080", "ftp://127.0.0.1:21", "htp://127.0.0.1:1", "http://", "http://h:99999"]
SECRET = "not/a/real/aws/secret/of/forty/letters00"
Read = Callable[[], Awaitable[Any]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOTAREALKEY00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("VAULT_TOKEN_OF_THE_TEST", "not-a-real-token")


def vault(**auth: Any) -> Any:
    from keyturn.stores.vault_kv2 import open_vault_kv2

    given = auth or {"method": "token", "token": {"env": "VAULT_TOKEN_OF_THE_TEST"}}
    entry = {"kind": "vault_kv2", "addresses": [NOWHERE], "mount": "secret", "auth": given, "timeout": "1s"}
    return open_vault_kv2("main", VaultKv2Store.model_validate(entry), Path("/nonexistent"), {})


def aws(kind: str) -> Any:
    from keyturn.stores.aws import open_aws

    model = {"aws_secrets_manager": AwsSecretsManagerStore, "aws_parameter_store": AwsParameterStore}[kind]
    entry = {"kind": kind, "region": "eu-central-1", "endpoint_url": NOWHERE}
    return open_aws("main", model.model_validate(entry), {})


async def read(make: Callable[[], Any]) -> StoreError:
    async def used() -> None:
        store = make()
        try:
            await store.read("bots/mm", Slot.CURRENT)
        finally:
            await store.close()

    with pytest.raises(StoreError) as caught:
        await used()
    error = caught.value
    assert error.todo
    assert error.__cause__ is None
    return error


STORES = {
    "vault": vault,
    "secrets manager": lambda: aws("aws_secrets_manager"),
    "parameter store": lambda: aws("aws_parameter_store"),
}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("proxy", UNUSABLE)
async def test_a_proxy_of_the_environment_that_cannot_be_used_is_named_by_its_variable(
    store: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    error = await read(STORES[store])
    assert error.fault is StoreFault.MISCONFIGURED
    assert "no HTTP proxy" in error.what
    assert "https_proxy" in error.todo


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("skipped", ["127.0.0.1", "*"])
async def test_such_a_proxy_is_no_matter_where_it_is_not_asked(
    store: str, skipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", UNUSABLE[0])
    monkeypatch.setenv("no_proxy", skipped)
    assert (await read(STORES[store])).fault is StoreFault.UNAVAILABLE


@pytest.mark.parametrize("store", ["secrets manager", "parameter store"])
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize(
    "value", ["kept-by-nobody\n", "kept-by\r\nnobody", " kept-by-nobody", "kept-b\u00fd"]
)
async def test_aws_credentials_with_a_line_end_are_refused_unsent_and_unquoted(
    store: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    error = await read(STORES[store])
    assert error.fault is StoreFault.MISCONFIGURED
    assert "AWS credentials" in error.what
    assert "line end" in error.what
    assert "kept-b" not in error.diagnostics()


async def test_a_login_at_vault_with_such_aws_credentials_is_refused_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET + "\n")
    error = await read(lambda: vault(method="aws", role="keyturn"))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "line end" in error.what
    assert SECRET not in error.diagnostics()


@pytest.mark.parametrize("inner", ["\n", "\r", "\r\n", "\0"])
async def test_a_vault_token_with_a_line_end_is_refused_unsent_and_unquoted(
    inner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_bytes(f"not-a-real{inner}-token".encode())
    (tmp_path / "token").chmod(0o600)
    auth = {"method": "token", "token": {"file": str(tmp_path / "token")}}
    error = await read(lambda: vault(**auth))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "not-a-real" not in error.diagnostics()
