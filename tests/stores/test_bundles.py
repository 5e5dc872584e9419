"""`keyturn client-bundle` for keys in Vault and AWS: the bundle opens them, by its policy alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import keyturn.client
from keyturn.cli import bot_policies
from keyturn.cli.main import main
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import AwsParameterStore, AwsSecretsManagerStore, Inventory
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.ports.store import SecretStore
from keyturn.stores.catalog import open_store
from keyturn.stores.formats import formats_of
from keyturn.testing.store_contract_support import put_key, stage_key

from . import iam
from .aws_server import REGION
from .vault_server import POLICIES, Server, simulated

BOT, OTHER, MANAGER = "bots/mm", "bots/arb", "managers/main"
KINDS = ("vault", "real vault", "aws_secrets_manager", "aws_parameter_store")


@pytest.fixture(scope="module")
def vault() -> Iterator[Server]:
    with simulated() as server:
        yield server


@dataclass
class Desk:
    """An inventory with two bots, keyturn's store for it with three keys, and where the bundle goes."""

    kind: str
    folder: Path
    store: SecretStore
    prefix: str
    vault: Server

    def bundle(self, *more: str) -> dict[str, Any]:
        out = io.StringIO()
        with pytest.raises(SystemExit) as ended, contextlib.redirect_stdout(out):
            main(["client-bundle", "mm", "--to", str(self.made), *more, "--json",
                  "--inventory", str(self.folder / "keyturn.yaml")])  # fmt: skip
        assert ended.value.code in {0, None}, out.getvalue()
        made: dict[str, Any] = json.loads(out.getvalue())
        return made

    @property
    def made(self) -> Path:
        return self.folder / "made"

    @property
    def policy(self) -> str:
        (file,) = self.made.glob("policy-*")
        return file.read_text()

    def bind(self) -> None:
        """Let the bot's key work from one address alone, which is not keyturn's."""
        file = self.folder / "keyturn.yaml"
        document = yaml.safe_load(file.read_text())
        del document["credentials"]["mm"]["no_ip_allowlist_reason"]
        document["credentials"]["mm"]["ip_allowlist"] = ["203.0.113.7"]
        file.write_text(yaml.safe_dump(document))


def documents(kind: str, prefix: str, vault: Server, aws: str, folder: Path) -> dict[str, Any]:
    if kind == "vault":
        rotator = vault.approle(folder, vault.policy("rotator", PATHS=prefix.rstrip("/")))
        store = vault.entry(rotator).model_dump(mode="json", exclude_none=True)
    else:
        # Roles and keys that are keyturn's own; the emulator has them not, so they are not used below.
        store = {"kind": kind, "region": REGION, "endpoint_url": aws, "prefix": prefix}
    place = "" if kind != "vault" else prefix
    return {
        "version": 1,
        "stores": {"remote": store},
        "accounts": {
            "main": {"exchange": "bybit", "manager": {"store": "remote", "path": f"{place}{MANAGER}"}}
        },
        "credentials": {
            name: {
                "account": "main", "subaccount": str(number), "permissions": ["read"], "store": "remote",
                "path": f"{place}{path}", "consumers": [name], "no_ip_allowlist_reason": "it runs anywhere",
            }
            for number, (name, path) in enumerate({"mm": BOT, "arb": OTHER}.items(), 2002)
        },
        "consumers": {name: {"kind": "client", "mailbox": "mailbox"} for name in ("mm", "arb")},
    }  # fmt: skip


@pytest.fixture(params=KINDS)
def desk(
    request: pytest.FixtureRequest,
    vault: Server,
    vaults: Callable[[str], Server],
    aws: str,
    tmp_path: Path,
) -> Iterator[Desk]:
    if request.param != "real vault":
        yield from desk_on(request.param, vault, aws, tmp_path)
        return
    with vaults("development").apart() as real:
        yield from desk_on("vault", real, aws, tmp_path)


def desk_on(kind: str, vault: Server, aws: str, tmp_path: Path) -> Iterator[Desk]:
    prefix = f"bundle-{re.sub('[^a-z0-9]', '', tmp_path.name.lower())}/"
    document = documents(kind, prefix, vault, aws, tmp_path)
    (tmp_path / "keyturn.yaml").write_text(yaml.safe_dump(document))
    inventory = Inventory.model_validate(document)
    store = open_store("remote", inventory.stores["remote"], tmp_path, formats_of(inventory, "remote"))
    for address in (*map(inventory.store_of, inventory.credentials), inventory.accounts["main"].manager):
        asyncio.run(put_key(store, address.path, address.path.rpartition("/")[2]))
    yield Desk(kind, tmp_path, store, prefix, vault)
    asyncio.run(store.close())


