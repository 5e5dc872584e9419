"""The credential that a bot runs on, and the proof that it works."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from keyturn.client.source import Source
from keyturn.domain.errors import ExchangeFault, KeyturnError, RefusedError
from keyturn.domain.evidence import MAX_REFUSALS
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot, Stored

log = logging.getLogger("keyturn.client")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version of the credential that was current when it was read."""

    #: The store's version; after the place and a dot where the source names one, since two stores may
    #: count alike.
    version: str
    #: Empty for a key that was put into the store without keyturn: it cannot be acknowledged.
    fingerprint: str
    material: SecretMaterial = field(repr=False)
    #: Monotonic seconds.
    since: float
    #: The venue, as keyturn names it; empty for a key that was put into the store without keyturn.
    exchange: str = ""

    @classmethod
    def of(cls, stored: Stored, source: Source) -> Loaded:
        """Take over what a store gave."""
        meta, place = stored.info.meta, getattr(source, "place", "")
        version = f"{place}.{stored.info.version}" if place else stored.info.version
        fingerprint, exchange = (meta.fingerprint, meta.exchange) if meta else ("", "")
        return cls(version, fingerprint, stored.material, time.monotonic(), exchange)


@dataclass(frozen=True, slots=True)
class Proof:
    """A signed call that came back well."""

    #: What it was signed with. The reading and not its version: a key that was taken back is the same
    #: version again, and must prove itself anew.
    loaded: Loaded
    #: Method and path, no parameters.
    call: str


#: A right that a call needs, or the address that it comes from: what a new key may lack though it works.
_LACKING = frozenset({ExchangeFault.MISSING_PERMISSION, ExchangeFault.WRONG_IP})
# What a report of refused calls can hold of a call's name; ccxt's paths are within it.
_UNPRINTABLE = re.compile(r"[^ -:<-~]")


class Holder:
    """Keeps the current version of one credential. Safe to use from any thread.

    Args:
        source: where the credential is read.
        credential: its name, for messages.
        locate: finds the source anew, for a credential that may move to another store.

    Raises:
        RefusedError: the store holds no current key.
        KeyturnError, OSError: the store cannot be read. A bot must not start without its key.
    """

    def __init__(self, source: Source, credential: str, locate: Callable[[], Source] | None = None) -> None:
        self._source = source
        self._locate = locate
        self._inherited = False
        self.credential = credential
        stored = source.read(Slot.CURRENT)
        if stored is None:
            raise RefusedError(
                f"The store holds no current key for {credential!r}.",
                now="Nothing was changed; the bot has no key.",
                todo=f'Run `keyturn rotate {credential} --reason "..."`, then start the bot again.',
            )
        self._current = Loaded.of(stored, source)
        self._proof: Proof | None = None
        self._refused: tuple[Loaded, dict[tuple[str, ExchangeFault], datetime]] = (self._current, {})
        self._refreshing = threading.Lock()
        self._complained: set[str] = set()
        #: Whether the last reading failed, so that what is current may be out of date.
        self.unread = False
        #: Called after the first proof of a key and the first refusal of a call, from that call's thread.
        self.on_news: Callable[[], None] = lambda: None

    @property
    def source(self) -> Source:
        """Where the credential is read.

        Raises:
            KeyturnError, OSError: in a forked process: it cannot be opened anew.
        """
        if self._inherited and self._locate is not None:
            self._source, self._inherited = self._locate(), False
        return self._source

    def after_fork(self) -> None:
        """Begin anew in a forked process.

        A thread that this process lacks may hold the lock, and the parent goes on using the connections.
        """
        self._refreshing = threading.Lock()
        self._inherited = True

    @property
    def current(self) -> Loaded:
        """The version that calls are to be signed with."""
        return self._current

    @property
    def proof(self) -> Proof | None:
        """The first signed call that worked since the current key came; None as long as there is none."""
        proof = self._proof
        return proof if proof is not None and proof.loaded is self._current else None

    def refresh(self) -> bool:
        """Read the store, and tell whether another version is current since.

        A store that cannot be read leaves the present version in place: it is said once in the log.
        """
        with self._refreshing:
            return self._read_again()

    def superseded(self, version: str) -> bool:
        """Tell whether this version is no longer current, asking the store if need be."""
        if self._current.version == version:
            with self._refreshing:
                # Of many calls that failed at once, the first reads and the others see what it found.
                if self._current.version == version:
                    self._read_again()
        return self._current.version != version

    def relocate(self) -> None:
        """Look up anew where the credential is read, and read it there.

        The present place stays in use while the new one gives no key.
        """
        if self._locate is None:
            return
        try:
            found = self._locate()
            stored = found.read(Slot.CURRENT)
            if stored is None:
                raise RefusedError("there is no current key at the new place")
        except (KeyturnError, OSError) as error:
            self.complain("Moving to another store", error)
            return
        self.well("Moving to another store")
        with self._refreshing:
            self._source, self._inherited = found, False
            if (loaded := Loaded.of(stored, found)).version != self._current.version:
                self._current = loaded

    def note_success(self, loaded: Loaded | None, call: str) -> None:
        """Take note that a call signed with this key came back well."""
        if loaded is not None and loaded is self._current and self.proof is None:
            self._proof = Proof(loaded, call)
            self.on_news()

    def note_refusal(self, loaded: Loaded | None, call: str, fault: ExchangeFault) -> None:
        """Take note that the exchange refused a call signed with this key for its rights or its address."""
        if fault not in _LACKING or loaded is None or loaded is not self._current:
            return
        if self._refused[0] is not loaded:
            self._refused = (loaded, {})
        known = self._refused[1]
        name = (_UNPRINTABLE.sub("?", call), fault)
        # One more than is told, so that whoever tells knows that there are more.
        if name not in known and len(known) <= MAX_REFUSALS:
            known[name] = datetime.now(UTC)
            self.on_news()

    @property
    def refused(self) -> list[tuple[str, ExchangeFault, datetime]]:
        """The calls that the exchange has refused to the current key, each once."""
        loaded, known = self._refused
        if loaded is not self._current:
            return []
        return [(call, fault, at) for (call, fault), at in tuple(known.items())]

    def complain(self, about: str, error: BaseException) -> None:
        """Log a failure, once until it is over. Texts of foreign exceptions stay out: they may quote."""
        if about not in self._complained:
            self._complained.add(about)
            text = error.what if isinstance(error, KeyturnError) else type(error).__name__
            log.warning("%s of %s failed, the bot keeps its key: %s", about, self.credential, text)

    def well(self, about: str) -> None:
        """Take note that it works again, so that the next failure is logged."""
        if about in self._complained:
            self._complained.discard(about)
            log.info("%s of %s works again", about, self.credential)

    def _read_again(self) -> bool:
        try:
            stored = self.source.read(Slot.CURRENT)
            if stored is None:
                raise RefusedError("the store holds no current key any more")
        except (KeyturnError, OSError) as error:
            self.unread = True
            self.complain("Reading the store", error)
            return False
        self.unread = False
        self.well("Reading the store")
        loaded = Loaded.of(stored, self.source)
        if loaded.version == self._current.version:
            return False
        self._current = loaded
        log.info("%s is now on key %s", self.credential, self._current.fingerprint)
        return True
