"""What is told of a rotation that was undone holds: which key is current, and what may still live."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flows.ending import ending
from keyturn.domain.rotation import Fate, KeyRecord, Mode, Origin, Rotation, State
from keyturn.engine.aftermath import THEIRS_WAS_KEPT, told
from keyturn.simulator import Fault, FaultKind
from tasks.view import view_of

from .conftest import CREDENTIAL, Home, Venue

_AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
_WHY = ("--reason", "quarterly rotation")
_CREATE, _LIST = "create-sub-api", "/v5/user/sub-apikeys"


def _undone(**changes: object) -> Rotation:
    facts: dict[str, object] = {
        "id": "0123456789", "credential": CREDENTIAL, "exchange": "bybit", "account": "main",
        "state": State.ABORTED, "seq": 7, "mode": Mode.MANUAL, "reason": "x", "actor": "cli:alice",
        "created_at": _AT, "updated_at": _AT, "grace_seconds": 60.0, "confirm_seconds": 60.0,
        "attempt": 1, "old_ref": "old", "old_version": "v1", "old_fingerprint": "oldprint",
        "abort_reason": "not today",
    }  # fmt: skip
    return Rotation(**(facts | changes))  # type: ignore[arg-type]


def _keys(*fates: Fate) -> list[KeyRecord]:
    return [
        KeyRecord(
            key_id=f"0123456789-{number}",
            credential=CREDENTIAL,
            exchange="bybit",
            account="main",
            subaccount=None,
            origin=Origin.MINTED,
            fate=fate,
            recorded_at=_AT,
            rotation_id="0123456789",
            fingerprint=f"print{number}",
        )
        for number, fate in enumerate(fates, 1)
    ]


_OLD = "the old key (oldprint) is current"
_THEIRS = "the key that somebody else made current was kept, and the old key (oldprint) was not revoked"
_MADE = "a key that this rotation made (print1) is current and was not revoked"


@pytest.mark.parametrize(
    ("changes", "fates", "says"),
    [
        ({}, [Fate.REVOKED], f"{_OLD}; the new key is revoked."),
        ({"attempt": 2}, [Fate.NEVER_MADE, Fate.REVOKED], f"{_OLD}; the new key is revoked."),
        ({}, [Fate.NEVER_MADE], f"{_OLD}; no new key was made."),
        (
            {"attempt": 0, "old_ref": None, "old_fingerprint": None},
            [],
            "the key from before, if there was one, is current; no new key was made.",
        ),
        (
            {"old_ref": None, "old_fingerprint": None},
            [Fate.REVOKED],
            "no key is current, and there was none before; the new key is revoked.",
        ),
        (
            {"restored_at": _AT},
            [Fate.REVOKED],
            "the old key (oldprint) is current again; the new key is revoked.",
        ),
        (
            {"abort_reason": THEIRS_WAS_KEPT},
            [Fate.REVOKED],
            f"{_THEIRS}; the new key is revoked.",
        ),
        (
            {},
            [Fate.LIVE],
            f"{_MADE}; nothing else that it made lives.",
        ),
    ],
)
def test_what_is_told_follows_from_the_fates_and_the_reason(
    changes: dict[str, object], fates: list[Fate], says: str
) -> None:
    assert told(_undone(**changes), _keys(*fates)) == says


@pytest.mark.parametrize("fates", [[Fate.INTENDED], [Fate.REVOKED, Fate.INTENDED]])
def test_a_key_that_may_live_is_told_whatever_became_of_the_others(fates: list[Fate]) -> None:
    text = told(_undone(attempt=len(fates)), _keys(*fates))
    assert "one may live there: the sweep looks for it and revokes it" in text
    assert "is revoked" not in text


def test_an_abort_whose_mint_is_open_tells_that_a_key_may_live(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match=_CREATE, times=1))
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    venue.sim.faults.add(Fault(kind=FaultKind.STALE_LIST, match=_LIST, times=None, changes=1))
    result = live.run("abort", CREDENTIAL, "--reason", "not today").ok()
    assert len(venue.live_keys()) == 2
    assert "one may live there" in result.err
    assert "is revoked" not in result.out + result.err


def test_an_abort_before_anything_was_minted_tells_of_no_new_key(live: Home, venue: Venue) -> None:
    venue.stop()
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    venue.start()
    result = live.run("abort", CREDENTIAL, "--reason", "not today").ok()
    assert "no new key was made" in result.err
    assert venue.live_keys() == [venue.bot.key_ref]


def test_a_roll_back_tells_that_the_old_key_is_current_again(live: Home) -> None:
    live.edit("grace: 0s", "grace: 4s")
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait").ok()
    result = live.run("rollback", CREDENTIAL, "--reason", "the bot is sick").ok()
    assert "is current again; the new key is revoked." in result.err


def test_the_ending_of_a_run_tells_the_same() -> None:
    rotation = _undone()
    now = told(rotation, _keys(Fate.INTENDED))
    message = ending(view_of(rotation, rests=True, undone=now)).message
    assert message is not None
    assert f"\nNow: {now}\n" in message
