"""The verbs of the store port on parameters; every method blocks.

Three kinds of parameter a path:

* the path itself: the key that is current, as bots read it; its version number moves with every change;
* `<path>.keyturn`: the page, which holds no secret (see `pages` for how it is compared and set);
* `<path>.keyturn-<random>`: what is staged; deleted when it was promoted or discarded. The claim puts its
  name on the page before it is written, so that whoever goes on after a death knows of it.

The rules are those of `stores.ledger`; current and previous come from the path's own parameter, so that
what bots see is what counts, whoever wrote it.

**What Parameter Store cannot promise.** Writing the path's parameter cannot be made to depend on anything.
Writers of current therefore take turns by a lease on the page, check afterwards that nobody else wrote in
between, and put back what they overwrote if somebody did. Left open is a write that AWS does later than the
lease allows (four time-outs and ten seconds), and the moment in which bots see a write that is then taken
back. And no version can be destroyed alone: a replaced key stays in the parameter's history, a hundred
versions long, for those with `ssm:GetParameterHistory`; it is dead by then. Where this matters, use
Secrets Manager.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import Kind, Leaf, Opened
from keyturn.stores.aws.faults import conflict, crowded, open_outcome
from keyturn.stores.aws.page_desk import WRITING, Desk, State, pointer_to, read_param, write_of
from keyturn.stores.aws.pages import Lease
from keyturn.stores.aws.parameters import Param, Parameters
from keyturn.stores.ledger import Ledger

_MOST_STEPS = 64
# After any other fault the page is for certain as it was.
_WRITTEN_PERHAPS = {StoreFault.OUTCOME_UNKNOWN, StoreFault.CORRUPT}


class ParameterSlots:
    """The three slots of each path."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._desk = Desk(parameters)

    # Reading.

    def info(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot. Current takes no right but to read its parameter."""
        if slot is Slot.CURRENT:
            opened = self._current(path)
            return opened.leaf.info(slot) if opened else None
        return self._desk.load(path).ledger.info(slot)

    def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot."""
        opened, version = self._open(path, slot)
        if opened is None or opened.leaf.version != version:
            return None
        return Stored(opened.leaf.info(slot), documents.material_of(path, opened))

    def _open(self, path: str, slot: Slot) -> tuple[Opened | None, str]:
        if slot is Slot.CURRENT:
            opened = self._current(path)
            return opened, opened.leaf.version if opened else ""
        state = self._desk.load(path)
        held = state.ledger.held(slot)
        if held is None or (slot is Slot.PENDING and held.meta is None):
            # Only claimed: what may stand in its parameter was never said to be staged.
            return None, ""
        if slot is Slot.PENDING:
            name, version = state.page.content, held.version
        else:
            name, version = f"{self._parameters.name(path)}:{state.previous_number}", held.version
        param = self._parameters.open(path, name) if name else None
        opened = self._understood(path, param) if param else None
        if opened and slot is Slot.PENDING:
            opened = replace(opened, leaf=replace(opened.leaf, version=version))
        return opened, version

    def _current(self, path: str) -> Opened | None:
        param = self._parameters.open(path, self._parameters.name(path))
        return self._understood(path, param) if param else None

    def _understood(self, path: str, param: Param) -> Opened:
        return read_param(path, param, self._parameters.formats.of(path))

    def history(self, path: str) -> list[VersionInfo]:
        """List the versions of the path's parameter, and what is pending."""
        ledger = self._desk.load(path).ledger
        at: dict[str, set[Slot]] = {}
        for slot in Slot:
            if held := ledger.held(slot):
                at.setdefault(held.version, set()).add(slot)
        rows = []
        for param in self._parameters.history(path, self._parameters.name(path)):
            leaf = self._understood(path, param).leaf
            slots = frozenset(at.get(leaf.version, ()))
            mark = leaf.meta.fingerprint if leaf.meta else None
            rows.append(VersionInfo(leaf.version, slots, leaf.attempt, mark, param.modified, not slots))
        if (pending := ledger.pending) and pending.meta:
            slots, meta = frozenset({Slot.PENDING}), pending.meta
            rows.append(
                VersionInfo(pending.version, slots, pending.attempt, meta.fingerprint, meta.created_at)
            )
        return rows

    # Pending.

    def claim(self, path: str, attempt: Attempt) -> Claim:
        """Write the claim to the page, encrypted as the secret will be, which proves the right to."""
        for _ in range(_MOST_STEPS):
            state = self._desk.settled(path)
            beside = documents.beside_the_key(state.current) if state.current else {}
            self._parameters.formats.check_room(path, beside)
            after, claim = state.ledger.claim(path, attempt)
            if after is state.ledger or self._desk.save(path, state, after, content=self._fresh(path)):
                return claim
        raise crowded(path)

    def _fresh(self, path: str) -> str:
        return f"{self._parameters.name(path)}.keyturn-{secrets.token_hex(6)}"

    def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write the key to the parameter that the claim has reserved, then say so on the page."""
        state = self._desk.settled(path)
        state.ledger.stage(path, claim, meta)  # refuses before anything is written
        self._parameters.formats.check(path, material)
        beside = documents.beside_the_key(state.current) if state.current else {}
        text = documents.key_text(
            path, material, meta, claim.attempt, beside, self._parameters.formats.of(path)
        )
        state, content = self._laid_down(path, state, text, claim, meta)
        try:
            for _ in range(_MOST_STEPS):
                after = state.ledger.stage(path, claim, meta)
                held = after.pending
                if state.page.content != content or held is None:
                    raise conflict(
                        f"Another worker stages under the claim of attempt {claim.attempt} on {path}."
                    )
                staged = replace(held, version=f"{held.version}-{content.rpartition('-')[2]}")
                if self._desk.save(path, state, replace(after, pending=staged), content=content):
                    return SlotInfo(Slot.PENDING, staged.version, claim.attempt, meta)
                state = self._desk.settled(path)
        except StoreError as error:
            if error.fault not in _WRITTEN_PERHAPS:
                self._parameters.delete(path, [content])
            raise
        raise crowded(path)

    def _laid_down(
        self, path: str, state: State, text: str, claim: Claim, meta: KeyMeta
    ) -> tuple[State, str]:
        """Write what is staged to a parameter that the page names; give the page's state, and the name."""
        for _ in range(_MOST_STEPS):
            content = state.page.content
            if content is not None and self._written(path, content, text):
                return state, content
            # An earlier stage under this claim was cut short, or one goes on elsewhere at this moment.
            # Another name on the page fences that off, and has what it wrote deleted.
            self._desk.save(path, state, state.ledger, content=self._fresh(path))
            state = self._desk.settled(path)
            state.ledger.stage(path, claim, meta)  # refuses when the other was faster
        raise crowded(path)

    def _written(self, path: str, content: str, text: str) -> bool:
        """Make the parameter; False when it is there with something else in it."""
        return self._desk.put(path, content, text, overwrite=False) is not None

    def discard(self, path: str, slot: Slot, version: str) -> None:
        """Empty pending and delete its parameter, or forget previous."""
        for _ in range(_MOST_STEPS):
            state = self._desk.settled(path)
            after = state.ledger.discard(slot, version)
            dropped = state.version if slot is Slot.PREVIOUS else state.page.dropped
            if after is state.ledger or self._desk.save(path, state, after, dropped=dropped):
                return
        raise crowded(path)

    # Current.

    def promote(self, path: str, attempt: Attempt, expect_current: str | None) -> Promotion:
        """Copy what is staged to the path's parameter."""

        def verb(state: State) -> tuple[Ledger, Promotion]:
            return state.ledger.promote(path, attempt, expect_current)

        def text(state: State, write: str) -> str:
            name = state.page.content
            param = self._parameters.open(path, name) if name else None
            if param is None:
                raise conflict(f"What attempt {attempt} staged at {path} is gone.")
            return _recast(path, documents.read(path, name or "", param.value), state, write, content=name)

        return Promotion(self._turn(path, verb, text, promotes=True), expect_current)

    def restore_previous(self, path: str, expect_current: str) -> Promotion:
        """Write the previous value to the path's parameter again, as a new version."""

        def verb(state: State) -> tuple[Ledger, Promotion]:
            return state.ledger.restore_previous(path, expect_current)

        def text(state: State, write: str) -> str:
            name = f"{self._parameters.name(path)}:{state.previous_number}"
            param = self._parameters.open(path, name)
            if param is None:
                raise conflict(f"{path} has lost its previous version.", "Rotate forward instead.")
            return _recast(path, self._understood(path, param), state, write)

        return Promotion(self._turn(path, verb, text), expect_current)

    def put(self, path: str, material: SecretMaterial, meta: KeyMeta, expect_current: str | None) -> SlotInfo:
        """Write straight to the path's parameter."""
        formats = self._parameters.formats
        formats.check(path, material)

        def verb(state: State) -> tuple[Ledger, None]:
            return state.ledger.put(path, meta, expect_current), None

        def text(state: State, write: str) -> str:
            beside = documents.beside_the_key(state.current) if state.current else {}
            notes = {"write": write, "previous": pointer_to(state)}
            return documents.key_text(path, material, meta, meta.attempt, beside, formats.of(path), **notes)

        version = self._turn(path, verb, text)
        return SlotInfo(Slot.CURRENT, version, meta.attempt, meta)

    def _turn(
        self,
        path: str,
        verb: Callable[[State], tuple[Ledger, Any]],
        text: Callable[[State, str], str],
        *,
        promotes: bool = False,
    ) -> str:
        """Take the lease, write current, check; give its version. A verb without effect writes nothing."""
        for _ in range(_MOST_STEPS):
            state = self._desk.settled(path)
            after, _ = verb(state)
            if after is state.ledger:
                return state.version
            write = secrets.token_hex(6)
            value = text(state, write)
            lease = Lease(state.version, time.time() + self._desk.lease_seconds)
            # Pending stays on the page until the write is done: current tells then whether it was.
            if self._desk.save(path, state, state.ledger, lease=lease):
                version = self._overwrite(path, state, value, write)
                if promotes and state.page.content:
                    # It is current, whatever becomes of this; the next change of the page deletes it, too.
                    with suppress(StoreError):
                        self._parameters.delete(path, [state.page.content])
                return version
        raise crowded(path)

    def _overwrite(self, path: str, state: State, value: str, write: str) -> str:
        name = self._parameters.name(path)
        number = self._desk.put(path, name, value, overwrite=state.number > 0, write=write)
        if number is None:
            raise conflict(f"Somebody else made the parameter {path} at this moment.")
        first = state.number + 1
        if number != first:
            self._refuse_to_overwrite(path, first, number, write)
        return f"{number}-{write}"

    def _refuse_to_overwrite(self, path: str, first: int, number: int, write: str) -> None:
        """Put back what somebody wrote between our read and our write; keep still if it was ourselves."""
        name = self._parameters.name(path)
        found = self._desk.read_back(path, [f"{name}:{n}" for n in range(first, number)])
        theirs = [param for param in found.values() if write_of(param) != write]
        if not theirs:
            return
        newest = max(theirs, key=lambda param: param.number)
        try:
            self._desk.put(path, name, newest.value, overwrite=True)
        except StoreError:
            # Ours is current still, so that it is no failure which wrote nothing.
            raise open_outcome(path, WRITING) from None
        raise conflict(f"Somebody else wrote to {path} at the same moment; theirs was put back.")


def _recast(path: str, source: Opened, state: State, write: str, *, content: str | None = None) -> str:
    """Write a version's document anew, in front of what is current."""
    leaf: Leaf = source.leaf
    if leaf.kind is not Kind.KEY or leaf.meta is None:
        return source.text
    notes = {"write": write, "previous": pointer_to(state), **({"content": content} if content else {})}
    material = documents.material_of(path, source)
    return documents.key_text(
        path, material, leaf.meta, leaf.attempt, documents.beside_the_key(source), source.shape, **notes
    )
