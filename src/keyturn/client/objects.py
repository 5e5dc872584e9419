"""The exchange objects of one attachment: the one that was attached, and its copies."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from keyturn.client.link import Link
from keyturn.client.messages import NoticeMessage
from keyturn.client.peers import Peers
from keyturn.client.streams import PrivateStream

if TYPE_CHECKING:
    from keyturn.client.watcher import Watcher


class Objects:
    """Knows them for as long as the bot has them. Each of them keeps the watcher.

    Args:
        link: of the attached object.
        peers: all that answer under its name; None where nothing is answered.
    """

    def __init__(self, link: Link, peers: Peers | None) -> None:
        self._known = [weakref.ref(link)]
        self._peers = peers

    def __iter__(self) -> Iterator[Link]:
        return iter([link for known in tuple(self._known) if (link := known()) is not None])

    def keep(self, watcher: Watcher) -> None:
        """Have the attached object keep its watcher, and be waited for."""
        for link in self:
            self.add(link, watcher)

    def add(self, link: Link, watcher: Watcher) -> None:
        """Take a copy in: it is waited for, too."""
        others = [weakref.ref(other) for other in self if other is not link]
        self._known = [*others, weakref.ref(link)]
        link.watcher = watcher
        if self._peers is not None:
            self._peers.join(link)

    def drop(self, link: Link) -> None:
        """Wait for an object no longer. Doing it twice is harmless."""
        self._known = [weakref.ref(other) for other in self if other is not link]
        self.leave(link)

    def leave(self, link: Link) -> None:
        """Wait for an object no longer, and know it still."""
        if self._peers is not None:
            self._peers.leave(link)

    def active(self) -> Link | None:
        """Give one that calls can be made with; None when the bot has set another key on each."""
        return next((link for link in self if link.active), None)

    def ready_for(self, notice: NoticeMessage) -> PrivateStream | None:
        """Tell what became of the streams of all that answer under the name; see `Peers`."""
        return self._peers.ready_for(notice) if self._peers is not None else None
