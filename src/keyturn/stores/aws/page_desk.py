"""Loads a path of Parameter Store, and writes its page as a compare-and-set (see `pages`)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.stores.aws import documents, pages
from keyturn.stores.aws.documents import FIELD, Kind, Opened
from keyturn.stores.aws.faults import AwsError, open_outcome, store_error
from keyturn.stores.aws.pages import Lease, Page
from keyturn.stores.aws.parameters import Param, Parameters
from keyturn.stores.formats import FIELDS, Format
from keyturn.stores.ledger import Held, Ledger
from keyturn.stores.ledger_text import meta_from_json, meta_to_json

WRITING = "ssm:PutParameter"
# How long a verb waits for another writer before it says that the store is busy.
_BUSY_SECONDS = 5.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """A path as it was read."""

    page: Page
    ledger: Ledger
    #: Version number of the path's parameter; 0 where there is none.
    number: int = 0
    current: Opened | None = field(default=None, repr=False)
    #: Version number of the previous key in the path's history.
    previous_number: int = 0

    @property
    def version(self) -> str:
        """The version of current, empty where there is none."""
        return self.ledger.current.version if self.ledger.current else ""


class Desk:
    """Reads and writes the paths of one store as a whole; every method blocks."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        #: How long one writer of current may keep the others waiting.
        self.lease_seconds = 4 * parameters.wire.timeout + 10

    def put(self, path: str, name: str, value: str, *, overwrite: bool, write: str = "") -> int | None:
        """Write, and read back what was not answered; None when it is there and may not be overwritten.

        Raises:
            StoreError: `OUTCOME_UNKNOWN`, and all that says that nothing was written.
        """
        failure: AwsError | None = None
        number: int | None = None
        try:
            number = self._parameters.put(path, name, value, overwrite=overwrite)
        except AwsError as error:
            failure = error
        if number is not None:
            return number
        if failure is None or failure.unanswered:
            # What is there already may be our own, of a try whose answer was lost.
            param = self.read_back(path, [name]).get(name)
            if param and (param.value == value or (write and write_of(param) == write)):
                return param.number
        if failure is not None:
            raise store_error(path, failure, wrote=True)
        return None

    def read_back(self, path: str, names: Sequence[str]) -> dict[str, Param]:
        """Look what became of a write that left.

        Raises:
            StoreError: `OUTCOME_UNKNOWN`: the look failed, which says nothing of the write.
        """
        try:
            return self._parameters.get(path, names)
        except StoreError:
            pass
        raise open_outcome(path, WRITING)

    def settled(self, path: str) -> State:
        """Load, when nobody writes current.

        Raises:
            StoreError: `UNAVAILABLE`, somebody is at it and does not finish; and all that `load` raises.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            state = self.load(path)
            lease = state.page.lease
            if lease is None or lease.over != state.version or time.time() >= lease.until:
                return state
            if time.monotonic() >= deadline:
                raise StoreError(
                    StoreFault.UNAVAILABLE,
                    f"Another worker is writing {path}.",
                    now="Nothing was written.",
                    todo=f"It is over in {self.lease_seconds:g} s, also if that worker died.",
                )
            time.sleep(_PAUSE)

    def load(self, path: str) -> State:
        """Read a path's parameter and its page in one call, and tell the slots.

        Raises:
            StoreError: `CORRUPT`, `DENIED`, `MISCONFIGURED`, `UNAVAILABLE`.
        """
        name = self._parameters.name(path)
        found = self._parameters.get(path, [name, f"{name}.keyturn"])
        param = found.get(f"{name}.keyturn")
        page = self._counting(path, param) if param else Page()
        base = found.get(name)
        if base is None:
            return State(page, _ledger(page, None, None, None))
        opened = read_param(path, base, self._parameters.formats.of(path))
        leaf, pointer = opened.leaf, opened.document.get(FIELD) or {}
        named = pointer.get("previous") if leaf.kind is Kind.KEY else None
        previous = _held(named) if named and page.dropped != leaf.version else None
        held = Held(leaf.version, leaf.attempt, leaf.meta)
        replaced = named["version"] if named else None
        promoted = pointer.get("content") is not None and pointer.get("content") == page.content
        ledger = _ledger(replace(page, pending=None) if promoted else page, held, previous, replaced)
        return State(page, ledger, base.number, opened, int(named["number"]) if named else 0)

    def _counting(self, path: str, newest: Param) -> Page:
        """Give the last version of the page that counts."""
        page = pages.load(path, newest.number, newest.value)
        if page.base == newest.number - 1:
            return page
        numbers = range(max(page.base, 1), newest.number)
        found = self._parameters.get(path, [f"{newest.name}:{n}" for n in numbers])
        counting = page.base
        best = page if page.base == 0 else None
        for param in sorted([*found.values(), newest], key=lambda p: p.number):
            candidate = pages.load(path, param.number, param.value)
            if param.number == page.base:
                best = candidate
            elif candidate.base == counting:
                counting, best = param.number, candidate
        return best or page

    def save(
        self,
        path: str,
        state: State,
        after: Ledger,
        *,
        content: str | None = None,
        dropped: str | None = None,
        lease: Lease | None = None,
    ) -> bool:
        """Write the page if it is still as it was read; False when somebody else wrote it first.

        Args:
            path: of the credential.
            state: as it was read.
            after: the slots from now on.
            content: the parameter of what is pending; None for the same as before while pending stays.
            dropped: the version of current whose previous is discarded.
            lease: for who writes current next.
        """
        page = state.page
        keeps = after.pending is not None and after.pending == page.pending
        kept = page.content if keeps and content is None else content
        trash = tuple(name for name in {page.content} if name and name != kept)
        if page.trash:
            self._parameters.delete(path, page.trash)
        new = Page(
            base=page.at,
            write=secrets.token_hex(6),
            revision=max(after.revision, page.revision),
            next_number=after.next_number,
            pending=after.pending,
            content=kept,
            fence=after.fence,
            dropped=dropped if dropped is not None else page.dropped,
            lease=lease,
            trash=trash,
        )
        if not self._write_page(path, new):
            return False
        if trash:
            self._parameters.delete(path, trash)
        return True

    def _write_page(self, path: str, new: Page) -> bool:
        name = f"{self._parameters.name(path)}.keyturn"
        failure: AwsError | None = None
        number: int | None = None
        try:
            number = self._parameters.put(path, name, pages.dump(new), overwrite=new.base > 0)
        except AwsError as error:
            failure = error
        if failure is not None and not failure.unanswered:
            raise store_error(path, failure, wrote=True)
        if number == new.base + 1:
            return True
        if number is None and failure is None:
            param = self.read_back(path, [name]).get(name)
            return param is not None and pages.load(path, param.number, param.value).write == new.write
        return self._counted(path, name, new, number, failure)

    def _counted(self, path: str, name: str, new: Page, number: int | None, failure: AwsError | None) -> bool:
        """Find out whether our write of the page, or which of our tries, is the one that counts."""
        if number is None:
            newest = self.read_back(path, [name]).get(name)
            number = newest.number if newest else 0
        between = [f"{name}:{n}" for n in range(new.base + 1, number + 1)]
        found = self.read_back(path, between)
        for param in sorted(found.values(), key=lambda p: p.number):
            page = pages.load(path, param.number, param.value)
            if page.base == new.base:
                return page.write == new.write
        if failure is not None:
            raise store_error(path, failure, wrote=True)
        return False


def _ledger(page: Page, current: Held | None, previous: Held | None, replaced: str | None) -> Ledger:
    return Ledger(
        revision=page.revision,
        next_number=page.next_number,
        pending=page.pending,
        current=current,
        previous=previous,
        replaced=replaced,
        fence=page.fence,
    )


def read_param(path: str, param: Param, expected: Format = FIELDS) -> Opened:
    """Understand a version of the path's parameter; its number and the mark of its write are its version."""
    opened = documents.read(path, str(param.number), param.value, expected)
    moment = int(param.modified.timestamp() * 1000) if param.modified else 0
    mark = _mark(opened) or str(moment)
    return replace(opened, leaf=replace(opened.leaf, version=f"{param.number}-{mark}"))


def _mark(opened: Opened) -> str | None:
    ours = opened.document.get(FIELD)
    known = isinstance(ours, dict) and opened.leaf.kind is Kind.KEY
    return ours.get("write") if known and isinstance(ours, dict) else None


def write_of(param: Param) -> str | None:
    """Give the mark of the write that made a version, if it was ours."""
    try:
        return _mark(documents.read(param.name, str(param.number), param.value))
    except StoreError:  # of a newer keyturn, or no document at all
        return None


def pointer_to(state: State) -> dict[str, Any] | None:
    """Name what is current, for the document that replaces it."""
    held = state.ledger.current
    if held is None:
        return None
    return {
        "number": state.number,
        "version": held.version,
        "attempt": str(held.attempt) if held.attempt else None,
        "meta": meta_to_json(held.meta) if held.meta else None,
    }


def _held(pointer: Mapping[str, Any]) -> Held:
    attempt = Attempt.parse(pointer["attempt"]) if pointer["attempt"] else None
    return Held(pointer["version"], attempt, meta_from_json(pointer["meta"]) if pointer["meta"] else None)
