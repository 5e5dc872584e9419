"""`keyturn put` and `keyturn adopt`: a person's key gets into the store, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.processes import process

from .conftest import CREDENTIAL, Home, Venue, key_document


@pytest.fixture
def served(home: Home, venue: Venue) -> Home:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    return home


def _everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_manager_key_is_asked_about_and_stored(served: Home, venue: Venue) -> None:
    result = served.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    assert "It may: read, transfer" in result.out
    assert "It works from: 127.0.0.1" in result.out
    assert "keyturn doctor" in result.out
    assert venue.sim.book.count > 0


def test_a_bots_key_is_stored_and_adopted(served: Home, venue: Venue) -> None:
    document = json.loads(served.run("put", CREDENTIAL, "--json", stdin=key_document(venue.bot)).ok().out)
    assert document["adopted"] is True
    assert document["permissions"] == ["read", "trade_spot"]
    [key] = served.json("history", CREDENTIAL)["keys"]
    assert (key["origin"], key["fate"], key["fingerprint"]) == ("adopted", "live", document["fingerprint"])


def test_lines_do_as_well_as_json(served: Home, venue: Venue) -> None:
    text = f"{venue.bot.key_ref}\n{venue.bot.secret}\n"
    served.run("put", CREDENTIAL, stdin=text).ok()


def test_nothing_of_the_key_is_shown_or_left_unencrypted(served: Home, venue: Venue) -> None:
    result = served.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    assert venue.bot.secret not in result.out + result.err
    assert venue.bot.key_ref not in result.out + result.err
    assert venue.bot.secret.encode() not in _everything(served.folder)


def test_a_key_that_the_exchange_refuses_is_not_stored(served: Home, venue: Venue) -> None:
    before = _everything(served.folder / "keyturn-data" / "store")
    wrong = json.dumps({"api_key": venue.bot.key_ref, "secret": "not-a-real-secret-1"})
    result = served.run("put", CREDENTIAL, stdin=wrong)
    assert result.code == 4
    assert "not-a-real-secret-1" not in result.out + result.err
    assert _everything(served.folder / "keyturn-data" / "store") == before
    assert served.json("history", CREDENTIAL)["keys"] == []


def test_a_key_that_can_do_more_than_declared_is_a_warning(served: Home, venue: Venue) -> None:
    able = venue.sim.add_key("bot", ["Spot.SpotTrade", "Wallet.AccountTransfer"])
    result = served.run("put", CREDENTIAL, stdin=key_document(able)).ok()
    assert "It can transfer, which is not declared" in result.out


def test_a_manager_key_that_cannot_manage_is_a_warning(served: Home, venue: Venue) -> None:
    result = served.run("put", "--manager", "main", "--json", stdin=key_document(venue.bot)).ok()
    assert any("may not manage keys" in warning for warning in json.loads(result.out)["warnings"])


def test_a_manager_key_that_may_withdraw_is_taken_only_when_a_person_insists(
    served: Home, venue: Venue
) -> None:
    able = venue.sim.add_key("main", ["Wallet.SubMemberTransfer", "Wallet.Withdraw", "Earn.Earn"])
    refused = served.run("put", "--manager", "main", stdin=key_document(able))
    assert refused.code == 3
    assert "may withdraw" in refused.err
    assert "keyturn put --manager main --may-withdraw" in refused.err
    assert any("no manager key" in f["detail"] for f in served.json("doctor")["findings"])
    insisted = ("put", "--manager", "main", "--may-withdraw", "--json")
    result = served.run(*insisted, stdin=key_document(able)).ok()
    warnings = json.loads(result.out)["warnings"]
    assert "It may also withdraw, Earn.Earn. Take that right away: it needs only one of transfer." in warnings


def test_a_manager_key_that_works_from_anywhere_and_ends_is_told(served: Home, venue: Venue) -> None:
    unbound = venue.sim.add_key("main", ["Wallet.SubMemberTransfer"])
    result = served.run("put", "--manager", "main", stdin=key_document(unbound)).ok()
    assert "not bound to addresses" in result.out
    assert "The exchange ends it on 20" in result.out
    findings = {f["detail"]: f["ok"] for f in served.json("doctor")["findings"]}
    assert findings["the manager key is not bound to addresses"] is False
    assert any(detail.startswith("the manager key ends on 20") for detail in findings)


def test_what_the_living_key_may_do_is_written_into_the_inventory(served: Home, venue: Venue) -> None:
    served.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    able = venue.sim.add_key(
        "bot", ["Spot.SpotTrade", "ContractTrade.Order", "ContractTrade.Position"], ips=["127.0.0.1"]
    )
    result = served.run("put", CREDENTIAL, "--write-rights", "--json", stdin=key_document(able)).ok()
    document = json.loads(result.out)
    assert (document["inventory_written"], document["warnings"]) == (True, [])
    text = served.inventory.read_text()
    assert "permissions: [read, trade_derivatives, trade_spot] # exactly these, never more" in text
    assert "ip_allowlist: [127.0.0.1]" in text
    assert "no_ip_allowlist_reason" not in text
    served.run("check").ok()


def test_without_a_word_the_inventory_stays_and_the_way_is_named(served: Home, venue: Venue) -> None:
    before = served.inventory.read_text()
    able = venue.sim.add_key("bot", ["Spot.SpotTrade", "Wallet.AccountTransfer"])
    result = served.run("put", CREDENTIAL, stdin=key_document(able)).ok()
    assert "--write-rights" in result.out
    assert served.inventory.read_text() == before
    again = served.run("put", CREDENTIAL, "--write-rights", stdin=key_document(able)).ok()
    assert "declared in keyturn.yaml" in again.out
    assert "[read, trade_spot, transfer]" in served.inventory.read_text()


def test_another_key_in_the_slot_is_not_overwritten(served: Home, venue: Venue) -> None:
    served.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    other = venue.sim.add_key("bot", ["Spot.SpotTrade"])
    result = served.run("put", CREDENTIAL, stdin=key_document(other))
    assert result.code == 3
    assert f"keyturn rotate {CREDENTIAL}" in result.err


@pytest.mark.parametrize(
    "stdin",
    [
        "",
        "only-a-line",
        "{}",
        "[1, 2]",
        "{not json not-a-real-secret-1",
        '{"api_key": "a", "secret": 5}',
        '{"api_key": "a", "secret": "not-a-real-secret-1", "passphrase": "not-a-real-secret-1"}',
        '{"api_key": "a", "secret": "not-a-real secret-1"}',
        "a\nnot-a-real-secret-1\nnot-a-real-secret-1\n",
        '{"api_key": "a", "secret": "not-a-real-s\u00e9cret-1"}',
    ],
)
def test_what_is_no_key_is_refused_before_anybody_is_asked(served: Home, venue: Venue, stdin: str) -> None:
    result = served.run("put", CREDENTIAL, stdin=stdin)
    assert result.code == 2, result.err
    assert "api_key, secret" in result.err
    assert "not-a-real" not in result.out + result.err
    assert venue.sim.book.count == 0


def test_what_the_key_is_for_must_be_said_once(served: Home) -> None:
    assert served.run("put").code == 2
    assert served.run("put", CREDENTIAL, "--manager", "main").code == 2
    assert served.run("put", "--manager", "nobody").code == 3


def test_a_secret_is_no_argument(served: Home) -> None:
    for option in ("--secret", "--api-key", "--passphrase"):
        assert served.run("put", CREDENTIAL, option, "x").code == 2


def test_adopting_an_empty_slot_is_refused(home: Home) -> None:
    result = home.run("adopt", CREDENTIAL)
    assert result.code == 3
    assert f"keyturn put {CREDENTIAL}" in result.err


def test_adopting_twice_changes_nothing(live: Home) -> None:
    before = live.json("history", CREDENTIAL)["keys"]
    assert live.json("adopt", CREDENTIAL)["key"] == before[0]
    assert live.json("history", CREDENTIAL)["keys"] == before


def test_what_is_not_text_is_refused(served: Home) -> None:
    result = process("put", CREDENTIAL, cwd=served.folder, stdin=b"\xff\xfe\x00")
    assert result.code == 2
    assert "The field api_key is" in result.err
