"""`keyturn init`: something to go on from, nothing overwritten, nothing left half done."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import requests

from keyturn.domain.inventory import AwsSecretsManagerStore, VaultKv2Store
from keyturn.exchanges.catalog import manifests
from keyturn.settings import load_inventory
from keyturn.simulator.vault import VaultSimulator

from .conftest import Home, Run, Venue, key_document

RIGHTS = ("--permission", "read", "--permission", "trade_spot")
BYBIT = ("--exchange", "bybit", "--credential", "mm-bybit", "--subaccount", "104270393", *RIGHTS)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_init_makes_passes_check_and_status(cli: Run, tmp_path: Path) -> None:
    for name, options in (("empty", ()), ("filled", BYBIT)):
        cli("init", tmp_path / name, *options).ok()
        inventory = tmp_path / name / "keyturn.yaml"
        cli("check", "-i", inventory).ok()
        assert cli("status", "--json", "-i", inventory).ok().document["summary"]["parked"] == 0
        cli("verify-journal", "-i", inventory).ok()


@pytest.mark.parametrize("exchange", ["bybit", "okx", "deribit"])
@pytest.mark.parametrize("more", [(), ("--ip", "203.0.113.7", "--ip", "203.0.113.8"), ("--testnet",)])
def test_init_knows_every_exchange(cli: Run, tmp_path: Path, exchange: str, more: tuple[str, ...]) -> None:
    options = ("--exchange", exchange, "--account-name", "desk", "--credential", f"mm-{exchange}", *more)
    options += ("--permission", "read")
    result = cli("init", tmp_path / "x", *options, "--subaccount", "104270393")
    if exchange == "deribit":  # its keys belong to the account of the manager key
        assert result.code == 2
        result = cli("init", tmp_path / "x", *options)
    if exchange == "okx" and "--ip" not in more:  # it ends keys without addresses after 14 days
        assert result.code == 2
        assert "--ip" in result.err
        return
    result.ok()
    cli("check", "-i", tmp_path / "x" / "keyturn.yaml").ok()
    assert f"keyturn put mm-{exchange}" in result.out


def test_what_is_secret_is_closed_to_others_and_out_of_version_control(cli: Run, tmp_path: Path) -> None:
    cli("init", tmp_path, *BYBIT).ok()
    data = tmp_path / "keyturn-data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "age-identity.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "journal.db").stat().st_mode) == 0o600
    (tmp_path / ".keyturn" / "logs").mkdir()
    (tmp_path / ".keyturn" / "logs" / "server.log").write_text("what `keyturn up` leaves")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    status = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    )
    assert status.stdout.split() == ["??", "keyturn.yaml"]


def test_init_never_shows_the_identity(cli: Run, tmp_path: Path) -> None:
    result = cli("init", tmp_path, *BYBIT, "--json").ok()
    assert result.document["age_recipient"].startswith("age1")
    assert "AGE-SECRET-KEY" not in result.out + result.err


@pytest.mark.parametrize(
    "there", ["keyturn.yaml", "keyturn-data/notes.txt", "keyturn-data/age-identity.txt", ".keyturn/x"]
)
def test_init_overwrites_nothing(cli: Run, tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    before = _tree(tmp_path)
    result = cli("init", tmp_path, *BYBIT)
    assert result.code == 3
    assert "overwrites nothing" in result.err
    assert _tree(tmp_path) == before


def test_a_second_init_is_refused(cli: Run, tmp_path: Path) -> None:
    cli("init", tmp_path, *BYBIT).ok()
    before = _tree(tmp_path)
    assert cli("init", tmp_path, *BYBIT).code == 3
    assert _tree(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--exchange", "mtgox"), "bybit"),
        (("--exchange", "bybit"), "--subaccount"),
        ((*BYBIT, "--account-name", "Main Desk"), "lower-case"),
        ((*BYBIT, "--account-name", "a: {b"), "lower-case"),
        ((*BYBIT, "--ip", "not-an-address"), "address"),
        ((*BYBIT, "--ip", '1.2.3.4"]\nx: ["'), "address"),
    ],
)
def test_options_that_do_not_fit_leave_nothing(
    cli: Run, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    result = cli("init", tmp_path / "new", *options)
    assert result.code == 2
    assert says in result.err
    assert not (tmp_path / "new").exists()


def test_a_failure_in_the_middle_leaves_nothing(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyturn.cli import init

    def full(_loaded: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(init, "_make_journal", full)
    result = cli("init", tmp_path, *BYBIT)
    assert result.code == 2
    assert "No space left" in result.err
    assert _tree(tmp_path) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: run the tests as another user")
def test_a_folder_that_cannot_be_written_is_said(cli: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = cli("init", tmp_path, *BYBIT)
    assert result.code == 2
    assert "cannot be written" in result.err


def test_init_into_a_file_is_said(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = cli("init", tmp_path / "file" / "below", *BYBIT)
    assert result.code == 2
    assert "cannot be written" in result.err


STORES = {
    "vault": ("--store", "vault", "--server", "https://vault.example:8200", "--place", "kv/desk"),
    "aws": ("--store", "aws", "--place", "eu-central-1"),
}


@pytest.mark.parametrize("options", [(), BYBIT], ids=["empty", "filled"])
@pytest.mark.parametrize("kind", STORES)
def test_an_inventory_for_another_store_is_sound_and_makes_no_age_key(
    cli: Run, tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    made = cli("init", tmp_path, *options, *STORES[kind], "--json").ok().document
    assert made["age_recipient"] is None
    assert set(_tree(tmp_path)) >= set(made["files"])
    assert not [name for name in _tree(tmp_path) if "age" in name or name.startswith("keyturn-data/store")]
    cli("check", "-i", tmp_path / "keyturn.yaml").ok()
    text = (tmp_path / "keyturn.yaml").read_text()
    assert "<store>" not in text
    assert "local" not in text
    policies = {word.strip(",:;") for word in text.split() if word.startswith("infra/")}
    assert len(policies) > 2
    for policy in policies:
        assert (Path(__file__).parents[2] / policy).exists(), policy


def test_what_is_chosen_stands_in_the_inventory(cli: Run, tmp_path: Path) -> None:
    for kind, options in STORES.items():
        cli("init", tmp_path / kind, *BYBIT, *options).ok()
    vault = load_inventory(tmp_path / "vault" / "keyturn.yaml", manifests=manifests()).inventory.stores[
        "vault"
    ]
    aws = load_inventory(tmp_path / "aws" / "keyturn.yaml", manifests=manifests()).inventory.stores["aws"]
    assert isinstance(vault, VaultKv2Store)
    assert (vault.addresses, vault.mount) == (("https://vault.example:8200",), "kv/desk")
    assert isinstance(aws, AwsSecretsManagerStore)
    assert (aws.region, aws.endpoint_url) == ("eu-central-1", None)


def test_the_environment_of_vault_and_aws_is_asked(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "https://from.environment:8200")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    for kind, words in (("vault", "https://from.environment:8200"), ("aws", "region: us-gov-west-1")):
        cli("init", tmp_path / kind, *BYBIT, "--store", kind).ok()
        assert words in (tmp_path / kind / "keyturn.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--store", "cupboard"), "age, vault, aws"),
        (("--store", "age", "--server", "https://x"), "--store vault"),
        (("--store", "aws"), "AWS_REGION"),
        (("--store", "aws", "--place", "Frankfurt"), "not a region"),
        (("--store", "vault", "--server", "https://user:not-a-real-secret-1@vault.example"), "--server"),
        (("--store", "vault", "--server", "http://vault.example:8200"), "plain http"),
    ],
)
def test_a_store_that_cannot_be_is_refused_with_nothing_left(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    refused = cli("init", tmp_path / "x", *BYBIT, *options)
    assert refused.code == 2
    assert words in refused.err
    assert "not-a-real" not in refused.err
    assert not (tmp_path / "x").exists()


def test_a_new_house_in_vault_takes_keys_and_rotates(
    cli: Run, tmp_path: Path, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VaultSimulator() as vault:
        answer = requests.post(
            f"{vault.address}/v1/sys/mounts/secret",
            headers={"X-Vault-Token": vault.root},
            json={"type": "kv", "options": {"version": "2"}},
            timeout=10,
        )
        assert answer.ok
        monkeypatch.setenv("VAULT_TOKEN", vault.root)
        options = ("--exchange", "bybit", "--credential", "mm-bybit", "--subaccount", "2002", *RIGHTS)
        cli("init", tmp_path / "home", *options, "--store", "vault", "--server", vault.address).ok()
        home = Home(tmp_path / "home", cli)
        home.edit("    exchange: bybit\n", f"    exchange: bybit\n    url: {venue.sim.base_url}\n")
        home.edit("    kind: client\n", "    kind: client\n    evidence: timed\n")
        home.edit("grace: 24h", "grace: 0s")
        home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
        home.run("put", "mm-bybit", stdin=key_document(venue.bot)).ok()
        home.run("rotate", "mm-bybit", "--reason", "the first").ok()
    assert venue.bot.key_ref not in venue.live_keys()
