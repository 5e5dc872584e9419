"""What a rotation would do, in words, before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from keyturn.domain.difference import ANY_ADDRESS, names_text
from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory import Inventory, format_duration
from keyturn.domain.rotation import BEFORE_PIVOT, KeyRecord, Rotation, State
from keyturn.domain.schedule import Due
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import books, place
from keyturn.engine.commands import with_reason
from keyturn.engine.compare import Compared, Lists, compared
from keyturn.engine.difference import accept_command
from keyturn.engine.sweep import due_dates
from keyturn.engine.world import World

# How many credentials are looked at at the same time; the driver keeps to the venue's rates.
_AT_ONCE = 8

#: What is left to do of a rotation that is being undone.
UNDOING = {
    State.ABORTING: "revoke what was minted; the key from before stays current",
    State.ROLLING_BACK: "make the key from before current again, then revoke the new one",
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What would happen to one credential."""

    credential: str
    due: Due
    #: Whether a sweep would begin a rotation now.
    is_due: bool
    #: What would be done, in order; of an open rotation, what is still to come.
    steps: tuple[str, ...]
    #: What stands in the way; the rotation would park or be refused.
    obstacles: tuple[str, ...] = ()
    #: The living key beside the new one.
    compared: Compared = field(default_factory=Compared)
    #: The id and the state of the rotation that is open.
    open_rotation: str | None = None
    open_state: State | None = None


async def plan(world: World, credential: str | None = None, *, incident: bool = False) -> Sequence[PlanLine]:
    """Say what a rotation of a credential, or of all, would take, give, restart and revoke, and when.

    Reads the store and the journal, and asks the venue what the living keys may do; changes nothing.

    Raises:
        RefusedError: there is no such credential.
    """
    due = await due_dates(world)
    if credential is not None and credential not in due:
        raise RefusedError(
            f"There is no credential {credential} in the inventory.", todo="keyturn status lists the names."
        )
    names = [credential] if credential else list(due)
    lists, gate = Lists(world), asyncio.Semaphore(_AT_ONCE)

    async def line(name: str) -> PlanLine:
        async with gate:
            return await _line(lists, name, due[name], incident=incident)

    return await asyncio.gather(*map(line, names))


def prove_nothing(inventory: Inventory, credential: str) -> list[str]:
    """Name the consumers that never prove that they moved: all that they have is the grace period."""
    entry = inventory.credentials.get(credential)
    names = entry.consumers if entry else ()
    return [name for name in names if inventory.consumers[name].evidence is Evidence.TIMED]


def unproved(names: Sequence[str]) -> str:
    """Say what it means for these consumers when the old key dies without a grace period."""
    return (
        f"no proof comes from {', '.join(names)}: calls fail there until somebody moves them to the new key"
    )


async def _line(lists: Lists, name: str, due: Due, *, incident: bool) -> PlanLine:
    world, obstacles = lists.world, list[str]()
    current: SlotInfo | None = None
    beside: list[KeyRecord] = []
    held = await world.journal.open_rotation(name)
    if held is not None and held.state is State.PARKED:
        obstacles.append(f"rotation {held.id} is parked: {held.parked_why} Do: {held.parked_todo}")
    elif held is not None and held.problem:
        obstacles.append(f"rotation {held.id} was held up: {held.problem}")
    address = world.inventory.store_of(name)
    try:
        current = await world.adapters.store(address.store).peek(address.path, Slot.CURRENT)
        moved = await place.obstacles(world, name)
        obstacles += moved
        if held is None or held.effective_state in BEFORE_PIVOT:
            obstacles += await _current_obstacles(world, name, current)
            beside = await books.beside(world, name, current)
    except KeyturnError as error:
        obstacles.append(error.what)
        missing = "what the living key may do is not known: the store cannot be read"
        told = Compared(missing=missing, must_be_known=True)
    else:
        missing = "what the living key may do is not known: it lies at another site" if moved else ""
        told = Compared(missing=missing, must_be_known=True)
        if not moved:
            told = await compared(lists, name, current, held, beside)
    obstacles += told.obstacles + told.added
    if told.unaccepted:
        names, command = names_text(told.unaccepted), _accept(name, held)
        obstacles.append(f"it takes from the living key: {names}. Nothing is minted until: {command}")
    steps = _steps(world, name, current, beside, incident=incident)
    return PlanLine(
        name,
        due,
        due.is_due(world.clock.now()),
        tuple(_to_come(held, steps) if held else [text for _, text in steps]),
        tuple(obstacles),
        told,
        held.id if held else None,
        held.effective_state if held else None,
    )


