"""Ctrl-C ends every command with 130 and its document, and says only what is true of that command."""

from __future__ import annotations

import time
from typing import Any

import pytest

from keyturn.simulator import Fault, FaultKind
from tests.cli.processes import Call

from .conftest import CREDENTIAL, Home, Venue, key_document

_WHY = ("--reason", "quarterly rotation")
_SWEEP = "the next `keyturn sweep` goes on with it"


def _interrupted(
    live: Home, venue: Venue, *arguments: str, stdin: str = "", times: int = 1
) -> tuple[dict[str, Any], str]:
    """Press Ctrl-C while the exchange keeps the command waiting; give its document's error, and stderr."""
    venue.sim.faults.add(Fault(kind=FaultKind.LATENCY, match="/v5/", seconds=2, times=100))
    call = Call(*arguments, "--json", cwd=live.folder, stdin=stdin)
    give_up = time.monotonic() + 20
    while venue.sim.faults.pending()[0].times == 100 and time.monotonic() < give_up:
        time.sleep(0.02)
    for _ in range(times):
        call.running.interrupt()
        time.sleep(0.03)
    result = call.result()
    assert result.code == 130, result
    error = result.document["error"]
    assert (error["exit_code"], error["kind"]) == (130, "interrupted")
    return error, result.err


@pytest.mark.parametrize(("command", "times"), [(("sweep",), 1), (("rotate", CREDENTIAL, *_WHY), 2)])
def test_what_moves_rotations_is_gone_on_with_by_the_sweep(
    live: Home, venue: Venue, command: tuple[str, ...], times: int
) -> None:
    if command == ("sweep",):
        venue.stop()
        live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
        venue.start()
        time.sleep(2.5)  # the first back-off
    error, err = _interrupted(live, venue, *command, times=times)
    assert _SWEEP in error["todo"]
    assert _SWEEP in err


def test_what_only_looks_has_changed_nothing(live: Home, venue: Venue) -> None:
    error, err = _interrupted(live, venue, "doctor")
    assert error["now"] == "Nothing was changed."
    assert "sweep" not in err


def test_a_key_that_was_being_put_is_put_again_by_hand(live: Home, venue: Venue) -> None:
    error, err = _interrupted(live, venue, "put", "--manager", "main", stdin=key_document(venue.manager))
    assert "Run it again" in error["todo"]
    assert "sweep" not in err


def test_many_interrupts_end_a_command_no_differently(live: Home, venue: Venue) -> None:
    _interrupted(live, venue, "doctor", times=40)
