"""What the demo claims, each line looked up where it cannot be embellished."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp

from keyturn.demo.cast import Part
from keyturn.demo.seeds import Keys, secrets_of
from keyturn.domain import machine
from keyturn.domain.errors import ExchangeError, ExchangeFault, RefusedError
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller
from keyturn.ports.journal import Journal

# An answer of a process on this machine; more means that it hangs.
_ANSWER = aiohttp.ClientTimeout(total=20)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the flow did about a credential."""

    #: None if it began none.
    rotation: Rotation | None
    #: How the flow run ended, in its own words.
    ending: str
    #: The key that was current when the flow began.
    old: SecretMaterial = field(repr=False)


@dataclass(frozen=True, slots=True)
class BotReport:
    """What a bot said of itself, when it had ended."""

    fingerprint: str
    worked: int
    refused: int
    failed: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Counted:
    """A bot's signed calls by the exchange's own books; keyturn's calls with the same keys are not in it."""

    worked: int
    on_old: int
    on_new: int
    refused: int
    #: Neither carried out nor refused: cut, or failed.
    lost: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is claimed of one credential."""

    part: Part
    turn: Turn
    path: Sequence[State]
    counted: Counted
    bot: BotReport
    #: How a call signed with the old key ended.
    death: str
    dead: bool
    #: What does not hold, a sentence each.
    broken: list[str] = field(default_factory=list)


async def path_of(journal: Journal, rotation_id: str) -> list[State]:
    """Give the states that a rotation went through, from its events."""
    states: list[State] = []
    rotation: Rotation | None = None
    for journaled in await journal.events(rotation_id):
        event = journaled.event
        rotation = Rotation(**event.data) if rotation is None else machine.apply(rotation, event)
        if not states or states[-1] is not rotation.state:
            states.append(rotation.state)
    return states


async def judge(world: World, part: Part, turn: Turn, url: str, bot: BotReport) -> Verdict:
    """Look everything up that is claimed of a credential, when its bot has ended.

    Raises:
        KeyturnError: the journal or the store cannot be read.
    """
    path = await path_of(world.journal, turn.rotation.id) if turn.rotation else []
    counted = await _count(part, turn.rotation, url)
    dead, death = await _death(world, part, turn.old)
    verdict = Verdict(part, turn, path, counted, bot, death, dead)
    verdict.broken.extend(await _what_does_not_hold(world, verdict))
    return verdict


async def _what_does_not_hold(world: World, verdict: Verdict) -> list[str]:
    r, bot, counted = verdict.turn.rotation, verdict.bot, verdict.counted
    current = await world.adapters.store("local").peek(verdict.part.path, Slot.CURRENT)
    stored = current.meta.fingerprint if current and current.meta else "none"
    new = r.new_fingerprint if r else None
    claims = {
        _unfinished(verdict.turn): r is not None and r.state is State.COMPLETED,
        f"the store's current key is {stored}, not the new one": stored == new,
        f"the bot ended on the key {bot.fingerprint or 'none'}, not on the new one": bot.fingerprint == new,
        "the bot made no call with the old key": counted.on_old > 0,
        "the bot made no call with the new key": counted.on_new > 0,
        f"the exchange refused {counted.refused} of the bot's calls": counted.refused == 0,
        f"the exchange lost {counted.lost} of the bot's calls": counted.lost == 0,
        f"the bot counts {bot.refused} refused calls ({bot.trouble})": bot.refused == 0,
        f"the bot counts {bot.failed} failed calls ({bot.trouble})": bot.failed == 0,
        f"the bot counts {bot.worked} calls that worked, the exchange {counted.worked}": (
            bot.worked == counted.worked
        ),
        f"the old key is not dead: {verdict.death}": verdict.dead,
    }
    return [sentence for sentence, holds in claims.items() if not holds]


def _unfinished(turn: Turn) -> str:
    if turn.rotation is None:
        return f"no rotation was begun: {turn.ending}"
    return f"its rotation is {turn.rotation.state}: {turn.ending}"


async def _count(part: Part, rotation: Rotation | None, url: str) -> Counted:
    on: dict[str | None, int] = {}
    refused = lost = 0
    async with aiohttp.ClientSession(timeout=_ANSWER) as http:
        for match in part.bot_paths:
            async with http.get(f"{url}/_sim/calls", params={"match": match}) as response:
                calls = await response.json()
            for call in calls:
                worked = call["outcome"] == "ok"
                on[call["key_ref"]] = on.get(call["key_ref"], 0) + worked
                refused += call["outcome"] == "refused"
                lost += call["outcome"] not in {"ok", "refused"}
    old, new = (rotation.old_ref, rotation.new_ref) if rotation else (None, None)
    return Counted(sum(on.values()), on.get(old, 0), on.get(new, 0), refused, lost)


async def _death(world: World, part: Part, old: SecretMaterial) -> tuple[bool, str]:
    """Sign a call with the old key. Only the refusal of the key itself is a proof."""
    try:
        await world.adapters.driver(part.account).private_read(Caller(old))
    except ExchangeError as error:
        if error.fault is ExchangeFault.UNKNOWN_KEY or (
            error.fault is ExchangeFault.UNCLEAR_REFUSAL and not _tells_apart(part.exchange)
        ):
            return True, "refused as a key that it does not know"
        return False, f"a signed call ended otherwise ({error.fault})"
    return False, "a signed call worked"


def _tells_apart(exchange: str) -> bool:
    """Tell whether the venue has a word for "no such key" alone; Deribit uses one for more."""
    table = catalog.errors_of(catalog.manifests()[exchange].ccxt_id)
    return table is not None and any(row.fault is ExchangeFault.UNKNOWN_KEY for row in table.exact.values())


async def current_key(world: World, part: Part) -> SecretMaterial:
    """Read the current key of a bot from the store.

    Raises:
        StoreError: the store cannot be read.
        RefusedError: there is none.
    """
    stored = await world.adapters.store("local").read(part.path, Slot.CURRENT)
    if stored is None:
        raise RefusedError(f"The store has no current key for {part.credential}.")
    return stored.material


async def all_secrets(world: World, keys: Mapping[Part, Keys]) -> list[str]:
    """Gather the secret of every key that this demo has met: from before, and from now."""
    found: list[str] = []
    for part, each in keys.items():
        found += [*each.secrets(), *secrets_of(await current_key(world, part))]
    return found


def files_with_a_secret(folder: Path, secrets: Iterable[str], *, but: Collection[Path]) -> list[Path]:
    """Search every file of the folder for the secrets: as they are, base64, hex, URL-quoted."""
    needles = {form for secret in secrets for form in _forms(secret)}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in but]
    return [path for path in files if any(needle in _content(path) for needle in needles)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # SQLite takes its side files away when it is closed
        return b""


def _forms(secret: str) -> Iterable[bytes]:
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield raw.hex().encode()
    for shift in range(3):
        # Wherever it begins in what was encoded; the characters at both ends depend on the neighbours.
        inner = base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 : -4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
