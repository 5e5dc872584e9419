"""`keyturn store move`: a credential moves to another store. Each step may be cut short and done again."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import ask, session
from keyturn.cli.options import Credential, InventoryPath, Yes
from keyturn.cli.output import Out
from keyturn.domain.errors import RefusedError

if TYPE_CHECKING:
    from keyturn.cli.rehouse import Change
    from keyturn.domain.inventory import Inventory, StoreAddress
    from keyturn.engine.move import Moved
    from keyturn.settings import LoadedInventory


def move(
    out: Out,
    name: Credential,
    to: Annotated[
        str | None, typer.Option("--to", metavar="STORE", help="The store to move to.", show_default=False)
    ] = None,
    path: Annotated[
        str | None,
        typer.Option("--path", help="Where in that store. Default: the same path.", show_default=False),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Change the credential's lines in the inventory, too.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Destroy the old copy, once every consumer has confirmed.")
    ] = False,
    old: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STORE:PATH", help="The old place, if several are mirrors.", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> None:
    """Move a credential to another store: copy, point its consumers over, destroy the old copy."""
    if finish == (to is not None):
        raise ask.UsageError(
            "Say where to move, or that the move is to be finished.",
            now="Nothing was changed.",
            todo="keyturn store move NAME --to STORE, and at the end keyturn store move NAME --finish",
        )
    loaded = session.load(inventory, warn=True)
    session.known_credential(loaded, name)
    if to is None:
        _finish(out, loaded, name, old, write=write, yes=yes)
        return
    here, place = (
        loaded.inventory.store_of(name),
        _place(loaded, to, path or loaded.inventory.store_of(name).path),
    )
    if (here.store, here.path) == (place.store, place.path):
        _tell(out, loaded, name, _old_place(loaded, name, old), written=False)
    else:
        _copy(out, loaded, name, place, write=write)


# The steps.


def _copy(out: Out, loaded: LoadedInventory, name: str, place: StoreAddress, *, write: bool) -> None:
    from keyturn.cli.rehouse import told, wanted
    from keyturn.engine.move import show

    here, after = loaded.inventory.store_of(name), wanted(loaded.inventory, name, place, without=None)
    # Before anything is copied: a place that breaks a rule, or a file that cannot be changed, is told now.
    changed = _changed(loaded, name, after, must=write)
    version = session.run(_copied(loaded, name, place, after))
    if write and changed is not None:
        _tell(out, _rewritten(loaded, name, changed), name, here, written=True)
        return
    lines = told(after.credentials[name])
    again = f"keyturn store move {name} --to {place.store} --path {place.path}"
    steps = [
        f"change the entry of {name} in {loaded.path.name} (or let --write do it): {'; '.join(lines)}",
        again,
    ]
    document = {
        "step": "copied",
        "from": show(here),
        "to": show(place),
        "version": version,
        "change": list(lines),
    }
    out.document(_document(name, document, None, steps))
    out.line(f"The key of {name} stands at {show(place)} too, read back equal.", "green")
    out.line(f"Now change its entry in {loaded.path.name}:")
    for line in lines:
        out.line(f"    {line}")
    out.line(f"Then tell its consumers: {again}")


def _tell(out: Out, loaded: LoadedInventory, name: str, old: StoreAddress, *, written: bool) -> None:
    from keyturn.engine.move import show

    here, moved = loaded.inventory.store_of(name), session.run(_told(loaded, name, old))
    steps = [f"keyturn store move {name} --finish --from {show(old)}"]
    document = {"step": "told", "from": show(old), "to": show(here), "inventory_written": written}
    out.document(_document(name, document, moved, steps))
    if written:
        out.line(f"{loaded.path.name} names {show(here)}, with {show(old)} as a mirror.", "green")
    out.line(f"{name} lives at {show(here)} now; both places hold the key {moved.fingerprint}.", "green")
    _tell_proofs(out, moved)
    out.line(f"Next: {steps[0]}")


def _finish(
    out: Out, loaded: LoadedInventory, name: str, given: str | None, *, write: bool, yes: bool
) -> None:
    from keyturn.cli.rehouse import wanted
    from keyturn.engine.move import show

    old, here = _old_place(loaded, name, given), loaded.inventory.store_of(name)
    after = wanted(loaded.inventory, name, here, without=old)
    declared = after != loaded.inventory
    changed = _changed(loaded, name, after, must=write) if declared else None
    silent = _silent(loaded.inventory, name)
    doubt = f" {', '.join(silent)} will prove nothing: do they read {show(here)}?" if silent else ""
    ask.confirm(f"Destroy the copy of {name} at {show(old)}?{doubt}", yes=yes)
    moved = session.run(_finished(loaded, name, old))
    steps = (
        []
        if write or not declared
        else [f"take {show(old)} out of the mirrors of {name} in {loaded.path.name}"]
    )
    if write and changed is not None:
        rewritten = _rewritten(loaded, name, changed)
        # Whatever a rotation put there while it was still a mirror.
        moved = session.run(_finished(rewritten, name, old))
    elif declared:
        steps.append(f"keyturn store move {name} --finish --from {show(old)}")
    document = {
        "step": "finished",
        "from": show(old),
        "to": show(here),
        "inventory_written": write and declared,
    }
    out.document(_document(name, document, moved, steps))
    _tell_proofs(out, moved)
    out.line(f"The copy at {show(old)} is destroyed; {name} lives at {show(here)}.", "green")
    for step in steps:
        out.line(f"Next: {step}")


async def _copied(loaded: LoadedInventory, name: str, place: StoreAddress, after: Inventory) -> str:
    from keyturn.cli.rehouse import with_entry
    from keyturn.domain.inventory import MirrorAddress
    from keyturn.engine.move import copy

    # With the new place known to its store: it has the credential's format.
    entry = loaded.inventory.credentials[name]
    mirror = MirrorAddress(store=place.store, path=place.path, format=after.credentials[name].format)
    others = tuple(m for m in entry.mirrors if (m.store, m.path) != (place.store, place.path))
    known = with_entry(loaded.inventory, name, entry.model_copy(update={"mirrors": (*others, mirror)}))
    async with session.world(_as(loaded, known)) as world:
        return (await copy(world, name, place)).version


async def _told(loaded: LoadedInventory, name: str, old: StoreAddress) -> Moved:
    from keyturn.engine.move import tell

    async with session.world(loaded) as world:
        return await tell(world, name, old)


async def _finished(loaded: LoadedInventory, name: str, old: StoreAddress) -> Moved:
    from keyturn.engine.move import finish

    async with session.world(loaded) as world:
        return await finish(world, name, old)


async def _refuse_open(loaded: LoadedInventory, name: str) -> None:
    from keyturn.engine.move import refuse_open

    async with session.world(loaded) as world:
        await refuse_open(world, name)


# The inventory.


def _changed(loaded: LoadedInventory, name: str, after: Inventory, *, must: bool) -> Change | None:
    """Change the text; None where only a person can, unless it must be changed here."""
    from keyturn.cli.rehouse import change
    from keyturn.exchanges.catalog import manifests

    try:
        text = loaded.path.read_text(encoding="utf-8-sig")
        return change(text, name, loaded.inventory, after, manifests(), loaded.real_path)
    except RefusedError:
        if must:
            raise
        return None


def _rewritten(loaded: LoadedInventory, name: str, changed: Change) -> LoadedInventory:
    """Write the inventory, and take that back if a rotation began under the old one."""
    from keyturn.client.files import write_atomic
    from keyturn.settings import LoadedInventory

    target = loaded.path.resolve()
    before, mode = target.read_bytes(), stat.S_IMODE(target.stat().st_mode)
    session.run(_refuse_open(loaded, name))
    write_atomic(target, changed.text.encode(), mode)
    try:
        session.run(_refuse_open(loaded, name))
    except RefusedError:
        write_atomic(target, before, mode)
        raise
    return LoadedInventory(changed.loaded.inventory, changed.loaded.warnings, loaded.path)


def _as(loaded: LoadedInventory, inventory: Inventory) -> LoadedInventory:
    from keyturn.settings import LoadedInventory

    return LoadedInventory(inventory, loaded.warnings, loaded.path)


def _place(loaded: LoadedInventory, store: str, path: str) -> StoreAddress:
    from pydantic import ValidationError

    from keyturn.cli.names import known_name
    from keyturn.domain.inventory import StoreAddress

    stores = loaded.inventory.stores
    known_name(loaded, "store", store, stores, f"The stores are: {', '.join(sorted(stores))}.")
    try:
        return StoreAddress(store=store, path=path)
    except ValidationError:
        raise ask.UsageError(
            "That is not a path that a store takes.",
            now="Nothing was changed.",
            todo="Write plain segments joined by `/`, such as bots/mm-bybit.",
        ) from None


def _old_place(loaded: LoadedInventory, name: str, given: str | None) -> StoreAddress:
    """Find the place that is to be left.

    Raises:
        RefusedError: it cannot be told, or it is somebody's home.
    """
    from keyturn.engine.move import show

    mirrors = loaded.inventory.credentials[name].mirrors
    if given is None:
        if len(mirrors) == 1:
            return mirrors[0]
        raise RefusedError(
            f"{name} has {len(mirrors) or 'no'} mirrors; which is the old place cannot be told.",
            now="Nothing was changed.",
            todo=f"Name it: --from {show(mirrors[0])}"
            if mirrors
            else "There is nothing to finish: it moved.",
        )
    store, _, path = given.partition(":")
    place = _place(loaded, store, path or loaded.inventory.store_of(name).path)
    if (place.store, place.path) in _homes(loaded.inventory, name):
        raise RefusedError(
            f"{show(place)} is where the inventory has a key of its own.", now="Nothing was changed."
        )
    return place


def _homes(inventory: Inventory, name: str) -> set[tuple[str, str]]:
    """Give every place that the inventory names, but for the credential's own mirrors."""
    homes = {(a.manager.store, a.manager.path) for a in inventory.accounts.values()}
    for each, entry in inventory.credentials.items():
        address = inventory.store_of(each)
        homes.add((address.store, address.path))
        homes |= {(m.store, m.path) for m in entry.mirrors if each != name}
    return homes


def _silent(inventory: Inventory, name: str) -> list[str]:
    consumers = inventory.credentials[name].consumers
    entries = {c: inventory.consumers[c] for c in consumers}
    return [c for c, e in entries.items() if e.kind != "file" and e.evidence == "timed"]


# What is said.


def _document(name: str, step: dict[str, Any], moved: Moved | None, steps: list[str]) -> dict[str, Any]:
    return {
        "credential": name,
        **step,
        "fingerprint": moved.fingerprint if moved else None,
        "confirmed": list(moved.confirmed) if moved else [],
        "missing": dict(moved.missing) if moved else {},
        "prove_nothing": list(moved.silent) if moved else [],
        "next": steps,
    }


def _tell_proofs(out: Out, moved: Moved) -> None:
    for name in moved.confirmed:
        out.line(f"  {name} reads the new place.")
    for name, why in moved.missing.items():
        out.line(f"  {name} does not read the new place yet: {why}", "yellow")
    for name in moved.silent:
        out.line(f"  {name} proves nothing: see yourself that it reads the new place.", "yellow")
