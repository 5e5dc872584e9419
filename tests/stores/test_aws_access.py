"""Who keyturn is in AWS, where it calls, and what the read-only check says of its rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError
from botocore.loaders import JSONFileLoader

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import AwsParameterStore as ParameterStoreEntry
from keyturn.domain.inventory import AwsSecretsManagerStore as SecretsManagerEntry
from keyturn.domain.slots import Slot
from keyturn.stores.aws.faults import AwsError
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.catalog import open_store
from keyturn.testing.store_contract_support import put_key

from .aws_cases import failed
from .aws_server import REGION, _Body

ROLE = "arn:aws:iam::123456789012:role/keyturn"


@pytest.mark.parametrize("kind", ["aws_secrets_manager", "aws_parameter_store"])
async def test_an_inventory_entry_opens_its_store(aws, kind, tmp_path: Path):
    model = SecretsManagerEntry if kind == "aws_secrets_manager" else ParameterStoreEntry
    entry = model(kind=kind, region=REGION, endpoint_url=aws, prefix="inventory/", timeout="5s")
    store = open_store("aws", entry, tmp_path)
    assert await store.peek("bots/mm", Slot.CURRENT) is None
    await put_key(store, "bots/mm", "a")
    assert (await store.read("bots/mm", Slot.CURRENT)).material.key_ref == "key-a"
    assert all(finding.ok for finding in await store.check(["bots/mm", "bots/none"]))
    await store.close()
    await store.close()


async def test_a_profile_that_is_not_there_is_named():
    store = AwsSecretsManager(Wire("aws", region=REGION, profile="nobody"))
    with pytest.raises(StoreError) as caught:
        await store.peek("p", Slot.CURRENT)
    assert caught.value.fault is StoreFault.MISCONFIGURED
    assert "nobody" in caught.value.what
    (finding,) = await store.check([])
    assert not finding.ok
    await store.close()


async def test_missing_credentials_are_called_so(aws, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    for role in (None, ROLE):
        store = AwsSecretsManager(Wire("aws", region=REGION, endpoint_url=aws, assume_role=role))
        with pytest.raises(StoreError) as caught:
            await store.peek("p", Slot.CURRENT)
        assert caught.value.fault is StoreFault.DENIED
        assert "credentials" in caught.value.what
        await store.close()


async def test_a_role_is_assumed(aws):
    wire = Wire("aws", region=REGION, endpoint_url=aws, assume_role=ROLE, external_id="ours")
    assert ":assumed-role/keyturn/keyturn" in wire.call("sts", "get_caller_identity")["Arn"]
    store = AwsSecretsManager(wire, prefix="role/")
    await put_key(store, "bots/mm", "a")
    await store.close()


class _Sts(BaseHTTPRequestHandler):
    """Gives credentials that are about to end."""

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        refuses = self.server.refuses  # type: ignore[attr-defined]
        if refuses:
            body = (
                "<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
                f"<Error><Code>{refuses}</Code><Message>no</Message></Error></ErrorResponse>"
            )
        elif "AssumeRole" in asked.get("Action", []):
            end = (datetime.now(UTC) + timedelta(seconds=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
            number = len(self.server.asked)  # type: ignore[attr-defined]
            body = (
                "<AssumeRoleResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleResult>"
                f"<Credentials><AccessKeyId>role-{number}</AccessKeyId>"
                "<SecretAccessKey>not-a-real-secret-role</SecretAccessKey>"
                f"<SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>"
                "</AssumeRoleResult></AssumeRoleResponse>"
            )
        else:
            body = (
                "<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
                "<GetCallerIdentityResult><Arn>arn</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
            self.server.signed.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        self.send_response(403 if refuses else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def sts() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sts)
    server.asked, server.signed, server.refuses = [], [], ""  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_credentials_of_a_role_are_renewed_before_they_end(sts):
    url = f"http://127.0.0.1:{sts.server_port}"
    wire = Wire("aws", region=REGION, endpoint_url=url, assume_role=ROLE, external_id="ours")
    for _ in range(3):
        wire.call("sts", "get_caller_identity")
    roles = [asked for asked in sts.asked if "AssumeRole" in asked["Action"]]
    assert len(roles) >= 3, "they end in 90 s, which is too soon to begin a call with"
    assert {asked["ExternalId"][0] for asked in roles} == {"ours"}
    assert {asked["RoleArn"][0] for asked in roles} == {ROLE}
    assert len({signed.split("/")[0] for signed in sts.signed}) == 3, "each call was signed with new ones"


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "ResourceNotFoundException"])
async def test_a_refusal_of_sts_is_not_told_as_the_stores(sts, code):
    sts.refuses = code
    url = f"http://127.0.0.1:{sts.server_port}"
    store = AwsSecretsManager(Wire("aws", region=REGION, endpoint_url=url, assume_role=ROLE))
    error = await failed(store.peek("bots/mm", Slot.CURRENT))
    assert error.fault is StoreFault.DENIED
    assert f"sts:AssumeRole ({code})" in error.what
    assert ("clock" if code == "ExpiredToken" else "infra/aws/trust.json") in error.todo
    assert "rotator.json" not in error.todo
    findings = await store.check(["bots/mm"])
    assert ["sts:AssumeRole" in finding.detail for finding in findings] == [True, True]
    await store.close()


def test_what_botocore_knows_of_a_service_is_read_once_for_all_stores(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "not-a-real-key")
    for server in ("http://127.0.0.1:9", None):
        Wire("first", region=REGION, endpoint_url=server).client("ssm")
        with monkeypatch.context() as patch:
            patch.setattr(JSONFileLoader, "load_file", lambda _, file: pytest.fail(f"{file} was read again"))
            Wire("second", region=REGION, endpoint_url=server).client("ssm")


def test_a_vpc_endpoint_is_for_its_own_service_alone():
    wire = Wire("aws", region=REGION, endpoint_url="https://vpce-1.secretsmanager.example")
    assert wire.client("secretsmanager").meta.endpoint_url == "https://vpce-1.secretsmanager.example"
    assert wire.client("sts").meta.endpoint_url.endswith("amazonaws.com")


def test_a_role_beside_a_vpc_endpoint_is_assumed_at_sts_itself(monkeypatch):
    asked: list[str] = []

    def send(_: object, request: AWSPreparedRequest) -> None:
        asked.append(request.url)
        raise EndpointConnectionError(endpoint_url=request.url)

    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", ())
    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    url = "https://vpce-1.secretsmanager.example"
    wire = Wire("aws", region=REGION, endpoint_url=url, assume_role=ROLE)
    with pytest.raises(AwsError):
        wire.call("secretsmanager", "describe_secret", SecretId="x")
    assert asked == [f"https://sts.{REGION}.amazonaws.com/"]


def _verdicts(wire: Wire, allowed: set[str], *, on_all: bool = False) -> list[list[str]]:
    """Let IAM allow these actions, on what is none of keyturn's too or not; give what it was asked for."""
    asked: list[list[str]] = []

    def simulate(request: object, **_: object) -> AWSResponse:
        form = parse_qs(request.body.decode() if isinstance(request.body, bytes) else request.body)
        names = [values[0] for key, values in form.items() if key.startswith("ActionNames")]
        asked.append([form["PolicySourceArn"][0], form["ResourceArns.member.1"][0]])
        may = allowed if on_all or "kt-nobodys" not in asked[-1][1] else set()
        rows = "".join(
            f"<member><EvalActionName>{name}</EvalActionName>"
            f"<EvalDecision>{'allowed' if name in may else 'implicitDeny'}</EvalDecision></member>"
            for name in names
        )
        text = (
            "<SimulatePrincipalPolicyResponse xmlns='https://iam.amazonaws.com/doc/2010-05-08/'>"
            f"<SimulatePrincipalPolicyResult><EvaluationResults>{rows}</EvaluationResults>"
            "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        )
        return AWSResponse(request.url, 200, {}, _Body(text.encode()))

    wire.client("iam").meta.events.register("before-send.iam.SimulatePrincipalPolicy", simulate)
    return asked


async def test_an_iam_that_does_not_answer_is_asked_once_not_for_each_path(aws, monkeypatch):
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", ())
    wire = Wire("aws", region=REGION, endpoint_url=aws)
    asked: list[str] = []

    def silent(request: object, **_: object) -> None:
        asked.append("IAM")
        raise EndpointConnectionError(endpoint_url=aws)

    wire.client("iam").meta.events.register("before-send.iam.SimulatePrincipalPolicy", silent)
    findings = await AwsSecretsManager(wire, prefix="silent/").check(["a", "b", "c"])
    assert len([f for f in findings if "cannot be told without writing" in f.detail]) == 3
    assert len(asked) == 1


async def test_the_check_names_each_right_that_is_missing_and_each_that_is_too_much(aws):
    wire = Wire("aws", region=REGION, endpoint_url=aws, assume_role=ROLE)
    store = AwsSecretsManager(wire, prefix="rights/")
    allowed = {
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutSecretValue",
        "secretsmanager:DeleteSecret",
    }
    asked = _verdicts(wire, allowed)
    bad = [f for f in await store.check(["bots/mm"]) if not f.ok]
    said = " ".join(f.detail for f in bad)
    for action in ("CreateSecret", "ListSecretVersionIds", "UpdateSecretVersionStage", "DeleteSecret"):
        assert f"secretsmanager:{action}" in said
    assert len(bad) == 4
    assert all(f.todo for f in bad)
    assert asked[0][0] == ROLE, "IAM knows roles, not their sessions"
    assert asked[0][1].startswith(f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rights/bots/mm-")
    await store.close()


@pytest.mark.parametrize("kind", [AwsSecretsManager, AwsParameterStore])
async def test_the_check_names_a_role_that_may_read_what_is_none_of_keyturns(aws, kind):
    for on_all in (False, True):
        store = kind(wire := Wire("aws", region=REGION, endpoint_url=aws), prefix="")
        _verdicts(wire, {"secretsmanager:GetSecretValue", "ssm:GetParameter"}, on_all=on_all)
        found = [f for f in await store.check(["bots/mm"]) if f.subject == "prefix"]
        assert [f.ok for f in found] == ([False] if on_all else [])
        assert all("all of the account" in f.detail and "rotator.json" in f.todo for f in found)
        await store.close()


async def test_the_check_warns_of_an_empty_prefix_where_iam_does_not_answer(aws, monkeypatch):
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", ())
    for prefix in ("", "keyturn/"):
        store = AwsSecretsManager(wire := Wire("aws", region=REGION, endpoint_url=aws), prefix=prefix)

        def silent(request: object, **_: object) -> None:
            raise EndpointConnectionError(endpoint_url=aws)

        wire.client("iam").meta.events.register("before-send.iam.SimulatePrincipalPolicy", silent)
        found = [f for f in await store.check(["bots/mm"]) if f.subject == "prefix"]
        assert len(found) == (not prefix)
        assert all("all of the account" in f.detail for f in found)
        await store.close()


async def test_the_check_says_so_where_iam_does_not_answer(aws):
    wire = Wire("aws", region=REGION, endpoint_url=aws)
    store = AwsSecretsManager(wire, prefix="rights/")

    def refuse(request: object, **_: object) -> AWSResponse:
        text = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        return AWSResponse(request.url, 403, {}, _Body(text.encode()))

    wire.client("iam").meta.events.register("before-send.iam.SimulatePrincipalPolicy", refuse)
    findings = await store.check(["bots/mm"])
    assert all(f.ok for f in findings)
    assert any("cannot be told" in f.detail for f in findings)
    await store.close()
