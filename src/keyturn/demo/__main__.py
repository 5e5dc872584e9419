"""`python -m keyturn.demo`: what `make demo` runs. Exit status 0 only if every line of its table holds."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from keyturn.demo.house import AGE, House, typed
from keyturn.demo.places import KINDS
from keyturn.demo.show import Show, arrows
from keyturn.demo.stage import Result, perform
from keyturn.demo.verdict import Verdict
from keyturn.domain.errors import KeyturnError
from keyturn.loopback import past_proxies
from keyturn.machine import machine_error, refuse_environment
from keyturn.processes import keep_memory_private

_DOES_NOT_HOLD, _INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, play the demo, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m keyturn.demo",
        description="Turn three keys at simulated exchanges under bots that trade.",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("demo"), help="what the demo leaves goes here (default: ./demo)"
    )
    parser.add_argument(
        "--store", choices=KINDS, default=AGE, help="where the keys are kept (default: age, in the folder)"
    )
    given = parser.parse_args(arguments)
    keep_memory_private()
    # All that the demo starts inherits these: what it leaves can be changed by its user alone, and what it
    # calls is on this machine.
    os.umask(os.umask(0o077) | 0o022)
    os.environ.update(past_proxies(os.environ))
    return asyncio.run(_main(House(given.folder), given.store))


async def _main(house: House, kind: str) -> int:
    show = Show.on_stdout()
    playing = asyncio.create_task(_play(house, show, kind))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, _stop, playing)
    try:
        with show:
            result = await playing
    except KeyturnError as error:
        return _failed(show, error)
    except OSError as error:
        lack = machine_error(error, now="The demo stopped; what was begun is in its journal.")
        if lack is None:
            raise
        return _failed(show, lack)
    except asyncio.CancelledError:
        ahead = "the next demo finishes it" if kind == AGE else "its store ended; the next demo begins anew"
        show.say(f"interrupted; whatever was begun is in the journal, and {ahead}")
        return _INTERRUPTED
    _tell(result, house, show, kind)
    return 0 if result.holds else _DOES_NOT_HOLD


def _failed(show: Show, error: KeyturnError) -> int:
    show.console.print(f"Error: {error.diagnostics()}", style="red", markup=False, soft_wrap=True)
    return error.exit_code


def _stop(playing: asyncio.Task[Result]) -> None:
    """Cancel once: a second Ctrl-C must not interrupt the cleaning up, which is bounded."""
    if not playing.cancelling():
        playing.cancel()


async def _play(house: House, show: Show, kind: str) -> Result:
    refuse_environment(os.environ)
    house.settle()
    with house.locked():
        return await perform(house, show, kind)


def _tell(result: Result, house: House, show: Show, kind: str) -> None:
    show.console.print(_table(result.verdicts))
    broken = [f"{v.part.credential}: {sentence}" for v in result.verdicts for sentence in v.broken]
    for sentence in broken + result.broken:
        show.console.print(f"DOES NOT HOLD: {sentence}", style="bold red", markup=False, soft_wrap=True)
    if result.holds:
        show.say("every line holds: three keys turned, no call refused, every old key dead")
        show.console.print(
            f"The journal is whole ({result.events} events); no secret stands outside the {kind} store.",
            soft_wrap=True,
        )
    file, name = typed(house.inventory_file), result.verdicts[0].part.credential
    keyturn = typed(Path(sys.executable).parent / "keyturn")
    if kind != AGE:
        show.console.print("The store ended with the demo: the next one begins anew, with new keys.")
    again = "run the demo again to turn the keys again" if kind == AGE else "run the demo again"
    show.console.print(f"\nLook at what is left, and {again}:")
    for command in ("status", f"history {name}", "verify-journal"):
        show.console.print(f"  {keyturn} {command} --inventory {file}", soft_wrap=True, markup=False)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(show_lines=True)
    for head in ("credential", "old key", "new key", "states", "its bot's calls", "refused", "old key now"):
        table.add_column(head, overflow="fold")
    for v in verdicts:
        r, c = v.turn.rotation, v.counted
        table.add_row(
            v.part.credential,
            (r.old_fingerprint if r else None) or "-",
            (r.new_fingerprint if r else None) or "-",
            arrows(v.path) or "-",
            f"{c.on_old} old, {c.on_new} new",
            str(c.refused + v.bot.refused),
            ("dead: " if v.dead else "NOT DEAD: ") + v.death,
            style="red" if v.broken else "",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
