"""What a rotation would do, in words, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory import Inventory, format_duration
from keyturn.domain.rotation import KeyRecord
from keyturn.domain.schedule import Due
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import books
from keyturn.engine.sweep import due_dates
from keyturn.engine.world import World


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What would happen to one credential."""

    credential: str
    due: Due
    #: Whether a sweep would begin a rotation now.
    is_due: bool
    #: What would be done, in order.
    steps: tuple[str, ...]
    #: What stands in the way; the rotation would park or be refused.
    obstacles: tuple[str, ...] = ()


async def plan(world: World, credential: str | None = None, *, incident: bool = False) -> Sequence[PlanLine]:
    """Say what a rotation of a credential, or of all, would mint, restart and revoke, and when.

    Reads the store and the journal; asks no exchange and changes nothing.

    Raises:
        RefusedError: there is no such credential.
    """
    due = await due_dates(world)
    if credential is not None and credential not in due:
        raise RefusedError(
            f"There is no credential {credential} in the inventory.", todo="keyturn status lists the names."
        )
    names = [credential] if credential else list(due)
    return [await _line(world, name, due[name], incident=incident) for name in names]


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


async def _line(world: World, name: str, due: Due, *, incident: bool) -> PlanLine:
    obstacles: list[str] = []
    current: SlotInfo | None = None
    beside: list[KeyRecord] = []
    held = await world.journal.open_rotation(name)
    if held is not None:
        obstacles.append(f"rotation {held.id} is open: {held.state}. {held.parked_why}".strip())
    address = world.inventory.store_of(name)
    try:
        current = await world.adapters.store(address.store).peek(address.path, Slot.CURRENT)
        obstacles += await _current_obstacles(world, name, current)
        beside = await books.beside(world, name, current) if held is None else []
        account = world.inventory.accounts[world.inventory.credentials[name].account]
        manager = world.adapters.store(account.manager.store)
        if await manager.peek(account.manager.path, Slot.CURRENT) is None:
            obstacles.append(f"there is no manager key at {account.manager.path}")
    except KeyturnError as error:
        obstacles.append(error.what)
    steps = tuple(_steps(world, name, current, beside, incident=incident))
    return PlanLine(name, due, due.is_due(world.clock.now()), steps, tuple(obstacles))


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
) -> list[str]:
    inventory = world.inventory
    entry, policy, address = inventory.credentials[name], inventory.policy_of(name), inventory.store_of(name)
    account = inventory.accounts[entry.account]
    owner = f"{account.exchange}, account {entry.account}"
    owner += f", sub-account {entry.subaccount}" if entry.subaccount else ""
    may = ", ".join(sorted(entry.permissions))
    where = ", ".join(sorted(entry.ip_allowlist)) or "any address"
    steps = [
        f"mint a key at {owner}: may {may}; from {where}",
        f"stage it at {address.store}:{address.path}, prove that it works and may do no more",
        "make it current there (the old one stays beside it)",
    ]
    steps += [f"tell {consumer} ({_owes(world, consumer)})" for consumer in entry.consumers]
    grace = timedelta(0) if incident else policy.grace
    confirm = format_duration(policy.confirm_within)
    silent = prove_nothing(inventory, name)
    if len(silent) < len(entry.consumers):
        steps.append(
            f"wait for the confirmations, at most {confirm}; without them park, with both keys alive"
        )
    when = f"{format_duration(grace)} after that" if grace else "at once after that"
    if current is not None:
        old = current.meta.fingerprint if current.meta else "unknown to the journal"
        steps.append(f"revoke the old key ({old}) {when}, prove that it is dead, destroy its secret")
    steps += [f"revoke the key {mark} {when}: {why}" for mark, why in map(books.unnamed, beside)]
    if current is None and not beside:
        steps.append("revoke nothing: there is no key before this one, so no grace is needed")
    elif silent and not grace:
        steps.append(unproved(silent))
    return steps


def _owes(world: World, consumer: str) -> str:
    evidence = world.inventory.consumers[consumer].evidence
    kind = world.inventory.consumers[consumer].kind
    owes = "owes no proof" if evidence is Evidence.TIMED else f"owes proof: {evidence}"
    return f"{kind}; {owes}"
