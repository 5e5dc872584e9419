"""`keyturn client-bundle`: a bot on another host, as another user, with nothing but its bundle."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import keyturn.client
from keyturn.domain.errors import InventoryError
from keyturn.stores.keys import generate_identity
from tests import other_user
from tests.other_user import common

from .conftest import CREDENTIAL, Home, Venue, key_document
from .test_docs import _documented, _same_fields, _section

__all__ = ["common"]

_WHY = ("--reason", "quarterly rotation")
#: Of the bot's user, and of the group that it shares with keyturn's; a machine needs no names for them.
BOT, GROUP = 54322, 54321

_BOT = """
import os, sys, ccxt, keyturn.client
from keyturn.client import bundle, watcher
from keyturn.exchanges.catalog import manifests
from keyturn.stores import age_files
import pyrage
# What is imported late is imported before the rights are dropped: another user may not read it.
manifests()
become()
bundle, url, *closed = sys.argv[1:]
for path in closed:
    if os.getuid() and os.access(path, os.R_OK):
        sys.exit(f"open to the bot: {path}")
exchange = ccxt.bybit({"enableRateLimit": False})
exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], url)
attached = keyturn.client.attach(exchange, "mm-bybit", bundle=bundle, verify_after=0.05)
attached.on_swap(lambda mark: print(mark, flush=True))
exchange.fetch_balance()
print(attached.fingerprint, flush=True)
sys.stdin.read()
attached.detach()
"""


@pytest.fixture
def desk(home: Home, venue: Venue, common: Path) -> Home:
    """An inventory whose bot is a client, with store and mailbox in a folder that both users reach."""
    shared = common / "shared"
    home.edit("path: keyturn-data/store", f"path: {shared}/store")
    group = f'    group: "{GROUP}"\n' if other_user.AS_ROOT else ""
    home.edit(
        "    kind: file\n    evidence: timed\n    path: bot-key.json\n",
        f"    kind: client\n    mailbox: {shared}/mailbox\n{group}",
    )
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    shared.mkdir(mode=0o711)
    home.folder.chmod(0o700)
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    return home


def bundle_for(desk: Home, folder: Path) -> tuple[Path, str]:
    """Make a bundle with a new identity, write its recipient into the inventory; give folder and output."""
    made = desk.run("client-bundle", CREDENTIAL, "--new-identity", "--to", folder, "--json").ok()
    desk.edit("    kind: client\n", f"    kind: client\n    {made.document['inventory_line']}\n")
    desk.run("check").ok()
    return folder, made.out + made.err


@pytest.fixture
def bot_host(common: Path) -> Path:
    """A folder of the bot's user."""
    folder = common / "bot-host"
    folder.mkdir(mode=0o700)
    return folder


def bring(bundle: Path, to: Path) -> Path:
    """Bring a bundle to the bot's host, where the bot's user owns it."""
    there = to / "bundle"
    shutil.copytree(bundle, there)
    if other_user.AS_ROOT:
        for path in (to, there, *there.iterdir()):
            os.chown(path, BOT, BOT)
    return there


