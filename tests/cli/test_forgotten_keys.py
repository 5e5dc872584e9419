"""On a real folder: keys that no slot names, a lost identity, and the ways in and out of the store."""

from __future__ import annotations

import shutil

import pytest

from .conftest import CREDENTIAL, SUBACCOUNT, Home, Venue, key_document

_WHY = ("--reason", "a test")


@pytest.fixture
def kept(home: Home, venue: Venue) -> Home:
    """A home whose keys are in the store, with one key minted."""
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    home.run("rotate", CREDENTIAL, *_WHY).ok()
    return home


def test_a_moved_path_makes_no_key_forgotten(kept: Home, venue: Venue) -> None:
    kept.edit(f"path: bots/{CREDENTIAL}", f"path: bots/{CREDENTIAL}-new")
    [before] = venue.live_keys()
    doctor = kept.run("doctor")
    assert doctor.code == 8
    assert "no slot names it; the exchange lists it" in doctor.out
    sweep = kept.run("sweep")
    assert sweep.code == 8
    assert f"keyturn rotate {CREDENTIAL}" in sweep.out
    status = kept.run("status", "--problems").ok()
    assert "no slot names it" in status.out
    [line] = kept.json("status")["credentials"]
    assert line["differences"][0]["todo"].endswith(f'keyturn rotate {CREDENTIAL} --reason "..."')
    assert "no slot names it" in kept.run("plan", CREDENTIAL).ok().out
    kept.run("rotate", CREDENTIAL, "--now", "--yes", *_WHY).ok()
    assert before not in venue.live_keys()
    assert kept.json("status")["credentials"][0]["differences"] == []
    kept.run("doctor").ok()


def test_the_key_of_a_store_whose_identity_is_lost_is_replaced_and_dies(kept: Home, venue: Venue) -> None:
    data = kept.folder / "keyturn-data"
    other = kept.folder / "other"
    options = ("--exchange", "bybit", "--subaccount", SUBACCOUNT, "--permission", "read")
    kept.cli("init", other, *options).ok()
    shutil.copy(other / "keyturn-data" / "age-identity.txt", data / "age-identity.txt")
    shutil.rmtree(data / "store" / "managers")
    shutil.rmtree(data / "store" / "bots")
    kept.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    [before] = venue.live_keys()
    kept.run("rotate", CREDENTIAL, *_WHY).ok()
    assert before not in venue.live_keys()
    assert len(venue.live_keys()) == 1
    kept.run("doctor").ok()


def test_a_key_that_was_put_by_mistake_is_forgotten_and_another_is_put(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
    told = home.run("forget", CREDENTIAL).ok()
    assert "lives on at the exchange" in told.out
    assert f"keyturn put {CREDENTIAL}" in told.out
    assert venue.bot.key_ref in venue.live_keys()
    [key] = home.json("history", CREDENTIAL)["keys"]
    assert key["fate"] == "forgotten"
    again = home.run("forget", CREDENTIAL)
    assert again.code == 3
    home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()


def test_a_key_of_another_sub_account_is_not_put(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    venue.sim.add_account("other", uid="3003", parent="main")
    home.edit(f'subaccount: "{SUBACCOUNT}"', 'subaccount: "3003"')
    refused = home.run("put", CREDENTIAL, stdin=key_document(venue.bot))
    assert refused.code == 3
    assert "no key of account main, sub-account 3003" in refused.err
    assert home.json("history", CREDENTIAL)["keys"] == []
