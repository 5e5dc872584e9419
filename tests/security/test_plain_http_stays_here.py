"""No key, token or notice goes in plain http to another machine, whoever names that machine."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from keyturn.domain.errors import InventoryError, JournalError, StoreError, StoreFault
from keyturn.domain.inventory import Inventory, VaultKv2Store
from keyturn.domain.inventory_stores import AwsSecretsManagerStore
from keyturn.domain.slots import Slot
from keyturn.exchanges.catalog import manifests
from keyturn.settings import load_inventory

EVIL = [
    "http://evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example/",
    "http://127.0.0.1#evil.example/",
    "http://2130706433",
    "http://localhost.",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "https://",
    "https://h.example:0",
    "https://h.example:65536",
    "https://h.example:abc",
    "https://h.example /",
    "https://v\u0430ult.example",
]
VAULT = {"kind": "vault_kv2", "auth": {"method": "token", "token": {"env": "T"}}}
AWS = {"kind": "aws_secrets_manager", "region": "eu-central-1"}
#: Each place of the inventory where a URL of http stands.
PLACES: dict[str, Any] = {
    "stores.x.addresses[0]": lambda url: {"stores": {"x": {**VAULT, "addresses": [url]}}},
    "stores.x.addresses[1]": lambda url: {
        "stores": {"x": {**VAULT, "addresses": ["https://v.example", url]}}
    },
    "stores.x.endpoint_url": lambda url: {"stores": {"x": {**AWS, "endpoint_url": url}}},
    "accounts.main.url": lambda url: {"accounts": {"main": {"url": url}}},
    "consumers.w.url": lambda url: {
        "consumers": {"w": {"kind": "webhook", "url": url, "hmac_key": {"env": "K"}}}
    },
    "accounts.main.egress_proxy": lambda url: {"accounts": {"main": {"egress_proxy": url}}},
    "credentials.mm.egress_proxy": lambda url: {"credentials": {"mm": {"egress_proxy": url}}},
}
ASSUMED = """\
[default]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
services = s
[profile base]
aws_access_key_id = AKIANOTAREALKEY00000
aws_secret_access_key = not-a-real-secret
[services s]
sts =
  endpoint_url = http://evil.invalid
