"""The attachments of this process that answer under one name: what one of them confirms, it says for all."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

from keyturn.client.link import Link
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import NoticeMessage
from keyturn.client.streams import PrivateStream

_lock = threading.Lock()
_known: dict[tuple[str, str], WeakSet[Link]] = {}
# The least that any of them can say is what is said.
_ORDER: tuple[PrivateStream, ...] = ("none", "logged_in", "not_reopened")


def after_fork() -> None:
    """Forget the parent's attachments in a forked process."""
    global _lock  # noqa: PLW0603 - a thread that this process lacks may hold it
    _lock = threading.Lock()
    _known.clear()


class Peers:
    """The attached exchange objects, of one credential, whose answers go into one mailbox.

    Args:
        mailbox: of their consumer.
        credential: the name.
    """

    def __init__(self, mailbox: Mailbox, credential: str) -> None:
        self._key = (os.path.realpath(mailbox.folder), credential)

    def join(self, link: Link) -> None:
        """Have the others wait for this object, for as long as it lives."""
        with _lock:
            _known.setdefault(self._key, WeakSet()).add(link)

    def leave(self, link: Link) -> None:
        """Have nobody wait for this object any more. Doing it twice is harmless."""
        with _lock:
            _known.get(self._key, WeakSet()).discard(link)

    def ready_for(self, notice: NoticeMessage) -> PrivateStream | None:
        """Tell what became of their private streams; None while one of them is not on the notice's key."""
        with _lock:
            links = list(_known.get(self._key, ()))
        found = [link.ready_for(notice) for link in links]
        told = [stream for stream in found if stream is not None]
        return max(told, key=_ORDER.index, default=None) if len(told) == len(found) else None
