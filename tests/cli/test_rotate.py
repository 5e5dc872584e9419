"""`keyturn rotate`, `resume`, `abort`, `rollback`, `sweep` against a real exchange server."""

from __future__ import annotations

import time

from keyturn.simulator import Fault, FaultKind

from .conftest import CREDENTIAL, Home, Venue, key_document

_WHY = ("--reason", "quarterly rotation")
_CREATE = "/v5/user/create-sub-api"


def test_rotating_replaces_the_key_and_proves_the_old_one_dead(live: Home, venue: Venue) -> None:
    result = live.run("rotate", CREDENTIAL, *_WHY).ok()
    assert not venue.sim.is_live(venue.bot.key_ref)
    assert len(venue.live_keys()) == 1
    assert "is dead: a call signed with it was refused" in result.out
    assert result.err == ""


def test_a_rotation_tells_each_state_once(live: Home) -> None:
    lines = live.run("rotate", CREDENTIAL, *_WHY).out.splitlines()
    told = [line.split()[1] for line in lines if line[2] == ":"]
    assert [word for word in told if word != "waiting"] == [
        "planned", "staged", "verified", "promoted", "cutting_over", "grace", "completed",
    ]  # fmt: skip


def test_the_journal_names_the_user_and_the_reason(live: Home) -> None:
    document = live.json("rotate", CREDENTIAL, *_WHY)
    assert document["outcome"] == "completed"
    assert document["rotation"]["reason"] == "quarterly rotation"
    assert document["rotation"]["mode"] == "manual"
    assert document["rotation"]["actor"].startswith("cli:")


def test_json_says_nothing_but_one_document_and_no_key_ref(live: Home, venue: Venue) -> None:
    result = live.run("rotate", CREDENTIAL, *_WHY, "--json").ok()
    assert result.document["rotation"]["death_proof"]
    [new] = venue.live_keys()
    told = result.out + live.run("history", CREDENTIAL, "--json").out
    assert new not in told
    assert venue.bot.key_ref not in told


def test_a_dry_run_tells_the_plan_and_changes_nothing(live: Home, venue: Venue) -> None:
    before, calls = venue.live_keys(), len(venue.sim.calls())
    result = live.run("rotate", CREDENTIAL, "--dry-run").ok()
    assert "1. mint a key at bybit" in result.out
    assert "nothing was changed" in result.out
    assert venue.live_keys() == before
    assert {call.method for call in venue.sim.calls()[calls:]} == {"GET"}
    assert live.json("history", CREDENTIAL)["rotations"] == []


