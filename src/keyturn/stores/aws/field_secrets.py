"""Secrets of one field each, beside a secret that keyturn rotates: for bots that read single values.

The secret at the path is the truth; its promotion is still one move of one label. The field secrets follow
it like a mirror: each gets a version with the plain value, and AWSCURRENT is moved to it.

**One id for one key.** The version in each field secret has the id of the version that is current at the
path. Who reads several fields compares the `VersionId`s of the answers: where they are equal, the values
are of one key.

**Late writers.** A writer looks where AWSCURRENT of a field stands first and reads the truth second, and
moves the label only away from where it saw it. So a field always goes from what was current to what was
current later, for AWSCURRENT of the truth never returns to a version that it has left. A worker that slept
through a roll-back finds the label moved, and changes nothing.
"""

from __future__ import annotations

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.ports.store import Finding
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import Kind, Opened
from keyturn.stores.aws.faults import NOTHING
from keyturn.stores.aws.shelf import CURRENT, INCOMING, PREVIOUS, Shelf, View


class FieldSecrets:
    """The field secrets of one store; every method blocks, and does nothing at a path without any."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def paths(self, path: str) -> dict[str, str]:
        """Give where each of keyturn's fields stands."""
        return {field: f"{path}/{name}" for field, name in self._shelf.formats.apart(path).items()}

    def refuse_strangers(self, path: str) -> None:
        """Make sure, before anything is minted, that no field secret is somebody else's.

        Raises:
            StoreError: `MISCONFIGURED`, one is, or is scheduled for deletion; `DENIED`, `UNAVAILABLE`.
        """
        for field, where in self.paths(path).items():
            view = self._shelf.view(where)
            if view and view.current and not self._ours(path, field, where, view.current):
                raise _stranger(where)

    def follow(self, path: str) -> list[str]:
        """Bring the field secrets up to what is current at the path; name those that another moved.

        Raises:
            StoreError: one could not be written. Those before it are, and the next call goes on.
        """
        where_of = self.paths(path)
        if not where_of:
            return []
        seen = {field: self._shelf.view(where) for field, where in where_of.items()}
        truth = self._shelf.open(path, label=CURRENT)
        if truth is None or not truth.leaf.holds_key:
            return []
        values = documents.material_of(path, truth).reveal()
        return [
            f"secret {where}"
            for field, where in where_of.items()
            if field in values and not self._bring_up(path, field, seen[field], truth, values[field])
        ]

    def _bring_up(self, path: str, field: str, view: View | None, truth: Opened, value: str) -> bool:
        where, token = self.paths(path)[field], truth.leaf.id
        if view is None:
            self._shelf.create(where, token, value)
            made = self._shelf.view(where)
            # Not ours: another worker made it, perhaps after a truth that is newer than the one we saw.
            return made is not None and made.current == token
        if view.current != token:
            if view.current and not self._ours(path, field, where, view.current):
                raise _stranger(where)
            if not self._replace(where, view.current, token, value):
                return False
        elif INCOMING in view.labels[token]:
            self._shelf.strip(where, INCOMING, token)
        return True

    def _replace(self, where: str, holder: str | None, token: str, text: str) -> bool:
        """Put a version beside the one that is current, and move AWSCURRENT to it; False where it moved."""
        if not self._shelf.put(where, token, text, INCOMING):
            # Another worker was faster; then it is the same value.
            there = self._shelf.open(where, version_id=token)
            if there is None:
                return False
            if there.text != text:
                raise _stranger(where)
        moved = self._shelf.move(where, CURRENT, holder, token)
        self._shelf.strip(where, INCOMING, token)
        return moved

    def _ours(self, path: str, field: str, where: str, version_id: str) -> bool:
        """Tell whether a version is ours, or holds a value of ours: a person may bring their own secrets."""
        truth = self._shelf.view(path)
        if truth is not None and version_id in truth.labels:
            return True
        if any(known == version_id for known, _, _ in self._shelf.versions(path)):
            return True
        there = self._shelf.open(where, version_id=version_id)
        if there is None or there.leaf.kind is Kind.VACANT:
            return True
        labelled = [v for v in (truth.current, truth.previous) if v] if truth else []
        return any(there.text == self._value(path, field, v) for v in labelled)

    def _value(self, path: str, field: str, version_id: str) -> str | None:
        opened = self._shelf.open(path, version_id=version_id)
        if opened is None or not opened.leaf.holds_key:
            return None
        return documents.material_of(path, opened).reveal().get(field)

    def forget_previous(self, path: str) -> None:
        """Take the label from what the field secrets held before; AWS cannot destroy it sooner."""
        for where in self.paths(path).values():
            view = self._shelf.view(where)
            if view and view.previous:
                self._shelf.strip(where, PREVIOUS, view.previous)

    def vacate(self, path: str) -> None:
        """Move AWSCURRENT of each field secret to a version without a value; others' secrets stay."""
        where_of = self.paths(path)
        seen = {field: self._shelf.view(where) for field, where in where_of.items()}
        truth = self._shelf.open(path, label=CURRENT) if where_of else None
        if truth is None or truth.leaf.holds_key:
            return
        for field, where in where_of.items():
            view, token = seen[field], truth.leaf.id
            if view is None:
                continue
            if view.current != token:
                if view.current and not self._ours(path, field, where, view.current):
                    continue
                self._replace(where, view.current, token, documents.mark_text(Kind.VACANT))
                view = self._shelf.view(where) or view
            if view.previous:
                self._shelf.strip(where, PREVIOUS, view.previous)

    def findings(self, path: str) -> list[tuple[str, View | None, Finding]]:
        """Tell how each field secret stands; writes nothing."""
        return [(where, *self._look(path, field, where)) for field, where in self.paths(path).items()]

    def _look(self, path: str, field: str, where: str) -> tuple[View | None, Finding]:
        try:
            view, truth = self._shelf.view(where), self._shelf.view(path)
            holder = view.current if view else None
            if holder is None:
                return view, Finding(where, ok=True, detail=f"nothing is stored yet; {field} goes there")
            if not self._ours(path, field, where, holder):
                raise _stranger(where)
        except StoreError as error:
            return None, Finding(where, ok=False, detail=error.what, todo=error.todo)
        same = truth is not None and truth.current == holder
        detail = f"{field}, {'of the same version as' if same else 'and another version than'} {path}"
        todo = "" if same else "An open rotation brings it up; without one, rotate the credential."
        return view, Finding(where, ok=same, detail=detail, todo=todo)


def _stranger(where: str) -> StoreError:
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"The secret {where} holds something that keyturn did not put there.",
        now=NOTHING,
        todo="Delete it, give the field another name in `format`, or store the current key's value in it.",
    )
