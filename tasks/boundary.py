"""What leaves the engine towards Prefect: a plain text, and nothing that hangs on it.

Prefect stores the message of a failed run in several tables and pickles the exception of a failed flow,
even where results are not persisted. So nothing but these two errors crosses: built from the text of a
`KeyturnError` (which names codes, ids and fingerprints only) or, for an error that nobody expected, from
its type and place alone, because its message could quote anything.
"""

from __future__ import annotations

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from typing import ParamSpec, TypeVar

from prefect.exceptions import ExternalSignal, PrefectSignal

from keyturn.domain.errors import KeyturnError, RefusedError

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What ends a run on purpose, and must reach Prefect as what it is.
_SIGNALS = (
    asyncio.CancelledError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    PrefectSignal,
    ExternalSignal,
)


class PlainError(Exception):
    """A failure, told in a text that anybody may read."""


class PlainRefusalError(PlainError):
    """The request was understood and refused; nothing was changed."""


def plain(error: BaseException) -> PlainError:
    """Give what may be told about an error, as an error that carries nothing else."""
    if isinstance(error, PlainError):
        return type(error)(*error.args)
    if isinstance(error, RefusedError):
        return PlainRefusalError(error.diagnostics())
    if isinstance(error, KeyturnError):
        return PlainError(error.diagnostics())
    return PlainError(
        f"An error that keyturn does not know: {type(error).__name__}, at {_place(error)}.\n"
        "Now: whatever was begun stands in the journal, and the next sweep goes on with it.\n"
        "Do: look at keyturn status; report the type and the place as a bug."
    )


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))


def bounded(call: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
    """Let only plain errors and signals out of a coroutine function.

    An error that is no `Exception` is told too: a panic of a library written in Rust, which the age files
    are read with, is one, and may quote what it worked on.
    """

    @functools.wraps(call)
    async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await call(*args, **kwargs)
        except _SIGNALS as signal:
            _unchain(signal)
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary: nothing may pass
            told = plain(error)
        # Outside of the handler, so that not even the context of the new error leads to the old one.
        raise told

    return wrapper


def _unchain(signal: BaseException) -> None:
    """Take off a signal the errors that it interrupted: Prefect logs the whole chain of a run that crashed.

    Cancellations inside cancellations stay linked, for anyio tells by that whose they are.
    """
    while isinstance(signal.__context__, asyncio.CancelledError):
        signal.__cause__, signal = None, signal.__context__
    signal.__cause__ = signal.__context__ = None