"""
# A proxy may be plain on another machine: what goes through it is TLS.
_FINE_FOR_A_PROXY = {"http://evil.example", "http://127.0.0.1.evil.example", "http://localhost."}


def written(folder: Path, change: dict[str, Any]) -> Path:
    base: dict[str, Any] = {
        "version": 1,
        "stores": {"s": {"kind": "age_files", "path": "secrets", "key": {"file": "age.txt"}}},
        "accounts": {"main": {"exchange": "bybit", "manager": {"store": "s", "path": "managers/main"}}},
        "credentials": {
            "mm": {
                "account": "main",
                "subaccount": "533285",
                "permissions": ["read"],
                "ip_allowlist": ["203.0.113.7"],
                "store": "s",
                "path": "bots/mm",
            }
        },
    }
    for section, entries in change.items():
        for name, fields in entries.items():
            base.setdefault(section, {}).setdefault(name, {}).update(fields)
    path = folder / "key turn.yaml"
    path.write_text(yaml.safe_dump(base, allow_unicode=True))
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("url", EVIL)
def test_the_inventory_refuses_it_in_every_place_and_names_the_entry(
    tmp_path: Path, place: str, url: str
) -> None:
    path = written(tmp_path, PLACES[place](url))
    if "proxy" in place and url in _FINE_FOR_A_PROXY:
        load_inventory(path, manifests=manifests())
        return
    with pytest.raises(InventoryError) as refused:
        load_inventory(path, manifests=manifests())
    (problem,) = refused.value.problems
    secret = f"{place}: this value has the form of a secret"
    assert f"{place}: " in problem
    assert re.search(r"; (write|leave) ", problem) or secret in problem
    assert "evil" not in problem
    assert refused.value.todo.endswith(f"keyturn check --inventory '{path}'")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "url", ["https://h.example:8200", "http://127.0.0.1:8200", "http://[::1]", "http://localhost:1"]
)
def test_the_inventory_takes_its_neighbours(tmp_path: Path, place: str, url: str) -> None:
    load_inventory(written(tmp_path, PLACES[place](url)), manifests=manifests())


def test_no_field_of_the_inventory_for_a_url_is_left_out() -> None:
    """Whatever is called a URL, an address, an endpoint or a proxy is in the list above."""
    found: set[str] = set()
    todo: list[Any] = [Inventory]
    seen: set[Any] = set()
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            if re.search(r"(^|_)(url|urls|uri|address|addresses|endpoint|proxy|host|server)(_|$)", name):
                found.add(f"{model.__name__}.{name}")
            todo += [each for each in _inside(field.annotation) if issubclass(each, BaseModel)]
    assert found == {
        "VaultKv2Store.addresses",
        "AwsSecretsManagerStore.endpoint_url",
        "AwsParameterStore.endpoint_url",
        "AccountEntry.url",
        "AccountEntry.egress_proxy",
        "CredentialEntry.egress_proxy",
        "WebhookConsumer.url",
        "JournalEntry.url",
    }


def _inside(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _inside(part)


@pytest.mark.parametrize("proxied", ["accounts", "credentials"])
def test_a_plain_url_of_this_machine_is_not_called_through_a_proxy_on_another(
    tmp_path: Path, proxied: str
) -> None:
    change: dict[str, Any] = {"accounts": {"main": {"url": "http://127.0.0.1:9000"}}}
    name = "main" if proxied == "accounts" else "mm"
    change.setdefault(proxied, {}).setdefault(name, {})["egress_proxy"] = "http://proxy.example:3128"
    with pytest.raises(InventoryError, match="cannot be used") as refused:
        load_inventory(written(tmp_path, change), manifests=manifests())
    assert f"{proxied}.{name}.egress_proxy: another machine" in refused.value.problems[0]
    change[proxied][name]["egress_proxy"] = "http://127.0.0.1:3128"
    load_inventory(written(tmp_path, change), manifests=manifests())


class Ear:
    """A server that takes whatever comes and keeps it: a proxy, or a server, of somebody else."""

    def __init__(self) -> None:
        self.heard = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.heard += connection.recv(65536)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIANOTAREALKEY00000",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", ())
    return monkeypatch


def _read_aws(**entry: Any) -> StoreError:
    from keyturn.stores.aws import open_aws

    async def read() -> None:
        store = open_aws("mirror", AwsSecretsManagerStore.model_validate({**AWS, "timeout": "1s", **entry}))
        try:
            await store.read("bots/mm", Slot.CURRENT)
        finally:
            await store.close()

    with pytest.raises(StoreError) as refused:
        asyncio.run(read())
    assert refused.value.__context__ is None
    return refused.value


@pytest.mark.parametrize(
    "variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_STS"]
)
@pytest.mark.parametrize("url", [url for url in EVIL if "\u0430" not in url])
def test_a_variable_that_steers_aws_elsewhere_is_refused_by_its_name(
    aws: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    aws.setenv(variable, url)
    error = _read_aws()
    assert error.fault is StoreFault.MISCONFIGURED
    assert variable in error.what
    assert variable in error.todo
    assert "evil" not in error.diagnostics()


@pytest.mark.parametrize(
    "config",
    [
        "[default]\nendpoint_url = http://evil.invalid\n",
        "[default]\nservices = s\n[services s]\nsecrets_manager =\n  endpoint_url = http://evil.invalid\n",
        "[default]\nendpoint_url = ftp://127.0.0.1\n",
        "[default]\nendpoint_url = http://\n",
        # The call that fetches the credentials of a role goes there first.
        ASSUMED,
    ],
    ids=["of all", "of the service", "ftp", "no host", "of sts"],
)
def test_an_aws_configuration_that_steers_elsewhere_is_refused_before_anything_is_sent(
    aws: pytest.MonkeyPatch, tmp_path: Path, config: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a call was sent")

    (tmp_path / "config").write_text(config)
    if "role_arn" in config:
        aws.delenv("AWS_ACCESS_KEY_ID")
        aws.delenv("AWS_SECRET_ACCESS_KEY")
    aws.setattr("botocore.httpsession.URLLib3Session.send", never)
    error = _read_aws()
    assert error.fault is StoreFault.MISCONFIGURED, error.what
    assert "endpoint_url" in error.todo
    assert "evil" not in error.diagnostics()


def test_a_role_is_not_assumed_at_an_sts_elsewhere(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a call was sent")

    services = "[default]\nservices = s\n[services s]\nsts =\n  endpoint_url = http://evil.invalid\n"
    (tmp_path / "config").write_text(services)
    aws.setattr("botocore.httpsession.URLLib3Session.send", never)
    error = _read_aws(assume_role="arn:aws:iam::123456789012:role/keyturn")
    assert error.fault is StoreFault.MISCONFIGURED


def test_no_proxy_of_the_environment_hears_what_goes_in_plain_http(aws: pytest.MonkeyPatch, ear: Ear) -> None:
    """A token, and a signed call with a secret in it, to servers of this machine."""
    from keyturn.stores.vault_kv2 import open_vault_kv2

    for name in ("no_proxy", "NO_PROXY"):
        aws.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        aws.setenv(name, f"http://127.0.0.1:{ear.port}")
    aws.setenv("VAULT_TOKEN_OF_THE_TEST", "not-a-real-token")
    entry = {
        "kind": "vault_kv2",
        "addresses": ["http://127.0.0.1:9"],
        "auth": {"method": "token", "token": {"env": "VAULT_TOKEN_OF_THE_TEST"}},
        "timeout": "1s",
    }

    async def read() -> None:
        store = open_vault_kv2("main", VaultKv2Store.model_validate(entry), Path("/nonexistent"), {})
        store._session._adapter.pause = lambda _: None
        try:
            await store.read("bots/mm", Slot.CURRENT)
        finally:
            await store.close()

    with pytest.raises(StoreError):
        asyncio.run(read())
    _read_aws(endpoint_url="http://127.0.0.1:9")
    assert ear.heard == b""


@pytest.mark.parametrize("variable", ["PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE"])
def test_a_variable_that_leads_the_journal_elsewhere_without_tls_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    from keyturn.journal.database import locate

    monkeypatch.setenv(variable, "203.0.113.7")
    with pytest.raises(JournalError, match=variable) as refused:
        locate("postgresql://keyturn@127.0.0.1/journal")
    assert "203.0.113.7" not in refused.value.diagnostics()
    locate("postgresql://keyturn@127.0.0.1/journal?sslmode=verify-full")


def test_a_token_file_of_kubernetes_can_be_set_and_a_token_in_its_place_is_refused(tmp_path: Path) -> None:
    def loaded(value: str) -> None:
        auth = {"method": "kubernetes", "role": "keyturn", "token_file": value}
        change = {"stores": {"x": {"kind": "vault_kv2", "addresses": ["https://v.example"], "auth": auth}}}
        load_inventory(written(tmp_path, change), manifests=manifests())

    loaded("/var/run/secrets/vault/token")
    loaded("run/token")
    for secret in (
        "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5/x9",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmYWtlIn0.x",
        "notARealToken",
    ):
        with pytest.raises(InventoryError):
            loaded(secret)
