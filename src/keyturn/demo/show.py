"""What the demo shows while it runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from keyturn.demo.cast import PARTS, Part
from keyturn.domain.rotation import State

# Enough for the closing table where nobody can say how wide the page is.
_PAGE = 150
_ARROW = " → "


@dataclass(slots=True)
class Look:
    """One line of what is going on."""

    path: Sequence[State] = ()
    #: The bot's own count.
    worked: int = 0
    refused: int = 0


class Show:
    """Tells a person how it goes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = time.monotonic()
        self._told = dict.fromkeys(PARTS, 0)
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    @classmethod
    def on_stdout(cls) -> Show:
        """Show on stdout."""
        console = Console(highlight=False)
        return cls(console if console.is_terminal else Console(highlight=False, width=_PAGE))

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._begun

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Tell a step."""
        self.console.print(f"{self.seconds:5.1f} s  {text}", soft_wrap=True, markup=False)

    def update(self, looks: Mapping[Part, Look]) -> None:
        """Show where everything stands."""
        if self._live:
            self._live.update(_table(looks), refresh=True)
        for part, look in looks.items():
            fresh = look.path[self._told[part] :]
            self._told[part] = len(look.path)
            if fresh and not self._live:
                states = _ARROW.join(fresh)
                self.say(
                    f"{part.credential}: {states} (its bot: {look.worked} calls, {look.refused} refused)"
                )


def _table(looks: Mapping[Part, Look]) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("CREDENTIAL", "STATE"):
        table.add_column(head, header_style="bold")
    for head in ("BOT'S CALLS", "REFUSED"):
        table.add_column(head, header_style="bold", justify="right")
    for part, look in looks.items():
        state = look.path[-1] if look.path else "-"
        style = "green" if state == State.COMPLETED else "red" if state == State.PARKED else "cyan"
        refused = f"[red]{look.refused}[/]" if look.refused else "0"
        table.add_row(part.credential, f"[{style}]{state}[/]", str(look.worked), refused)
    return table


def arrows(path: Sequence[State]) -> str:
    """Write a path of states."""
    return _ARROW.join(path)
