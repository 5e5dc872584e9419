"""Every call of a remote store through every gate, with nothing between the adapter and Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from prefect import flow

from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot
from tasks.world import opened

# Fewer than the fifteen of a group that Python shows in a traceback.
_GATES_AT_ONCE = 9


async def run_gauntlet(base: str, gates: list[str], canary: str) -> dict[str, dict[str, str]]:
    """Make every call of a store through every gate, in flow runs that let the errors out as they are.

    Nothing of keyturn stands between the adapter and Prefect here: what it raises must be clean by itself.
    """
    told: dict[str, dict[str, str]] = {}

    async def pass_one(stores: Any, gate: str) -> ExceptionGroup[Exception]:
        errors, told[gate] = await through(stores, base, gate, canary)
        return ExceptionGroup(gate, errors)

    @flow(name="gauntlet", persist_result=True)
    async def gauntlet(some: list[str]) -> None:
        groups = await asyncio.gather(*(pass_one(engine.world.adapters, gate) for gate in some))
        raise ExceptionGroup("a gauntlet", groups)

    async with opened("cli:test") as engine:
        for begin in range(0, len(gates), _GATES_AT_ONCE):
            await gauntlet(gates[begin : begin + _GATES_AT_ONCE], return_state=True)
    return told


async def through(stores: Any, base: str, gate: str, canary: str) -> tuple[list[Exception], dict[str, str]]:
    """Make every call of a store through a gate; give what was raised, and how each call ended."""
    path, first = f"gauntlet/{base}-{gate}", Attempt(new_rotation_id(), 1)

    def material(name: str) -> SecretMaterial:
        return SecretMaterial(f"key-{name}", f"{canary}{name}", f"{canary}-aA1")

    def meta(name: str, attempt: Attempt | None) -> KeyMeta:
        now = datetime.now(UTC)
        return KeyMeta("okx", "okx", f"key-{name}", name, attempt, now, handle=name, account_uid="1")

    well = stores.store(base)
    ill = stores.store(f"{base}-{gate}")
    old = await well.put(path, material("old"), meta("old", None), expect_current=None)
    claim = await well.claim(path, first)
    later = Attempt(first.rotation_id, 2)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "peek": lambda: ill.peek(path, Slot.CURRENT),
        "read": lambda: ill.read(path, Slot.CURRENT),
        "stage": lambda: ill.stage(path, material("new"), meta("new", first), claim),
        "promote": lambda: ill.promote(path, first, expect_current=old.version),
        "restore": lambda: ill.restore_previous(path, expect_current=old.version),
        "discard": lambda: ill.discard(path, Slot.PENDING, version=claim.version),
        "put": lambda: ill.put(path, material("next"), meta("next", None), expect_current=old.version),
        "vacate": lambda: ill.vacate(path, expect_current=old.version),
        "history": lambda: ill.history(path),
        "check": lambda: ill.check([path]),
        "claim": lambda: ill.claim(path, later),
    }
    errors, ends = [], {}
    for name, call in calls.items():
        try:
            ends[name] = f"gave {type(await call()).__name__}"
        except Exception as error:
            errors.append(error)
            ends[name] = str(getattr(error, "fault", repr(type(error))))
    return errors, ends
