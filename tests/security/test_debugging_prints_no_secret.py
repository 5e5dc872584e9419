"""Whoever turns on all debugging that HTTP libraries have finds no secret of keyturn's in what they print.

`http.client.HTTPConnection.debuglevel = 1` is what most answers on the web advise for looking at requests.
"""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract_support import put_key, stage_key
from tests.stores.aws_server import REGION, plain, strict_aws
from tests.stores.vault_server import simulated

PATH = "bots/mm"
ROLE = "arn:aws:iam::123456789012:role/keyturn"
# What begins each of the secrets of these tests.
SECRET = "not-a-real-secret"
LIBRARIES = ("http.client", "urllib3", "requests", "botocore", "boto3", "hvac", "aiohttp", "asyncio", "ccxt")


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    caplog.set_level(logging.DEBUG)
    for name in LIBRARIES:
        caplog.set_level(logging.DEBUG, name)


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with strict_aws() as url:
        yield url


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-a-real-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-aws")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SECRET}-token")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def used(store: Any, path: str = PATH) -> None:
    """Do everything that carries a secret to the store or back."""
    attempt = Attempt(new_rotation_id(), 1)
    old = await put_key(store, path, "old")
    await stage_key(store, path, attempt, "new")
    await store.read(path, Slot.PENDING)
    await store.promote(path, attempt, expect_current=old.version)
    await store.peek(path, Slot.CURRENT)
    await store.check([path])
    await store.close()


def said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    printed = capfd.readouterr()
    return printed.out + printed.err + "".join(f"{r.getMessage()} {r.exc_info}" for r in caplog.records)


async def test_vault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with simulated() as server:
        policy = server.policy("rotator", PATHS="bots")
        token, auth = server.token(tmp_path, policy)
        login = server.approle(tmp_path, policy)
        secret_id = Path(login["secret_id"]["file"]).read_text()
        said(capfd, caplog)  # what the test itself did to the server
        caplog.clear()
        await used(server.open(auth))
        await used(server.open(login), f"{PATH}-2")
    text = said(capfd, caplog)
    assert [secret for secret in (token, secret_id, SECRET) if secret in text] == []
    assert "X-Vault-Token" not in text


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("kind", [AwsSecretsManager, AwsParameterStore])
@pytest.mark.parametrize("role", [None, ROLE], ids=["own credentials", "a role"])
async def test_aws(
    aws: str, kind: Any, role: str | None, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire("aws", region=REGION, endpoint_url=aws, timeout=5, assume_role=role)
    await used(kind(wire, prefix=f"keyturn/{new_rotation_id()}/"))
    text = said(capfd, caplog)
    assert SECRET not in text
    assert "SecretAccessKey" not in text
    assert "send:" not in text


@pytest.mark.usefixtures("credentials")
def test_another_user_of_botocore_in_the_process_sees_what_it_asked_for(
    aws: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Wire("aws", region=REGION, endpoint_url=aws, timeout=5).client("secretsmanager")
    plain(aws, "sts").get_caller_identity()
    assert "send: b'POST / HTTP" in capfd.readouterr().out


@pytest.mark.parametrize("ours", [False, True], ids=["another program", "a process of flows"])
async def test_the_login_of_prefect_is_in_no_log_of_its_events(
    ours: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Header and first message carry it, as Prefect's client of events sends them (3.8.8)."""
    websockets = pytest.importorskip("websockets.asyncio.server")
    from websockets.asyncio.client import connect

    from keyturn import prefect_access

    names = prefect_access._FRAME_LOGGERS
    prefect_access.keep_login_out_of_logs()
    for name in names:
        caplog.set_level(logging.DEBUG, name)
        if not ours:
            logging.getLogger(name).removeFilter(prefect_access._is_above_debug)

    async def take(connection: Any) -> None:
        await connection.recv()

    try:
        served = websockets.serve(take, "127.0.0.1", 0, logger=logging.getLogger("uvicorn.error"))
        async with served as server:
            port = server.sockets[0].getsockname()[1]
            header = {"Authorization": f"Basic {SECRET}"}
            async with connect(f"ws://127.0.0.1:{port}", additional_headers=header, proxy=None) as client:
                await client.send(SECRET)
                await client.wait_closed()
    finally:
        prefect_access.keep_login_out_of_logs()
    told = {record.name for record in caplog.records if SECRET in record.getMessage()}
    assert told == (set() if ours else {"websockets.client", "uvicorn.error"})


def test_who_imports_the_flows_keeps_it_out() -> None:
    import flows
    from keyturn import prefect_access

    assert flows
    for name in prefect_access._FRAME_LOGGERS:
        assert prefect_access._is_above_debug in logging.getLogger(name).filters
