"""`python -m benchmarks.stores [N] [--free]`: what Vault and AWS cost, beside bare hvac and boto3 in one run.

Two things for each store, five times each: N promotions of staged keys, against the same writes; and N
whole rotations, against the floor of `python -m benchmarks` plus the writes of a rotation. Vault is a `bao`
or `vault` of the PATH, with data on disk; AWS is an emulator: its figures compare clients and say nothing
about AWS. Every client is held to one processor, see `one_processor`; with `--free` none is.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import engine, floor
from benchmarks.__main__ import AT_ONCE, LATENCY_SECONDS
from benchmarks.bare_stores import BARE, timed
from benchmarks.processor import one_processor
from benchmarks.rounds import ROUNDS, Spread, interleaved
from benchmarks.scene import Credential, Scene, scene
from benchmarks.vault_server import vault_server
from keyturn.demo.children import DemoError
from keyturn.demo.house import House
from keyturn.demo.mount import ADDRESS_VARIABLE, TOKEN_VARIABLE
from keyturn.demo.places import Place, place_of
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import KeyMeta, Slot
from keyturn.exchanges import catalog
from keyturn.ports.clock import SystemClock
from keyturn.ports.store import SecretStore
from keyturn.settings import load_inventory
from keyturn.wiring import open_world

KINDS = ("vault", "aws")
TARGET = 1.3
_FREE = "--free"


@asynccontextmanager
async def _place(kind: str) -> AsyncIterator[Place]:
    with TemporaryDirectory(prefix="keyturn-bench-store-") as folder:
        house = House(Path(folder) / "demo")
        house.settle()
        with ExitStack() as stack:
            if kind == "vault":
                address, token = stack.enter_context(vault_server())
                os.environ |= {ADDRESS_VARIABLE: address, TOKEN_VARIABLE: token}
            async with place_of(kind, house) as place:
                yield place


async def _bare(kind: str, count: int, settle: Callable[[], None]) -> dict[str, float]:
    """Time the bare writes: those of the promotions, and those of whole rotations."""
    async with _place(kind) as place:
        settle()
        bare, names = BARE[kind](place.entry, AT_ONCE), [f"c{i:04d}" for i in range(count)]
        await asyncio.to_thread(timed, bare.prepare, names, AT_ONCE)
        stage = await asyncio.to_thread(timed, bare.stage, names, AT_ONCE)
        promote = await asyncio.to_thread(timed, bare.promote, names, AT_ONCE)
        forget = await asyncio.to_thread(timed, bare.forget, names, AT_ONCE)
        return {"promote": promote, "rotate": stage + promote + forget}


async def _promotions(kind: str, count: int, settle: Callable[[], None]) -> dict[str, float]:
    """Time the store's promotions of keys that this process has staged, as a rotation does."""
    async with _place(kind) as place:
        with scene(count, 0.0, store=place.entry) as made:
            settle()
            await engine.prepare(made)
            loaded = load_inventory(made.inventory, manifests=catalog.manifests())
            async with open_world(loaded, actor="benchmark", rate_limit=False) as world:
                store = world.adapters.store("local")
                began = await _staged(store, made)
                return {"promote": time.perf_counter() - began}


async def _staged(store: SecretStore, made: Scene) -> float:
    """Stage a key for each credential, promote them all; give the moment between the two."""
    attempt, gate, now = Attempt(new_rotation_id(), 1), asyncio.Semaphore(AT_ONCE), SystemClock().now()
    olds: dict[str, str] = {}

    async def stage(c: Credential) -> None:
        async with gate:
            path = f"bots/{c.name}"
            if current := await store.peek(path, Slot.CURRENT):
                olds[path] = current.version
            key_ref = c.material.key_ref
            meta = KeyMeta(c.exchange, c.account, key_ref, key_ref[:8], attempt, now)
            await store.stage(path, c.material, meta, await store.claim(path, attempt))

    async def promote(path: str) -> None:
        async with gate:
            await store.promote(path, attempt, expect_current=olds[path])

    await asyncio.gather(*map(stage, made.credentials))
    began = time.perf_counter()
    await asyncio.gather(*map(promote, olds))
    return began


async def _rotations(kind: str, count: int, settle: Callable[[], None]) -> dict[str, float]:
    async with _place(kind) as place:
        with scene(count, LATENCY_SECONDS, store=place.entry) as made:
            settle()
            await engine.prepare(made)
            return {"rotate": await engine.measure(made, AT_ONCE)}


async def _floor(_: str, count: int, settle: Callable[[], None]) -> dict[str, float]:
    with scene(count, LATENCY_SECONDS) as made:
        settle()
        return {"rotate": await floor.measure(made, AT_ONCE)}


_OURS = ("promotions", "rotations")
_WAYS = {"bare": _bare, "promotions": _promotions, "rotations": _rotations, "floor": _floor}


def _child(way: str, kind: str, count: int, *flags: str) -> dict[str, float]:
    """Measure in a process of its own, with servers of its own."""
    command = [sys.executable, "-m", "benchmarks.stores", "--one", way, kind, str(count), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _one(way: str, kind: str, count: str, *flags: str) -> int:
    try:
        settle = _stay if _FREE in flags else one_processor
        print(json.dumps(asyncio.run(_WAYS[way](kind, int(count), settle))))
    except DemoError as error:
        print(error.diagnostics(), file=sys.stderr)
        return 1
    return 0


def _stay() -> None:
    """Change nothing."""


def main(arguments: list[str]) -> int:
    """Measure, print a table; the exit status tells whether the targets were met."""
    if arguments[:1] == ["--one"]:
        return _one(*arguments[1:])
    flags = [_FREE] if _FREE in arguments else []
    (count,) = [int(argument) for argument in arguments if argument not in flags] or [1000]
    print(f"{count} credentials, {AT_ONCE} at once, clients on {'any' if flags else 'one'} processor")
    print(f"the median of {ROUNDS} runs, the least and the most")
    print("store  what                    seconds                bare             ratio  target")
    # Every way of every store takes turns with the others.
    ways = ["floor none", *(f"{way} {kind}" for kind in KINDS for way in ("bare", *_OURS))]
    runs = interleaved(ways, lambda way: _child(*way.split(" "), count, *flags))
    met = True
    for kind in KINDS:
        bare = runs[f"bare {kind}"]
        least = [run["rotate"] for run in runs["floor none"]]
        under = {
            "promotions": [run["promote"] for run in bare],
            "rotations": [run["rotate"] + calls for run, calls in zip(bare, least, strict=True)],
        }
        for way, floors in under.items():
            took = [next(iter(run.values())) for run in runs[f"{way} {kind}"]]
            ratio = Spread.of([mine / floor for mine, floor in zip(took, floors, strict=True)])
            met = met and ratio.median <= TARGET
            line = f"{kind:6} {way:10} {Spread.of(took)!s:>20} {Spread.of(floors)!s:>19} {ratio!s:>17}"
            print(f"{line} {TARGET:7.2f}", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