def _accept(name: str, held: Rotation | None) -> str:
    if held is None:
        return f"{with_reason('rotate', name)} --accept-loss"
    return accept_command(name)


async def _current_obstacles(world: World, name: str, current: SlotInfo | None) -> list[str]:
    if current is None:
        return []
    account = world.inventory.credentials[name].account
    exchange = world.inventory.accounts[account].exchange
    known = current.meta and await world.journal.key(exchange, account, current.meta.key_ref)
    if known and known.credential == name:
        return []
    return [f"the journal does not own the current key: keyturn adopt {name}"]


def _steps(
    world: World, name: str, current: SlotInfo | None, beside: Sequence[KeyRecord], *, incident: bool
) -> list[tuple[State, str]]:
    """Give what a rotation does, each step with the last state in which it is still to be done."""
    inventory = world.inventory
    entry, policy, address = inventory.credentials[name], inventory.policy_of(name), inventory.store_of(name)
    account = inventory.accounts[entry.account]
    owner = f"{account.exchange}, account {entry.account}"
    owner += f", sub-account {entry.subaccount}" if entry.subaccount else ""
    may = ", ".join([*sorted(entry.permissions), *sorted(entry.accepts)])
    where = ", ".join(sorted(entry.ip_allowlist)) or ANY_ADDRESS
    steps = [
        (State.MINTING, f"mint a key at {owner}: may {may}; from {where}"),
        (State.MINTING, f"stage it at {address.store}:{address.path}"),
        (State.STAGED, "prove that it works and may do no more"),
        (State.VERIFIED, "make it current there (the old one stays beside it)"),
    ]
    steps += [(State.PROMOTED, f"tell {consumer} ({_owes(world, consumer)})") for consumer in entry.consumers]
    grace = timedelta(0) if incident else policy.grace
    confirm = format_duration(policy.confirm_within)
    silent = prove_nothing(inventory, name)
    if len(silent) < len(entry.consumers):
        waits = f"wait for the confirmations, at most {confirm}; without them park, with both keys alive"
        steps.append((State.CUTTING_OVER, waits))
    when = f"{format_duration(grace)} after that" if grace else "at once after that"
    dying = [f"revoke the key {mark} {when}: {why}" for mark, why in map(books.unnamed, beside)]
    if current is not None:
        dying.insert(0, _revoke(current.meta.fingerprint if current.meta else "unknown to the journal", when))
    if dying and silent and not grace:
        dying.append(unproved(silent))
    nothing = "revoke nothing: there is no key before this one, so no grace is needed"
    steps += [(State.REVOKING, text) for text in dying or [nothing]]
    return steps


def _revoke(old: str, when: str) -> str:
    return f"revoke the old key ({old}) {when}, prove that it is dead, destroy its secret"


def _to_come(held: Rotation, steps: Sequence[tuple[State, str]]) -> list[str]:
    """Give what is still to come of an open rotation."""
    state = held.effective_state
    if state in UNDOING:
        return [UNDOING[state]]
    order = list(State)
    if state is State.PLANNED:
        state = State.MINTING
    left = [(last, text) for last, text in steps if order.index(last) >= order.index(state)]
    if state in BEFORE_PIVOT:
        return [text for _, text in left]
    told = [text for last, text in left if last is not State.REVOKING]
    if held.old_fingerprint is None:
        return [*told, "revoke nothing: there was no key before this one"]
    grace = format_duration(timedelta(seconds=held.grace_seconds))
    when = f"{grace} after that" if held.grace_seconds else "at once after that"
    if held.grace_until:
        when = f"after {held.grace_until:%Y-%m-%d %H:%M} UTC"
    return [*told, _revoke(held.old_fingerprint, when)]


def _owes(world: World, consumer: str) -> str:
    evidence = world.inventory.consumers[consumer].evidence
    kind = world.inventory.consumers[consumer].kind
    owes = "owes no proof" if evidence is Evidence.TIMED else f"owes proof: {evidence}"
    return f"{kind}; {owes}"
