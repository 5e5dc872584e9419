"""A world that does not play along: the command says what is in the way, and nothing is lost."""

from __future__ import annotations

from keyturn.simulator import Fault, FaultKind

from .conftest import CREDENTIAL, Home, Venue, key_document

_ROTATE = ("rotate", CREDENTIAL, "--reason", "quarterly rotation")


def _rests(live: Home, venue: Venue, *, code: int, says: str) -> str:
    """Rotate, expect it to rest with the old key current and alive; give what was said."""
    before = live.json("status")["credentials"][0]["fingerprint"]
    result = live.run(*_ROTATE, "--no-wait")
    assert result.code == code, (result.out, result.err)
    assert says in result.err
    assert "\nDo: " in result.err
    assert "\nNow: " in result.err
    assert venue.sim.is_live(venue.bot.key_ref)
    history = live.json("history", CREDENTIAL)
    assert history["rotations"][0]["state"] not in {"completed", "aborted"}
    assert before in {None, live.json("status")["credentials"][0]["fingerprint"]}
    return result.err


def test_a_full_key_quota_parks_and_no_key_is_deleted(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.QUOTA_REACHED, match="create-sub-api", times=None))
    others = [venue.sim.add_key("bot", ["Spot.SpotTrade"], label=f"hand-made {n}").key_ref for n in range(3)]
    _rests(live, venue, code=9, says="is parked")
    assert sorted(venue.live_keys()) == sorted([venue.bot.key_ref, *others])


def test_a_manager_key_without_the_right_parks(live: Home, venue: Venue) -> None:
    weak = venue.sim.add_key("main", ["Spot.SpotTrade"], ips=["127.0.0.1"])
    live.run("put", "--manager", "main", stdin=key_document(weak)).ok()
    _rests(live, venue, code=9, says="is parked")
    doctor = live.json("doctor")
    assert any("may not manage keys" in finding["detail"] for finding in doctor["findings"])
    assert live.run("doctor").code == 8


def test_a_clock_that_is_a_minute_off_is_named_and_mends_itself(live: Home, venue: Venue) -> None:
    venue.sim.clock_offset_s = 60.0
    said = _rests(live, venue, code=10, says="clock")
    assert "nothing is lost" in said
    assert live.run("doctor").code == 8
    venue.sim.clock_offset_s = 0.0
    live.run("doctor").ok()


def test_a_bot_that_never_confirms_parks_with_both_keys_alive(live: Home, venue: Venue) -> None:
    live.edit("    kind: file\n    evidence: timed\n    path: bot-key.json\n", "    kind: client\n")
    live.edit("confirm_within: 2h", "confirm_within: 1s")
    result = live.run(*_ROTATE)
    assert result.code == 9
    assert "Not confirmed by mm-bybit; both keys live" in result.err
    assert len(venue.live_keys()) == 2
    [line] = live.json("status", "--problems")["credentials"]
    assert line["parked"] is True
    assert "keyturn rollback" in line["todo"]


def test_a_lost_answer_mints_again_and_leaves_no_orphan(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match="create-sub-api"))
    document = live.json(*_ROTATE)
    assert document["outcome"] == "completed"
    assert document["rotation"]["attempt"] == 2
    assert len(venue.live_keys()) == 1


def test_a_store_that_cannot_be_written_says_so(live: Home, venue: Venue) -> None:
    slots = live.folder / "keyturn-data" / "store" / "bots"
    slots.rename(slots.with_name("bots.away"))
    slots.write_text("a file where a folder should be")
    said = live.run(*_ROTATE, "--no-wait")
    assert said.code in {9, 10}
    assert "Traceback" not in said.err
    assert venue.live_keys() == [venue.bot.key_ref]
