"""Where the client reads a credential: the store's slots, and a cheap sign that something moved."""

from __future__ import annotations

from typing import Protocol

from keyturn.domain.slots import Slot, Stored


class Source(Protocol):
    """One credential in a store, as a bot sees it. Methods block, and are called from any thread."""

    def signature(self) -> object:
        """Give something that compares unequal once the slots may have changed; cheap enough for 4 Hz.

        Raises:
            KeyturnError, OSError: the store cannot be seen now.
        """
        ...

    def read(self, slot: Slot) -> Stored | None:
        """Open a slot, freshly read; None when it is empty.

        Raises:
            KeyturnError, OSError: the store cannot be read now.
        """
        ...
