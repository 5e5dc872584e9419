"""A command's coroutine runs to its end on either event loop, and Ctrl-C ends it."""

import asyncio
import signal
import sys

import pytest

from keyturn.cli import session


async def loop_module() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_a_command_runs_on_the_loop_that_comes_with_prefect() -> None:
    pytest.importorskip("uvloop")
    assert session.run(loop_module()).startswith("uvloop")


def test_a_command_runs_on_pythons_loop_where_there_is_no_other(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert session.run(loop_module()).startswith("asyncio")


@pytest.mark.parametrize("faster", [True, False])
def test_an_interrupt_ends_a_command_and_lets_it_clean_up(monkeypatch, faster: bool) -> None:
    if not faster:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    steps: list[str] = []

    async def interrupted() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(30)
        finally:
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        session.run(interrupted())
    assert steps == ["cleaned up"]
