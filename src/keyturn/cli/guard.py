"""What stands around every command: errors become text and an exit code, never a traceback."""

from __future__ import annotations

import inspect
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

from keyturn import logs
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import Json
from keyturn.cli.output import Out, complain
from keyturn.domain.errors import InventoryError, KeyturnError

# Of an error that nobody foresaw.
_NOW = "What had begun stays in the journal; `keyturn status` shows it."
_TODO = "Run it again with KEYTURN_DEBUG=1 to see where, and report it."

# Functions of commands: which leave a rotation to the sweep, and which change nothing.
_ROTATING = frozenset({"rotate", "sweep", "resume", "abort", "rollback"})
_LOOKING = frozenset({"check", "doctor", "schema", "status", "plan", "history", "verify_journal"})


class Interrupted(KeyturnError):  # noqa: N818 - its name is the `kind` in the document
    """Somebody pressed Ctrl-C."""

    exit_code = 130


def guarded(command: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """Wrap a command so that it ends the process with an exit code of the table.

    The command takes an `Out` as its first parameter; on the command line `--json` stands for it.
    """

    def run(**arguments: Any) -> None:
        raise SystemExit(int(_run(command, arguments)))

    hints = get_type_hints(command, include_extras=True)
    parameters = [
        each.replace(annotation=hints[each.name])
        for each in inspect.signature(command).parameters.values()
        if each.name != "out"
    ]
    as_json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    # Typer reads both; neither may show `out`.
    run.__signature__ = inspect.Signature([*parameters, as_json])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in [*parameters, as_json]}
    run.__doc__ = command.__doc__
    return run


def _run(command: Callable[..., ExitCode | None], arguments: dict[str, Any]) -> ExitCode:
    out = Out(as_json=bool(arguments.pop("as_json", False)))
    try:
        logs.set_up()
        code = command(out, **arguments) or ExitCode.OK
    except KeyturnError as error:
        code = ExitCode(error.exit_code)
        _forget_secrets(error, arguments)
        complain("Error: " + error.diagnostics())
        _document(out, error)
    except KeyboardInterrupt:
        # One more would cut the document short, or end the process by the signal while it closes down.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code, interrupted = ExitCode.INTERRUPTED, _interrupted(command.__name__)
        complain(interrupted.diagnostics())
        _document(out, interrupted)
    except ModuleNotFoundError as error:
        code = ExitCode.UNEXPECTED
        what, todo = f"{error.name} is not installed.", "pip install 'keyturn[orchestrator]'"
        complain(f"Error: {what}\nDo: {todo}")
        _document(out, KeyturnError(what, now=_NOW, todo=todo))
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the last line of defence; a panic in Rust is no Exception
        code = _told(out, error)
    if out.closed and code is ExitCode.OK:
        return ExitCode.NOBODY_READS
    return code


def _told(out: Out, error: BaseException) -> ExitCode:
    """Tell an error that is none of keyturn's: this machine's, or one that nobody foresaw."""
    from keyturn.machine import machine_error

    told: KeyturnError | None = machine_error(error, now=_NOW) if isinstance(error, OSError) else None
    if told is None:
        complain(_unexpected(error))
        told = KeyturnError(f"An unexpected {type(error).__name__}.", now=_NOW, todo=_TODO)
    else:
        complain("Error: " + told.diagnostics())
    _document(out, told)
    return ExitCode(told.exit_code)


def _forget_secrets(error: KeyturnError, arguments: dict[str, Any]) -> None:
    """Take out of an error what stood on the command line and may be a secret."""
    from keyturn.cli.names import unrepeated

    several = [value if isinstance(value, list) else [value] for value in arguments.values()]
    typed = [str(each) for values in several for each in values if isinstance(each, str | Path)]
    error.what, error.now, error.todo = (unrepeated(t, typed) for t in (error.what, error.now, error.todo))


def _document(out: Out, error: KeyturnError) -> None:
    if out.documented:
        return  # the result is told, and stdout holds one document
    with suppress(OSError):  # the exit code and stderr have told it
        out.document(error_document(error))


def _interrupted(command: str) -> Interrupted:
    if command in _ROTATING:
        now, todo = _NOW, "Nothing: the next `keyturn sweep` goes on with it."
    elif command in _LOOKING:
        now, todo = "Nothing was changed.", ""
    else:
        now, todo = "What it was doing may be done or not.", "Run it again: what is done stays done."
    return Interrupted("Interrupted.", now=now, todo=todo)


def error_document(error: KeyturnError) -> dict[str, Any]:
    """Give what programs get in place of a result."""
    kind = type(error).__name__.removesuffix("Error")
    fault = getattr(error, "fault", None)
    return {
        "error": {
            "exit_code": error.exit_code,
            "kind": "".join("_" + c.lower() if c.isupper() else c for c in kind).strip("_"),
            "fault": str(fault) if fault else None,
            "what": error.what,
            "now": error.now,
            "todo": error.todo,
            "problems": list(error.problems) if isinstance(error, InventoryError) else [],
        }
    }


def _unexpected(error: BaseException) -> str:
    """Say that something unexpected happened, without the exception's own text.

    A library's text may quote a request or a response, and with it a secret; the kind of the exception
    and the lines of code that it came through cannot.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind += f" ({error.strerror})"
    lines = [f"Error: an unexpected {kind}."]
    if not os.environ.get("KEYTURN_DEBUG"):
        lines.append(f"Do: {_TODO}")
    else:
        cause: BaseException | None = error
        while cause is not None:
            lines.append(f"{type(cause).__module__}.{type(cause).__qualname__} at:")
            lines += [line.rstrip() for line in traceback.format_tb(cause.__traceback__)]
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    lines.append(f"Now: {_NOW}")
    return "\n".join(lines)