class Bot:
    """A bot in a process of its own: as another user, if this is root."""

    def __init__(self, bundle: Path, url: str, closed: list[Path]) -> None:
        uid = BOT if other_user.AS_ROOT else 0
        self.process = subprocess.Popen(
            other_user.command(_BOT, uid, [GROUP], bundle, url, *closed),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd="/", env=other_user.environment(),
        )  # fmt: skip

    def says(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        if not line and self.process.stderr:
            pytest.fail(self.process.stderr.read())
        return line

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def bots() -> Iterator[list[Bot]]:
    started: list[Bot] = []
    yield started
    for bot in started:
        bot.end()


def opened_by_age(identity: Path, root: Path) -> set[str]:
    found = set()
    for file in root.rglob("*.age"):
        argv = ["age", "-d", "-i", str(identity), str(file)]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
        if done.returncode == 0:
            found.add(json.loads(done.stdout)["meta"]["key_ref"])
    return found


def test_a_bot_with_its_bundle_alone_reads_its_key_follows_a_rotation_and_acknowledges_it(
    desk: Home, venue: Venue, common: Path, bot_host: Path, bots: list[Bot]
) -> None:
    made, _ = bundle_for(desk, desk.folder.parent / "made")
    desk.run("store", "reseal", CREDENTIAL).ok()
    there = bring(made, bot_host)
    closed = [desk.inventory, desk.folder / "keyturn-data" / "age-identity.txt", made]
    if not other_user.AS_ROOT:
        closed = []  # the bot is the same user here, to whom all is open
    bots.append(Bot(there, venue.sim.base_url, closed))
    before = bots[0].says()
    done = desk.json("rotate", CREDENTIAL, *_WHY)
    assert done["outcome"] == "completed", done
    after = bots[0].says()
    assert after == desk.json("status")["credentials"][0]["fingerprint"] != before
    # The old key is dead, and so was proved: by the acknowledgement of the bot, which had nothing else.
    notes = [event["note"] for event in desk.json("history", CREDENTIAL)["story"]["events"]]
    assert [note for note in notes if note.startswith("mm-bybit: ack")]
    desk.run("doctor").ok()
    box = common / "shared" / "mailbox" / CREDENTIAL
    wanted = (0o2770, 0o660, {0, BOT}) if other_user.AS_ROOT else (0o700, 0o600, {os.getuid()})
    modes = {stat.S_IMODE(path.stat().st_mode) for path in box.iterdir()}
    owners = {path.stat().st_uid for path in box.iterdir()}
    assert (stat.S_IMODE(box.stat().st_mode), *modes, owners) == wanted
    if shutil.which("age"):
        (new,) = venue.live_keys()
        assert opened_by_age(there / "identity.txt", common / "shared") == {new}


def test_the_identity_is_in_the_bundle_and_nowhere_else(desk: Home, tmp_path: Path) -> None:
    made, told = bundle_for(desk, tmp_path / "made")
    identity = (made / "identity.txt").read_text().splitlines()[-1]
    assert identity.startswith("AGE-SECRET-KEY-")
    assert identity not in told
    holders = [p for p in tmp_path.rglob("*") if p.is_file() and identity.encode() in p.read_bytes()]
    assert holders == [made / "identity.txt"]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (made, *made.iterdir())}
    assert modes == {"made": 0o700, "identity.txt": 0o600, "keyturn-bot.json": 0o600, ".gitignore": 0o600}
    text = (made / "keyturn-bot.json").read_text()
    assert not [word for word in ("manager", "age-identity", str(desk.folder), "journal") if word in text]


def test_the_documents_have_the_documented_fields(desk: Home, tmp_path: Path) -> None:
    made = desk.json("client-bundle", CREDENTIAL, "--new-identity", "--to", tmp_path / "made")
    _same_fields(_documented(_section("client-bundle")), made)
    _same_fields(_documented(_section("store reseal")), desk.json("store", "reseal"))


def test_an_identity_is_never_overwritten_and_settings_are_brought_up_to_date(
    desk: Home, tmp_path: Path
) -> None:
    made, _ = bundle_for(desk, tmp_path / "made")
    identity = (made / "identity.txt").read_text()
    again = desk.run("client-bundle", CREDENTIAL, "--new-identity", "--to", made)
    assert (again.code, "never overwritten" in again.err) == (3, True)
    desk.run("client-bundle", CREDENTIAL, "--to", made, "--mailbox", "/mnt/mailbox").ok()
    assert json.loads((made / "keyturn-bot.json").read_text())["mailbox"] == "/mnt/mailbox"
    assert (made / "identity.txt").read_text() == identity


def test_a_host_that_has_made_its_identity_itself_says_its_recipient_alone(
    desk: Home, tmp_path: Path
) -> None:
    recipient = generate_identity(tmp_path / "own.txt")
    made = desk.json("client-bundle", CREDENTIAL, "--recipient", recipient, "--to", tmp_path / "made")
    assert made["files"] == ["keyturn-bot.json"]
    assert made["inventory_line"] == f"recipient: {recipient}"
    assert any("identity.txt" in step for step in made["next"])


@pytest.mark.parametrize(
    "given", ["ssh-ed25519 AAAA", "age1yubikey1qqqq", "AGE-SECRET-KEY-1QQQQ", "age1qqqq"]
)
def test_a_recipient_that_is_none_is_refused_and_not_repeated(desk: Home, tmp_path: Path, given: str) -> None:
    refused = desk.run("client-bundle", CREDENTIAL, "--recipient", given, "--to", tmp_path / "made")
    assert refused.code == 2
    assert given not in refused.err
    assert "age-keygen" in refused.err
    assert not (tmp_path / "made").exists()


def test_the_stores_own_recipient_is_refused(desk: Home, tmp_path: Path) -> None:
    text = (desk.folder / "keyturn-data" / "age-identity.txt").read_text()
    own = next(line.rpartition(" ")[2] for line in text.splitlines() if "public key" in line)
    refused = desk.run("client-bundle", CREDENTIAL, "--recipient", own, "--to", tmp_path / "made")
    assert refused.code == 3
    assert "opens every key" in refused.err


