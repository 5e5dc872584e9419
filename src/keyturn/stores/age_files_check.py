"""The read-only check of an age store: key, folder, and each path with its slots and its lock."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from keyturn.domain.errors import StoreError
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.files import open_file
from keyturn.groups import closed_to
from keyturn.ports.store import Finding
from keyturn.stores import folder as disk
from keyturn.stores.age_files_readers import Readers, checked
from keyturn.stores.folder_faults import translate
from keyturn.stores.sealing import Sealer

# A writer that is at work right now is no finding; one that holds the lock this long is.
_LOCK_WAIT = 1.0
_PAUSE = 0.02
_BUNDLE = " keyturn client-bundle CONSUMER --new-identity"


class Checked(Protocol):
    """What is asked of the store."""

    def sealer(self) -> Sealer:
        """Give what encrypts new versions; raises where the key cannot be had."""

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot."""


def check(store: Checked, root: Path, paths: Sequence[str], readers: Mapping[str, Readers]) -> list[Finding]:
    """Look at everything that a rotation of these paths will need; writes nothing."""
    findings = [_key(store), _root(root)]
    for path in paths:
        findings += _path(store, root, path, readers)
    return findings


def _failed(subject: str, error: StoreError) -> Finding:
    return Finding(subject, ok=False, detail=error.what, todo=error.todo)


def _key(store: Checked) -> Finding:
    try:
        return Finding(
            "key", ok=True, detail=f"loaded; new versions are encrypted for {store.sealer().recipient}"
        )
    except StoreError as error:
        return _failed("key", error)


def _root(root: Path) -> Finding:
    existing = root
    while not os.path.exists(existing):  # noqa: PTH110  (False, not an error, where a parent is closed)
        existing = existing.parent
    if not existing.is_dir():
        return Finding(
            "folder", ok=False, detail=f"{existing} is not a folder", todo="Correct `path` of the store."
        )
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        todo = f"Let the user that runs keyturn write to {existing}."
        return Finding("folder", ok=False, detail=f"{existing} is not writable", todo=todo)
    if existing != root:
        return Finding("folder", ok=True, detail=f"{root} will be made at the first write")
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o022:
        detail = f"other users may change {root} (mode {mode:04o})"
        return Finding("folder", ok=False, detail=detail, todo=f"chmod go-w {root}")
    return Finding("folder", ok=True, detail=f"{root} is writable")


def _path(store: Checked, root: Path, path: str, among: Mapping[str, Readers]) -> list[Finding]:
    try:
        folder, readers = disk.locate(root, path), checked(path, among)
        readers.gid(path)
        held, strange = [], []
        for slot in Slot:
            opened = store.read_sync(path, slot)
            if opened:
                held.append(f"{slot} {opened.info.version}")
                strange += _readers(store.sealer(), folder, path, opened.info, readers.of(slot))
    except StoreError as error:
        return [_failed(path, error)]
    if not folder.exists():
        return [Finding(path, ok=True, detail="nothing is stored yet")]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        todo = f"Let the user that runs keyturn write to {folder}."
        return [Finding(path, ok=False, detail=f"{folder} is not writable", todo=todo)]
    readable = Finding(path, ok=True, detail=", ".join(held) + " opened" if held else "nothing is stored yet")
    return [readable, *strange, *_way(root, path, readers), *_modes(path, folder), _lock(path, folder)]


def _way(root: Path, path: str, readers: Readers) -> list[Finding]:
    """Tell whether the group that may see the files cannot come to them."""
    gid = readers.gid(path)
    closed = closed_to(gid, root) if gid is not None else None
    if closed is None:
        return []
    detail = f"the group {readers.group} cannot pass through {closed} to the store"
    return [Finding(path, ok=False, detail=detail, todo=f"chmod o+x {closed}")]


def _readers(
    sealer: Sealer, folder: Path, path: str, info: SlotInfo, wanted: frozenset[str]
) -> list[Finding]:
    """Tell whether a file is encrypted for others than the inventory says."""
    if info.slot is Slot.CURRENT and wanted & sealer.recipients:
        detail = "the recipient of its bot is the store's own: that bot opens every key"
        return [Finding(path, ok=False, detail=detail, todo="Give the bot an identity of its own:" + _BUNDLE)]
    sealed = disk.read_bytes(folder, disk.version_file(info.version))
    if sealed is None or sealer.resealed(sealed, wanted) is None:
        return []
    present = sealer.readers(sealed)
    lacking = ", ".join(sorted(wanted - present))
    detail = f"{info.slot} {info.version} is encrypted for others than the inventory says"
    detail += f"; {lacking} cannot open it" if lacking else ""
    detail += f"; {', '.join(sorted(present - wanted))} can still open it" if present - wanted else ""
    return [Finding(path, ok=False, detail=detail, todo="keyturn store reseal")]


def _modes(path: str, folder: Path) -> list[Finding]:
    loose = [file for file in sorted(folder.iterdir()) if file.is_file() and file.stat().st_mode & 0o022]
    return [
        Finding(path, ok=False, detail=f"other users may change {file}", todo=f"chmod go-w {file}")
        for file in loose
    ]


def _lock(path: str, folder: Path) -> Finding:
    # Opened for reading: this must not make the lock file where no writer has been yet.
    try:
        descriptor = open_file(folder / disk.LOCK)
    except FileNotFoundError:
        return Finding(path, ok=True, detail="the lock is free")
    except OSError as error:
        return _failed(path, translate(error, path))
    deadline = time.monotonic() + _LOCK_WAIT
    try:
        while True:
            try:
                disk.lock(descriptor)
                return Finding(path, ok=True, detail="the lock is free")
            except disk.BusyError:
                if time.monotonic() >= deadline:
                    break
            time.sleep(_PAUSE)
    finally:
        os.close(descriptor)
    todo = f"Find who holds {folder / disk.LOCK} (lsof); rotations of this path wait for it."
    return Finding(
        path, ok=False, detail=f"another process has held the lock for {_LOCK_WAIT:g} s", todo=todo
    )
