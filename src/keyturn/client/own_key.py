"""The word to keyturn that the bot signs with a key that it set itself, and confirms none."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from keyturn.client.link import Link
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import OwnKeyMessage


class OwnKeyWord:
    """Says it in a mailbox, and takes it back.

    Args:
        mailbox: None for a bot that only follows the store, which says nothing.
        credential: the name.
        consumer: the name under which the bot answers.
    """

    def __init__(self, mailbox: Mailbox | None, credential: str, consumer: str) -> None:
        self._mailbox, self._credential, self._consumer = mailbox, credential, consumer

    def tell(self, objects: Iterable[Link]) -> None:
        """Say it if it is so of one of these objects and is not said yet.

        Raises:
            OSError: it could not be said.
        """
        if self._mailbox is None or not any(link.is_on_own_key for link in objects):
            return
        if self._mailbox.own_key(self._credential) is None:
            self._mailbox.tell_own_key(
                OwnKeyMessage(credential=self._credential, consumer=self._consumer, at=datetime.now(UTC))
            )

    def take_back(self) -> None:
        """Say it no longer: it was an earlier process's word, or the bot has detached itself.

        Another object of the name says it again at its next look.
        """
        if self._mailbox is not None:
            with suppress(OSError):
                self._mailbox.forget_own_key(self._credential)
