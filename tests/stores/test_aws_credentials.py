"""Sources of AWS credentials that fail: each is told as what it is, and quotes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.slots import Slot
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire

from .aws_cases import failed
from .aws_server import REGION

ROLE = "arn:aws:iam::123456789012:role/keyturn"
SECRET = "not-a-real-secret"
DENIED, MISCONFIGURED, UNAVAILABLE = StoreFault.DENIED, StoreFault.MISCONFIGURED, StoreFault.UNAVAILABLE


@pytest.fixture(autouse=True)
def without_credentials(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", ())
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)


def _helper(tmp_path: Path, text: str) -> str:
    program = tmp_path / "helper.sh"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return f"[profile p]\ncredential_process={program}\n"


async def _fails(fault: StoreFault, aws: str, caplog: pytest.LogCaptureFixture, profile: str | None) -> None:
    caplog.set_level("DEBUG")
    for role in (None, ROLE):
        wire = Wire("aws", region=REGION, endpoint_url=aws, profile=profile, assume_role=role)
        store = AwsSecretsManager(wire)
        error = await failed(store.peek("p", Slot.CURRENT))
        assert error.fault is fault
        assert error.__context__ is None
        assert [finding.ok for finding in await store.check(["p"])] == [False, False]
        await store.close()
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("AWS_ACCESS_KEY_ID", "half", DENIED),
        ("AWS_PROFILE", "gone", MISCONFIGURED),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/x", UNAVAILABLE),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://elsewhere.example/x", DENIED),
    ],
)
async def test_a_variable_that_leads_to_no_credentials_is_told(
    aws, monkeypatch, caplog, variable, value, fault
):
    monkeypatch.setenv(variable, value)
    await _fails(fault, aws, caplog, None)


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
async def test_a_file_that_cannot_be_parsed_is_told_and_not_quoted(
    aws, monkeypatch, caplog, tmp_path, variable
):
    file = tmp_path / "aws"
    file.write_text(f"aws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv(variable, str(file))
    await _fails(MISCONFIGURED, aws, caplog, None)


@pytest.mark.parametrize(
    "text",
    [
        f"echo {SECRET} >&2; exit 1",
        f"""echo '{{"Version": 1, "SecretAccessKey": "{SECRET}"}}'""",
        f"echo '{SECRET}'",
        None,
    ],
    ids=["fails", "gives half", "gives no JSON", "missing"],
)
async def test_a_helper_that_gives_no_credentials_is_told_and_not_quoted(
    aws, monkeypatch, caplog, tmp_path, text
):
    config = tmp_path / "config"
    config.write_text(_helper(tmp_path, text or ""))
    if text is None:
        (tmp_path / "helper.sh").unlink()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    await _fails(DENIED, aws, caplog, "p")


async def test_a_profile_whose_source_is_missing_is_told(aws, monkeypatch, caplog, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"[profile p]\nrole_arn={ROLE}\nsource_profile=q\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    await _fails(MISCONFIGURED, aws, caplog, "p")


async def test_a_missing_token_file_is_no_silence_of_aws(aws, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    await _fails(DENIED, aws, caplog, None)


@pytest.mark.parametrize("later", [f"echo {SECRET} >&2; exit 1", f"echo '{SECRET}'"])
async def test_a_helper_that_fails_when_credentials_are_renewed_leaves_nothing_in_doubt(
    aws, monkeypatch, caplog, tmp_path, later
):
    caplog.set_level("DEBUG")
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    given = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": SECRET, "Expiration": soon}
    config = tmp_path / "config"
    config.write_text(_helper(tmp_path, f"echo '{json.dumps(given)}'"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = AwsSecretsManager(Wire("aws", region=REGION, endpoint_url=aws, profile="p"), prefix="renewed/")
    assert await store.peek("p", Slot.CURRENT) is None
    _helper(tmp_path, later)
    error = await failed(store._wire.in_thread(lambda: store._shelf.create("p", "0" * 32)))
    assert error.fault is DENIED
    assert SECRET not in caplog.text
    await store.close()
