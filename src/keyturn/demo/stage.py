"""The demo from the first process to the last: open the venues, let the bots trade, turn the keys, judge."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from keyturn.demo.cast import PARTS, Part
from keyturn.demo.children import Child, DemoError, running, until
from keyturn.demo.house import House, typed
from keyturn.demo.places import Place, place_of
from keyturn.demo.seeds import Keys, books_of, known_keys
from keyturn.demo.show import Look, Show
from keyturn.demo.verdict import (
    BotReport,
    Turn,
    Verdict,
    all_secrets,
    current_key,
    files_with_a_secret,
    judge,
    path_of,
)
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Rotation, State
from keyturn.engine import adopt
from keyturn.engine.copies import bring_up
from keyturn.engine.world import World
from keyturn.machine import with_home
from keyturn.settings import INVENTORY_VARIABLE
from keyturn.wiring import InventoryAdapters, open_world

# On an idle laptop an exchange is up in one second, Prefect in eight. The bounds are for machines that are
# busy with something else: an error after them means that something hangs.
_VENUE_SECONDS = 60.0
_BOT_SECONDS = 60.0
_PREFECT_SECONDS = 150.0
# Grace, confirmations and a parked rotation's patience included.
_FLOW_SECONDS = 180.0
_SWEEP_SECONDS = 120.0
#: A bot has this many calls behind it when the keys begin to turn, and as many more when the old key is dead.
CALLS = 25
_LOOK_EVERY_SECONDS = 0.25
_REASON = "make demo turns every key"


@dataclass
class Result:
    """What the demo found."""

    verdicts: list[Verdict]
    events: int
    #: What does not hold of the whole, a sentence each.
    broken: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every line holds."""
        return not self.broken and not any(verdict.broken for verdict in self.verdicts)


def bot_command(part: Part, url: str, bundle: str) -> list[str]:
    """Give the arguments of Python for a part's bot."""
    command = ["-m", "keyturn.demo.bot", "--exchange", part.exchange, "--url", url, "--bundle", bundle]
    return [*command, "--credential", part.credential, "--symbol", part.symbol, "--style", part.style]


async def perform(house: House, show: Show, kind: str) -> Result:
    """Play the whole demo in the folder on a kind of store; all that it starts has ended when this returns.

    Raises:
        KeyturnError: it could not be played to the end.
    """
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(place_of(kind, house))
        # Not before: without a store nothing is begun, and nothing taken away.
        if house.furnish(kind):
            show.say("what an earlier demo left is taken away: this one begins anew, with new keys")
        house.entry = place.entry
        show.say("starting three exchanges and Prefect on this machine")
        prefect = await stack.enter_async_context(_prefect(house))
        keys = await _keys(house)
        urls = await _open_venues(stack, house, place, keys)
        house.write_inventory(urls)
        house.write_bundles(urls)
        world = await stack.enter_async_context(open_world(house.loaded(urls), actor="demo"))
        await _bring_keys(world, keys)
        # What an earlier demo left may be for the store alone.
        await bring_up(world)
        bots = {part: await _bot(stack, house, place, part, urls) for part in PARTS}
        # Started first, because it is slow; ended first, so that no flow meets exchanges that are gone.
        stack.push_async_callback(prefect.end)
        turning = _Turning(world, show, bots, await _known_rotations(world))
        show.say("three bots trade through ccxt, some twenty signed calls a second each")
        await turning.wait_for_calls(CALLS)
        await _ready(prefect, show)
        await turning.turn(prefect)
        await turning.wait_for_calls(CALLS, more=True)
        result = await _judged(turning, urls)
        secrets = [*place.secrets, *house.identities(), *await all_secrets(world, keys)]
    # Now that nobody writes any more.
    for path in files_with_a_secret(house.folder, secrets, but=house.identity_files()):
        result.broken.append(f"{typed(path)} holds a secret in the clear")
    return result


def _prefect(house: House) -> AbstractAsyncContextManager[Child]:
    home = house.private / "prefect"
    home.mkdir(exist_ok=True)
    environ = os.environ | {INVENTORY_VARIABLE: str(house.inventory_file)} | with_home(os.environ, home)
    arguments = ["-m", "flows.once", "--prefect-home", str(home)]
    # In a folder of its own: Prefect also takes settings from files where it is started.
    return running("Prefect", arguments, log=house.log("prefect"), environ=environ, folder=home)


async def _keys(house: House) -> dict[Part, Keys]:
    adapters = InventoryAdapters(house.loaded())
    try:
        return {part: await known_keys(adapters.store("local"), part) for part in PARTS}
    finally:
        await adapters.close()


async def _open_venues(
    stack: AsyncExitStack, house: House, place: Place, keys: Mapping[Part, Keys]
) -> dict[str, str]:
    ports = house.ports()

    async def opened(part: Part) -> str:
        name = f"simulated {part.exchange}"
        venue = await stack.enter_async_context(
            running(name, ["-m", "keyturn.demo.venue"], log=house.log(part.exchange), environ=place.environ())
        )
        await venue.tell(books_of(part, keys[part], ports.get(part.exchange, 0)))
        return str((await venue.begins(_VENUE_SECONDS))["url"])

    return {part.exchange: await opened(part) for part in PARTS}


async def _bring_keys(world: World, keys: Mapping[Part, Keys]) -> None:
    """Do what a person does once: bring the manager key, and the key that the bot has."""
    for part, each in keys.items():
        if each.manager_is_new:
            await adopt.put_manager(world, part.account, each.manager.material)
        if each.bot_is_new:
            await adopt.put_credential(world, part.credential, each.bot[0].material)


