"""What a person logs in with at the Prefect that `keyturn up` runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from keyturn.prefect_access import CLIENT_AUTH, SERVER_AUTH, draw_auth


@dataclass(frozen=True)
class Login:
    """The auth string of one start, and the file in which its user finds it.

    Whoever has it can run commands as that user.
    """

    auth: str
    #: None where the caller's environment holds the string.
    file: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str], folder: Path) -> Self:
        """Take the string of the environment, or draw one that `folder` keeps for the time of this start."""
        given = environ.get(SERVER_AUTH, "")
        return cls(given, None) if given else cls(draw_auth(), folder / "prefect-auth")

    def write(self) -> None:
        """Write the file, anew and closed to others; whatever stood at its place is gone."""
        if self.file is None:
            return
        self.file.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(self.file, flags, 0o600), "w", encoding="ascii") as file:
            file.write(self.auth + "\n")

    def forget(self) -> None:
        """Remove the file: the next start draws another string."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def told(self, out: TextIO) -> str:
        """Say how to log in: by the string itself, or by its file where what is written stays."""
        if self.file is None:
            return f"It asks for a login: paste the value of {SERVER_AUTH}."
        commands = f"For Prefect's commands: {CLIENT_AUTH}=$(cat {self.file})"
        where = f"what stands in {self.file}" if _stays(out) else self.auth
        return f"It asks for a login, once in a browser. Paste: {where}\n{commands}"


def _stays(out: TextIO) -> bool:
    """Tell whether an output is a file, or the journal of systemd, which is a socket."""
    try:
        mode = os.fstat(out.fileno()).st_mode
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
