"""The file that a consumer is given its key in, and the mark beside it of what was carried out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keyturn.access import OpenToOthersError, Way, trusted
from keyturn.client.files import write_atomic
from keyturn.consumers.place import find_owner, place_of
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.files import SMALL, open_file, read_file, take

# A bot's configuration with lists of pairs has some hundred kilobytes.
_MOST_BYTES = 16 << 20


class Target:
    """One file, by the path that the inventory gives; through links, as long as they are nobody else's.

    Each call goes the way anew and works in the folder that it found: what was judged is what is used.

    Args:
        name: of the consumer.
        path: of the file.
        mode: its permissions.
        owner: the user that it is given to, by name or number; None: whoever has it, else keyturn's own.
    """

    def __init__(self, name: str, path: Path, mode: int, owner: str | None) -> None:
        self.path = path
        self._name, self._mode, self._owner = name, mode, owner

    def read(self) -> bytes | None:
        """Read the file; None when it is not there.

        Raises:
            OSError: it cannot be read; `OpenToOthersError`: a stranger has a hand in it.
            ConsumerError: there is no such owner.
        """
        with self.opened() as way:
            return read_file(way.name, _MOST_BYTES, folder=way.folder) if way.last else None

    def write(self, content: bytes) -> None:
        """Replace the file, whole.

        Raises:
            OSError, ConsumerError: as of `read`.
        """
        with self.opened() as way:
            write_atomic(Path(way.name), content, self._mode, self._given_to(way), folder=way.folder)

    def _given_to(self, way: Way) -> tuple[int, int] | None:
        """Give the user and group of the file: what is declared, else what it has."""
        own, has, owner = (
            (os.geteuid(), os.getegid()),
            way.last.status if way.last else None,
            find_owner(self._owner),
        )
        if owner:
            wanted = (owner.user, has.st_gid if has else owner.group)
        else:
            wanted = (has.st_uid, has.st_gid) if has else own
        return wanted if wanted != own else None

    def read_mark(self) -> bytes | None:
        """Read the mark; None when there is none of ours.

        Raises:
            OSError, ConsumerError: as of `read`.
        """
        with self.opened() as way, suppress(FileNotFoundError):
            descriptor = open_file(self._mark(way), folder=way.folder)
            status = os.fstat(descriptor)
            text = take(descriptor, SMALL)
            ours = status.st_uid in trusted() and not status.st_mode & stat.S_IWOTH
            return text if ours else None
        return None

    def write_mark(self, content: bytes) -> None:
        """Replace the mark.

        Raises:
            OSError, ConsumerError: as of `read`.
        """
        with self.opened() as way:
            write_atomic(Path(self._mark(way)), content, folder=way.folder)

    def _mark(self, way: Way) -> str:
        return f".{way.name}.keyturn-{self._name}.json"

    @contextmanager
    def opened(self) -> Iterator[Way]:
        """Go to the file.

        Raises:
            OSError, ConsumerError: as of `read`.
        """
        try:
            owner = find_owner(self._owner)
        except KeyError:
            raise ConsumerError(
                ConsumerFault.MISCONFIGURED,
                f"This machine has no user {self._owner}, the `owner` of {self._name}.",
                now="The file was not touched.",
                todo=f"Correct `owner` of {self._name} in the inventory.",
            ) from None
        try:
            with place_of(self.path, owner) as way:
                yield way
        except OpenToOthersError as error:
            its_own = (
                "" if owner else "; or, where that is the consumer's own user, declare it: `owner: NAME`"
            )
            raise ConsumerError(
                ConsumerFault.MISCONFIGURED,
                f"Somebody else has a hand in the file of {self._name} ({self.path}): {error.strerror}.",
                now="The file was not touched; nobody was told.",
                todo=error.todo + its_own,
            ) from None
