"""Where keyturn's own log goes: to stderr, as text or as JSON, when the variable KEYTURN_LOG asks for it."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from keyturn.domain.errors import MachineError
from keyturn.domain.printable import printable

VARIABLE = "KEYTURN_LOG"
FORMATS = ("text", "json")


class _Formatter(logging.Formatter):
    """A line a record; no control character of a name gets through."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if not self._as_json:
            return f"{at} {record.levelname} {record.name} {printable(record.getMessage())}"
        told = getattr(record, "keyturn", None) or {"message": record.getMessage()}
        return json.dumps({"at": at, "level": record.levelname, "logger": record.name, **told})


def set_up() -> None:
    """Send what keyturn logs to stderr, when the variable says so; else leave logging as the program has it.

    Raises:
        MachineError: the variable names no format.
    """
    chosen = os.environ.get(VARIABLE, "")
    if not chosen:
        return
    if chosen not in FORMATS:
        raise MachineError(
            f"The variable {VARIABLE} names no format of a log.",
            now="Nothing was done.",
            todo=f"Set it to {' or '.join(FORMATS)}, or unset it.",
        )
    logger = logging.getLogger("keyturn")
    if any(isinstance(handler.formatter, _Formatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=chosen == "json"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