async def _bot(
    stack: AsyncExitStack, house: House, place: Place, part: Part, urls: Mapping[str, str]
) -> Child:
    command = bot_command(part, urls[part.exchange], str(house.bundle(part)))
    return await stack.enter_async_context(
        running(part.bot, command, log=house.log(part.bot), environ=place.environ(bot=True))
    )


async def _ready(prefect: Child, show: Show) -> None:
    await prefect.begins(_PREFECT_SECONDS)
    show.say("Prefect is up; its flow turns the three keys")


async def _known_rotations(world: World) -> frozenset[str]:
    return frozenset(rotation.id for rotation in await world.journal.latest())


class _Turning:
    """The rotations under way, and the bots meanwhile."""

    def __init__(self, world: World, show: Show, bots: Mapping[Part, Child], before: frozenset[str]) -> None:
        self.world = world
        self.bots = bots
        self._endings: dict[str, str] = {}
        self._old: dict[Part, SecretMaterial] = {}
        self._show = show
        self._before = before

    async def wait_for_calls(self, calls: int, *, more: bool = False) -> None:
        """Wait until every bot has made so many calls that worked; `more`: from now on."""
        goal = {part: calls + (_worked(bot) if more else 0) for part, bot in self.bots.items()}

        async def there() -> bool:
            self._check()
            await self._look()
            return all(_worked(bot) >= goal[part] for part, bot in self.bots.items())

        await until(there, seconds=_BOT_SECONDS, pause=_LOOK_EVERY_SECONDS, otherwise=self._too_slow)

    async def turn(self, prefect: Child) -> None:
        """Let Prefect turn the keys; finish first what an interrupted demo has left."""
        if await self._unfinished():
            self._show.say("an earlier demo left rotations unfinished; the sweep finishes them first")
            await until(
                lambda: self._swept(prefect),
                seconds=_SWEEP_SECONDS,
                pause=1.0,
                otherwise=lambda: prefect.failure("The sweep did not finish what an earlier demo left."),
            )
            self._before = await _known_rotations(self.world)
        self._old = {part: await current_key(self.world, part) for part in PARTS}
        names = [part.credential for part in PARTS]
        order = {"flow": "rotate", "credentials": names, "reason": _REASON, "requested_by": "make demo"}
        await self._ordered(prefect, order)

    async def rotations(self) -> dict[str, Rotation]:
        """Give the rotations of this demo by credential."""
        latest = await self.world.journal.latest()
        return {r.credential: r for r in latest if r.id not in self._before}

    def turn_of(self, part: Part, rotations: Mapping[str, Rotation]) -> Turn:
        """Give what the flow did about a credential."""
        name = part.credential
        return Turn(rotations.get(name), self._endings.get(name, "no flow run ended"), self._old[part])

    async def _unfinished(self) -> bool:
        return any(r.is_open and r.state is not State.PARKED for r in await self.world.journal.latest())

    async def _swept(self, prefect: Child) -> bool:
        """Sweep once: what had met a failure waits a little before it is tried again."""
        await self._ordered(prefect, {"flow": "sweep"})
        return not await self._unfinished()

    async def _ordered(self, prefect: Child, order: Mapping[str, Any]) -> None:
        said_before = len(prefect.lines)
        await prefect.tell(order)

        async def done() -> bool:
            self._check()
            await self._look()
            return prefect.ended or any(line["event"] == "done" for line in prefect.lines[said_before:])

        await until(
            done,
            seconds=_FLOW_SECONDS,
            pause=_LOOK_EVERY_SECONDS,
            otherwise=lambda: prefect.failure(f"The flow took more than {_FLOW_SECONDS:.0f} seconds."),
        )
        if prefect.ended:
            raise prefect.failure("Prefect ended in the middle of the flow.")
        self._endings = {
            line["credential"]: line["message"] for line in prefect.lines if line["event"] == "ended"
        }

    def _check(self) -> None:
        for bot in self.bots.values():
            if bot.ended:
                raise bot.failure(f"{bot.name} ended while it should trade.")

    async def _look(self) -> None:
        rotations = await self.rotations()
        looks = {}
        for part, bot in self.bots.items():
            rotation = rotations.get(part.credential)
            path = await path_of(self.world.journal, rotation.id) if rotation else []
            report = report_of(bot)
            looks[part] = Look(path, report.worked, report.refused)
        self._show.update(looks)

    def _too_slow(self) -> DemoError:
        slowest = min(self.bots.values(), key=_worked)
        report = report_of(slowest)
        return slowest.failure(
            f"{slowest.name} came to {report.worked} calls in {_BOT_SECONDS:.0f} seconds"
            f" ({report.refused} refused, {report.failed} failed {report.trouble})."
        )


def report_of(bot: Child) -> BotReport:
    """Give what a bot said last."""
    said = bot.latest
    return BotReport(
        fingerprint=said.get("on", ""),
        worked=sum(said.get("worked", {}).values()),
        refused=said.get("refused", 0),
        failed=said.get("failed", 0),
        trouble=said.get("trouble", ""),
    )


def _worked(bot: Child) -> int:
    return report_of(bot).worked


async def _judged(turning: _Turning, urls: Mapping[str, str]) -> Result:
    await asyncio.gather(*(bot.finish() for bot in turning.bots.values()))
    rotations = await turning.rotations()
    verdicts: Sequence[Verdict] = await asyncio.gather(
        *(
            judge(
                turning.world,
                part,
                turning.turn_of(part, rotations),
                urls[part.exchange],
                report_of(bot),
            )
            for part, bot in turning.bots.items()
        )
    )
    report = await turning.world.journal.verify()
    return Result(list(verdicts), report.events, [f"the journal: {each}" for each in report.breaks])
