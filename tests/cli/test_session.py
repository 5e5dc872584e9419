"""Ctrl-C ends a command's coroutine."""

import asyncio
import signal

import pytest

from keyturn.cli import session


def test_an_interrupt_ends_a_command_and_lets_it_clean_up() -> None:
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
