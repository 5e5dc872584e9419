"""What copies the current keys inside their stores is brought up, also where no rotation is under way.

Other regions and secrets of single fields; and in a store of files, for whom these are encrypted, which the
inventory may say anew at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from keyturn.domain.errors import StoreError
from keyturn.domain.inventory import StoreAddress
from keyturn.engine.world import World

# So many paths are looked at at the same time: a throttle for stores that are asked over a network.
_AT_ONCE = 32


async def bring_up(world: World, names: Iterable[str] | None = None) -> Mapping[str, str]:
    """Have the stores bring up their copies; give what could not be, and why, by credential.

    A copy that is only late is not named. Idempotent, and harmless while a rotation is under way, whose own
    affair it is to wait for copies.

    Args:
        world: at hand.
        names: of the inventory; None for all.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    failed: dict[str, str] = {}

    async def one(name: str, address: StoreAddress) -> None:
        async with gate:
            try:
                await world.adapters.store(address.store).spread(address.path)
            except StoreError as error:
                failed[name] = f"{address.store}:{address.path}: {error.what} {error.todo}".strip()

    inventory = world.inventory
    wanted = inventory.credentials if names is None else names
    places = [(n, a) for n in wanted for a in (inventory.store_of(n), *inventory.credentials[n].mirrors)]
    await asyncio.gather(*(one(name, address) for name, address in places))
    return failed