def test_who_says_nothing_of_an_identity_is_asked_to(desk: Home, tmp_path: Path) -> None:
    refused = desk.run("client-bundle", CREDENTIAL, "--to", tmp_path / "made")
    assert (refused.code, "--new-identity" in refused.err) == (2, True)
    unknown = desk.run("client-bundle", "nobody", "--to", tmp_path / "made")
    assert (unknown.code, CREDENTIAL in unknown.err) == (3, True)


def test_a_bot_whose_recipient_is_not_in_the_inventory_is_told_what_to_write(
    desk: Home, tmp_path: Path
) -> None:
    made = desk.json("client-bundle", CREDENTIAL, "--new-identity", "--to", tmp_path / "made")
    with pytest.raises(Exception, match="not encrypted for this bot") as caught:
        keyturn.client.current(CREDENTIAL, bundle=tmp_path / "made")
    assert made["recipient"] in caught.value.todo
    with pytest.raises(InventoryError, match="no credential"):
        keyturn.client.current("another", bundle=tmp_path / "made")
    with pytest.raises(InventoryError, match="not a folder"):
        keyturn.client.current(CREDENTIAL, bundle=tmp_path / "nowhere")


def test_the_next_sweep_encrypts_the_key_for_a_recipient_that_was_written_into_the_inventory(
    desk: Home, tmp_path: Path, venue: Venue
) -> None:
    made, _ = bundle_for(desk, tmp_path / "made")
    assert [f for f in desk.json("doctor")["findings"] if "store reseal" in f["todo"]]
    desk.run("sweep")
    assert keyturn.client.current(CREDENTIAL, bundle=made).key_ref == venue.bot.key_ref
    assert not [f for f in desk.json("doctor")["findings"] if "store reseal" in f["todo"]]


def test_a_copy_of_the_bots_folder_on_another_host_is_enough_to_follow(
    desk: Home, venue: Venue, common: Path, tmp_path: Path
) -> None:
    made, _ = bundle_for(desk, tmp_path / "made")
    there = tmp_path / "there"
    desk.run("client-bundle", CREDENTIAL, "--to", made, "--store-path", there).ok()

    def kept_alike() -> None:
        # As rsync --exclude='.*' does it: whole files, under their names.
        (there / "bots" / CREDENTIAL).mkdir(parents=True, exist_ok=True)
        source = common / "shared" / "store" / "bots" / CREDENTIAL
        for file in sorted(source.glob("[!.]*"), reverse=True):
            shutil.copy(file, there / "bots" / CREDENTIAL)

    desk.run("store", "reseal").ok()
    kept_alike()
    assert keyturn.client.current(CREDENTIAL, bundle=made).key_ref == venue.bot.key_ref
    desk.edit("    kind: client\n", "    kind: client\n    evidence: timed\n")
    assert desk.json("rotate", CREDENTIAL, *_WHY)["outcome"] == "completed"
    kept_alike()
    assert keyturn.client.current(CREDENTIAL, bundle=made).key_ref == venue.live_keys()[0]


def test_bots_of_a_server_get_settings_without_keyturns_own_login(desk: Home, tmp_path: Path) -> None:
    ca = tmp_path / "home" / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    desk.edit(
        "stores:\n",
        "stores:\n  hc:\n    kind: vault_kv2\n    ca_file: ca.pem\n"
        "    addresses: ['https://vault.example:8200']\n"
        "    auth: {method: approle, role_id: rotators-own, secret_id: {file: rotators-secret}}\n",
    )
    desk.edit(f"    path: bots/{CREDENTIAL}\n", f"    path: bots/{CREDENTIAL}\n    store: hc\n")
    made = desk.json("client-bundle", CREDENTIAL, "--to", tmp_path / "made")
    assert made["recipient"] is None
    text = (tmp_path / "made" / "keyturn-bot.json").read_text()
    assert "rotators" not in text
    assert "KEYTURN_VAULT_TOKEN" in text
    assert (tmp_path / "made" / "ca.pem").read_bytes() == ca.read_bytes()
    policy = tmp_path / "made" / "policy-hc.hcl"
    assert any(f"vault policy write bot-{CREDENTIAL} {policy}" in note for note in made["notes"])
    assert f'path "secret/data/bots/{CREDENTIAL}" {{' in policy.read_text()
    vain = desk.run("client-bundle", CREDENTIAL, "--new-identity", "--to", tmp_path / "vain")
    assert (vain.code, (tmp_path / "vain").exists()) == (2, False)