@contextlib.contextmanager
def held_to_policy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the bot's process have the rights of its bundle's policy, and no others."""
    if desk.kind == "vault":
        policy = desk.vault.policy_text("bundle", desk.policy)
        token, _ = desk.vault.token(desk.folder, policy, no_default_policy=True)
        monkeypatch.setenv("KEYTURN_VAULT_TOKEN", token)
        yield
    else:
        with iam.held_to(json.loads(desk.policy)["Statement"]):
            yield


def test_a_bundle_opens_its_own_key_and_no_other_with_the_rights_of_its_policy_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = desk.bundle()
    assert told["recipient"] is None
    assert [file for file in told["files"] if file.startswith("policy-")] == [
        file.name for file in desk.made.glob("policy-*")
    ]
    assert any(str(next(desk.made.glob("policy-*"))) in note for note in told["notes"])
    settings = (desk.made / "keyturn-bot.json").read_text()
    assert not [
        word for word in ("arb", "managers", "role_id", "secret-id") if word in settings + desk.policy
    ]
    with held_to_policy(desk, monkeypatch):
        assert keyturn.client.current("mm", bundle=desk.made).key_ref == "key-mm"
        document = json.loads(settings)
        for other in (OTHER, MANAGER):
            path = document["credentials"]["mm"]["path"].replace(BOT, other)
            document["credentials"]["other"] = document["credentials"]["mm"] | {"path": path}
            (desk.made / "keyturn-bot.json").write_text(json.dumps(document))
            with pytest.raises(StoreError) as refused:
                keyturn.client.current("other", bundle=desk.made)
            assert refused.value.fault is StoreFault.DENIED


def test_a_bot_that_tries_new_keys_may_open_what_is_pending_and_no_other_bot_may(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{desk.prefix if desk.kind == 'vault' else ''}{BOT}"
    asyncio.run(stage_key(desk.store, path, Attempt("0123456789", 1), "new"))
    for bound in (False, True):
        if bound:
            desk.bind()
        desk.bundle()
        with held_to_policy(desk, monkeypatch):
            source = keyturn.client.bundle.read_settings(desk.made).source("mm")
            assert source.read(Slot.CURRENT).material.key_ref == "key-mm"
            if bound:
                assert source.read(Slot.PENDING).material.key_ref == "key-new"
            else:
                with pytest.raises(StoreError):
                    source.read(Slot.PENDING)


def test_settings_that_are_made_anew_leave_no_policy_of_before(desk: Desk) -> None:
    desk.bundle()
    (desk.made / "policy-former.json").write_text("{}")
    desk.bundle()
    assert len(list(desk.made.glob("policy-*"))) == 1


def test_the_policies_are_those_of_infra_filled_in(vault: Server) -> None:
    """One author for what a consumer may: the files of `infra/`, less what this bot does not use."""
    place = [bot_policies.Place(BOT, tries=False)]
    text = (POLICIES / "consumer.hcl").read_text().replace("MOUNT", "secret").replace("CREDENTIAL", BOT)
    rule = re.compile(r'^path "(.+?)" \{\n +capabilities = \["(\w+)"\]', re.MULTILINE)
    made = bot_policies.policy(vault.entry({"method": "token", "token": {"env": "T"}}, mount="secret"), place)
    assert sorted(rule.findall(made or "")) == sorted(rule.findall(text))
    key = f"arn:aws:kms:{iam.REGION}:{iam.ACCOUNT}:key/k"
    infra = {s["Sid"]: s for s in iam.policy("consumer.json", PREFIX="p/", PATH=BOT)}
    common = {"region": iam.REGION, "prefix": "p/", "kms_key_id": key}
    for entry, sids, service in (
        (AwsSecretsManagerStore(kind="aws_secrets_manager", **common), ["ReadCurrent", "SeeThatItChanged"],
         "secretsmanager"),
        (AwsParameterStore(kind="aws_parameter_store", **common), ["ReadParameter"], "ssm"),
    ):  # fmt: skip
        *mine, decrypt = json.loads(bot_policies.policy(entry, place) or "")["Statement"]
        assert mine == [infra[sid] for sid in sids]
        whole = infra["DecryptThroughTheStores"]
        via = decrypt["Condition"]["StringEquals"]["kms:ViaService"]
        assert via == [
            v for v in whole["Condition"]["StringEquals"]["kms:ViaService"] if v.startswith(service)
        ]
        assert (decrypt["Action"], decrypt["Resource"]) == (whole["Action"], whole["Resource"])


@pytest.mark.parametrize(
    ("key", "region", "resource"),
    [
        ("1234-abcd", "eu-central-1", "arn:aws:kms:eu-central-1:*:key/1234-abcd"),
        ("alias/bots", "cn-north-1", "arn:aws-cn:kms:cn-north-1:*:key/*"),
        ("arn:aws:kms:eu-central-1:123456789012:alias/bots", "eu-central-1",
         "arn:aws:kms:eu-central-1:123456789012:key/*"),
    ],
)  # fmt: skip
def test_a_key_of_kms_is_named_as_iam_knows_it(key: str, region: str, resource: str) -> None:
    entry = AwsSecretsManagerStore(kind="aws_secrets_manager", region=region, kms_key_id=key)
    made = json.loads(bot_policies.policy(entry, [bot_policies.Place(BOT, tries=False)]) or "")
    decrypt = made["Statement"][-1]
    assert decrypt["Resource"] == resource
    by_alias = decrypt["Condition"].get("ForAnyValue:StringEquals")
    assert by_alias == ({"kms:ResourceAliases": "alias/bots"} if "alias/" in key else None)