def test_a_rotation_in_its_grace_period_ends_the_command_and_not_the_rotation(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    result = live.run("rotate", CREDENTIAL, *_WHY).ok()
    assert "waiting for the end of the grace period" in result.out
    assert "keyturn sweep" in result.out
    assert live.json("status")["credentials"][0]["state"] == "grace"


def test_an_incident_has_no_grace(live: Home, venue: Venue) -> None:
    live.edit("grace: 0s", "grace: 24h")
    planned = live.run("rotate", CREDENTIAL, "--dry-run", "--now").ok().out
    assert "wait for the confirmations" not in planned
    assert "no proof comes from mm-bybit: calls fail there until somebody moves them" in planned
    document = live.json("rotate", CREDENTIAL, *_WHY, "--now")
    assert document["outcome"] == "completed"
    assert document["rotation"]["mode"] == "incident"
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_the_steps_of_an_incident_name_who_proves_nothing(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    told = live.run("rotate", CREDENTIAL, *_WHY, "--now").ok().out
    assert "no grace: the old key is revoked now; no proof comes from mm-bybit: calls fail there" in told
    assert "both keys live" not in told


def test_with_a_grace_period_nobody_is_said_to_lose_calls(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    told = (
        live.run("rotate", CREDENTIAL, "--dry-run").ok().out + live.run("rotate", CREDENTIAL, *_WHY).ok().out
    )
    assert "calls fail" not in told
    assert "both keys live until" in told


def test_a_second_rotation_is_refused_and_says_how_to_go_on(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    live.run("rotate", CREDENTIAL, *_WHY).ok()
    result = live.run("rotate", CREDENTIAL, *_WHY)
    assert result.code == 3
    assert "delete it at the exchange" in result.err
    assert "keyturn sweep" in result.err
    assert f"keyturn history {CREDENTIAL}" in result.err


def test_a_rotation_needs_a_reason(live: Home) -> None:
    for arguments in ((), ("--reason", "  "), ("--reason", "x" * 501), ("--reason", "bell \x07")):
        result = live.run("rotate", CREDENTIAL, *arguments)
        assert result.code == 2, arguments
        assert "eason" in result.err
    assert live.json("history", CREDENTIAL)["rotations"] == []


def test_a_secret_in_the_reason_is_refused_and_not_repeated(live: Home) -> None:
    pasted = "AGE-SECRET-KEY-1" + "QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" + "Q" * 25
    result = live.run("rotate", CREDENTIAL, "--reason", f"leaked {pasted}")
    assert result.code == 2
    assert pasted not in result.err


def test_an_exchanges_secret_inside_a_reason_is_refused_and_not_repeated(live: Home, venue: Venue) -> None:
    pasted = venue.bot.secret + "7b2"  # never without a digit
    result = live.run("rotate", CREDENTIAL, "--reason", f"the secret ({pasted}) leaked.")
    assert result.code == 2
    assert pasted not in result.out + result.err
    assert live.json("history", CREDENTIAL)["rotations"] == []


def test_a_dead_manager_key_parks_the_rotation_and_resume_finishes_it(live: Home, venue: Venue) -> None:
    spare = venue.sim.add_key("main", ["Wallet.SubMemberTransfer"], ips=["127.0.0.1"])
    venue.sim.kill_key(venue.manager.key_ref)
    result = live.run("rotate", CREDENTIAL, *_WHY)
    assert result.code == 9
    assert "is parked" in result.err
    assert "Do: " in result.err
    second = live.run("rotate", CREDENTIAL, *_WHY)
    assert second.code == 3
    assert second.err.count(f"keyturn resume {CREDENTIAL}") == 1
    swept = live.run("sweep")
    assert swept.code == 9
    assert "nothing unfinished" not in swept.out
    status = live.json("status", "--problems")
    assert status["summary"]["parked"] == 1
    assert status["credentials"][0]["todo"]
    assert "PARKED" in live.run("status").out

    live.run("put", "--manager", "main", stdin=key_document(spare)).ok()
    assert live.json("resume", CREDENTIAL)["outcome"] == "completed"
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_an_exchange_that_is_down_leaves_the_rotation_to_the_sweep(live: Home, venue: Venue) -> None:
    venue.stop()
    result = live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    assert result.code == 10
    assert "Now: nothing is lost" in result.err
    venue.start()
    time.sleep(2.5)  # the first back-off
    swept = live.json("sweep")
    assert [each["outcome"] for each in swept["outcomes"]] == ["completed"]


def test_a_rotation_waits_out_a_short_trouble_in_place(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.SERVER_ERROR, match="/v5/user/sub-apikeys", times=1))
    document = live.json("rotate", CREDENTIAL, *_WHY)
    assert document["outcome"] == "completed"


def test_what_ends_undone_is_no_success(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match=_CREATE))
    assert live.run("rotate", CREDENTIAL, *_WHY, "--no-wait").code == 10
    venue.stop()
    assert live.run("abort", CREDENTIAL, "--reason", "not today", "--no-wait").code == 10
    venue.start()
    time.sleep(2.5)
    result = live.run("sweep", "--json")
    assert result.code == 11
    assert result.document["outcomes"][0]["rotation"]["state"] == "aborted"
    assert venue.live_keys() == [venue.bot.key_ref]


def test_abort_before_the_promotion_keeps_the_old_key(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match=_CREATE))
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    document = live.json("abort", CREDENTIAL, "--reason", "not today")
    assert document["outcome"] == "aborted"
    assert venue.live_keys() == [venue.bot.key_ref]


def test_abort_after_the_promotion_is_refused_and_names_the_way(live: Home) -> None:
    live.edit("grace: 0s", "grace: 24h")
    live.run("rotate", CREDENTIAL, *_WHY).ok()
    result = live.run("abort", CREDENTIAL, "--reason", "not today")
    assert result.code == 3
    assert f"keyturn rollback {CREDENTIAL}" in result.err


def test_rollback_makes_the_old_key_current_again(live: Home, venue: Venue) -> None:
    live.edit("grace: 0s", "grace: 24h")
    rotated = live.json("rotate", CREDENTIAL, *_WHY)["rotation"]
    result = live.run("rollback", CREDENTIAL, "--reason", "the bot is sick", "--json").ok()
    assert result.document["rotation"]["restored_at"]
    assert live.json("status")["credentials"][0]["fingerprint"] == rotated["old_fingerprint"]
    assert venue.sim.is_live(venue.bot.key_ref)


def test_steering_without_an_open_rotation_is_refused(live: Home) -> None:
    for command in ("rollback", "abort"):
        assert live.run(command, CREDENTIAL, "--reason", "no rotation").code == 3
    assert live.run("resume", CREDENTIAL).code == 3


def test_a_sweep_begins_what_is_due_and_tells_beforehand(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    dry = home.json("sweep", "--dry-run")
    assert [(item["kind"], item["credential"]) for item in dry["items"]] == [("open", CREDENTIAL)]
    assert home.json("sweep", "--limit", "0")["outcomes"] == []
    assert home.json("sweep")["outcomes"][0]["outcome"] == "completed"
    assert "Nothing was due" in home.run("sweep").ok().out


def test_a_sweep_that_meets_a_failure_says_so_in_its_exit_code(live: Home, venue: Venue) -> None:
    venue.stop()
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    time.sleep(2.5)
    result = live.run("sweep")
    assert result.code == 10
    assert "in_the_way" in result.out
