"""Showing a rotation as it happens: a line for each change of state, and on a terminal what it waits for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyturn.cli.output import Out, clock, plain
from keyturn.domain.rotation import Rotation, State

if TYPE_CHECKING:
    from rich.status import Status

    from keyturn.domain.inventory import Inventory
    from keyturn.engine.engine import Progress

_OWED = "every proof that is owed is there"
_SAYS = {
    State.PLANNED: "the rotation is recorded",
    State.MINTING: "the exchange is asked for a new key",
    State.STAGED: "the new key is in the store's pending slot",
    State.VERIFIED: "the new key works and may do exactly what is declared",
    State.PROMOTED: "the new key is current",
    State.CUTTING_OVER: "the consumers are told",
    State.GRACE: f"{_OWED}; both keys live",
    State.REVOKING: "the old key is being revoked",
    State.COMPLETED: "the old key is proved dead",
    State.ABORTING: "going back: revoking whatever was minted",
    State.ABORTED: "undone",
    State.ROLLING_BACK: "rolling back: the old key becomes current again",
    State.PARKED: "parked: a person is needed",
}

# What the next step does, for the moving line: states name what is done.
_DOING = {
    State.PLANNED: "asking the exchange for a new key",
    State.MINTING: "looking for what became of the new key",
    State.STAGED: "trying the new key",
    State.VERIFIED: "promoting the new key",
    State.PROMOTED: "telling the consumers",
    State.CUTTING_OVER: "collecting the consumers' proofs",
    State.REVOKING: "revoking the old key and proving that it is dead",
}


def says(r: Rotation, inventory: Inventory) -> str:
    """Say in words where a rotation stands."""
    if r.state is State.GRACE and r.old_ref is not None and not r.grace_seconds:
        from keyturn.engine.plan import prove_nothing, unproved

        silent = prove_nothing(inventory, r.credential)
        told = f"; {unproved(silent)}" if silent else ""
        return f"{_OWED}; no grace: the old key is revoked now{told}"
    if r.state is State.GRACE:
        return f"{_SAYS[r.state]} until {clock(r.grace_until)}"
    if r.state is State.COMPLETED and r.old_ref is None:
        return "done; there was no key before this one"
    if r.state is State.ABORTED and r.abort_reason:
        return f"{_SAYS[r.state]}: {r.abort_reason}"
    return _SAYS[r.state]


class Show:
    """Tells of rotations step by step.

    Args:
        out: where to; silent in JSON mode.
        inventory: tells which consumers prove nothing.
        names: whether lines name the credential, for more than one rotation at a time.
    """

    def __init__(self, out: Out, inventory: Inventory, *, names: bool = False) -> None:
        self._out = out
        self._inventory = inventory
        self._names = names
        self._told: dict[str, State] = {}
        self._waiting: dict[str, str] = {}
        self._spinner: Status | None = None

    @contextmanager
    def live(self, title: str) -> Iterator[None]:
        """Keep a moving line at the foot of a terminal for as long as the block lasts."""
        if self._out.as_json or not sys.stdout.isatty():
            yield
            return
        from rich.console import Console
        from rich.markup import escape

        with Console().status(escape(title)) as spinner:
            self._spinner = spinner
            try:
                yield
            finally:
                self._spinner = None

    def opened(self, rotation: Rotation) -> None:
        """Tell that a rotation was opened, or taken up."""
        self._foot(rotation, "")
        self._state(rotation)

    def step(self, progress: Progress) -> None:
        """Tell what a step of the engine changed."""
        rotation, rest = progress.rotation, progress.rest
        resting = rotation.is_open and rotation.state is not State.PARKED
        waits = rest.waiting_for if rest and resting else ""
        self._foot(rotation, waits)
        self._state(rotation)
        if waits and waits != self._waiting.get(rotation.id):
            self._line(rotation, "in the way" if rotation.failures else "waiting", waits)
        self._waiting[rotation.id] = waits

    def _state(self, rotation: Rotation) -> None:
        if self._told.get(rotation.id) is rotation.state:
            return
        self._told[rotation.id] = rotation.state
        self._line(rotation, str(rotation.state), says(rotation, self._inventory))

    def _line(self, rotation: Rotation, word: str, text: str) -> None:
        name = f"{rotation.credential}  " if self._names else ""
        self._out.line(f"{datetime.now(UTC):%H:%M:%SZ}  {name}{word:<13} {text}")

    def _foot(self, rotation: Rotation, waits: str) -> None:
        if self._spinner is None:
            return
        from rich.markup import escape

        text = f"{rotation.credential}: " + (
            f"waiting for {waits}" if waits else _DOING.get(rotation.state) or says(rotation, self._inventory)
        )
        if self._names:
            text = f"{len(self._told)} rotations, {text}"
        self._spinner.update(escape(plain(text)))
