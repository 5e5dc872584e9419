"""What gives AWS credentials to a machine is read within bounds, and told as what it is when it is not."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.slots import Slot
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from tests.hostile import Reply, answering, bomb
from tests.hostile import json as answer

REGION = "eu-central-1"
ENDLESS = Reply(b"{", 200, {"Content-Type": "application/json"}, endless=b" " * 65536)
DRIP = Reply(b"{", 200, {"Content-Type": "application/json"}, endless=b" ", pace=0.05)
GIVEN = {
    "AccessKeyId": "ASIANOTAREALKEY",
    "SecretAccessKey": "not-a-real-secret",
    "Token": "not-a-real-token",
    "Expiration": "2999-01-01T00:00:00Z",
}
LOGIN = {
    "startUrl": "https://desk.example/start",
    "region": REGION,
    "accessToken": "not-a-real-token",
    "expiresAt": "2999-01-01T00:00:00Z",
}


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    """Leave no credentials but those of the helper."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def container(monkeypatch, _folder, url: str) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/v1/credentials")


def instance(monkeypatch, _folder, url: str) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)


def sso(monkeypatch, folder, url: str) -> None:
    from hashlib import sha1

    cache = folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = sha1(LOGIN["startUrl"].encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps(LOGIN))
    (folder / "config").write_text(
        f"[default]\nsso_start_url={LOGIN['startUrl']}\nsso_region={REGION}\nsso_account_id=123456789012\n"
        "sso_role_name=bot\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)


async def peek() -> StoreError | None:
    store = AwsSecretsManager(Wire("aws", region=REGION, endpoint_url="http://127.0.0.1:9", timeout=0.5))
    try:
        await store.peek("p", Slot.CURRENT)
    except StoreError as error:
        return error
    finally:
        await store.close()
    return None


@pytest.mark.parametrize("reply", [ENDLESS, DRIP, bomb()], ids=["endless", "drip", "bomb"])
@pytest.mark.parametrize("helper", [container, instance, sso])
async def test_an_answer_without_end_is_cut_off_and_told_as_missing_credentials(
    monkeypatch, tmp_path, helper, reply
):
    async with answering(reply) as url:
        helper(monkeypatch, tmp_path, url)
        began = time.monotonic()
        error = await asyncio.wait_for(peek(), 20)
    assert time.monotonic() - began < 15
    assert error is not None
    assert error.fault in {StoreFault.UNAVAILABLE, StoreFault.DENIED}
    assert "credentials" in error.diagnostics()


async def test_credentials_of_a_container_agent_within_bounds_are_taken(monkeypatch, tmp_path):
    async with answering(answer(json.dumps(GIVEN))) as url:
        container(monkeypatch, tmp_path, url)
        error = await peek()
    assert error is not None, "nothing listens where the store should be"
    assert "credentials" not in error.what
