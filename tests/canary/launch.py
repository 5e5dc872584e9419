"""`python -m tests.canary.launch NAME FILE`: the child processes of this suite, logging all they can.

FILE holds what to do and the canary, as JSON; it lies where no search looks.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import logging
import os
import secrets
import sys
import threading
import traceback
from datetime import timedelta
from io import StringIO
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

_LOUD = (
    *("", "keyturn", "ccxt", "aiohttp", "asyncio", "sqlalchemy", "prefect"),
    *("hvac", "requests", "urllib3", "boto3", "botocore"),
)
# What these say of calls to Prefect's API (addresses and headers) is said of every one of thousands.
_CHATTY = ("httpcore", "graphviz", "websockets")
# How many flow runs, and items of a sweep, go on at once: more wait for each other in Prefect's database.
_AT_ONCE = 5
_SOON_SECONDS = 0.3
# How often a bot looks into its store: each look is some calls of its client and of the store's server.
_LOOK_SECONDS = 0.5
# Long enough for a bot's confirmation.
_PATIENCE_SECONDS = 4.0
# Where a flow run works outside of its tasks, and what it meets there: an error, and what is none.
_OUTSIDE = ("open", "clock.now")
_OUTSIDE_KINDS = ("pydantic", "panic")
#: What a rotation asks of its store.
STORE_CALLS = ("store.peek", "store.read", "store.claim", "store.stage", "store.promote", "store.discard")
_TYPICAL = {
    "exchange": "exchange.introspect",
    "store": "store.stage",
    "consumer": "consumer.notify",
    "journal": "journal.commit",
}


def log_everything(file: str) -> None:
    """Send every logger's DEBUG to a file.

    After the flows are imported: Prefect sets up no output to the terminal where it finds a handler.
    """
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.DEBUG)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)


def ask_prefect_again_soon() -> None:
    """Cut short the pauses after which a call to Prefect's API is made again.

    On SQLite two writers get "database is locked" at once, and the client then waits up to a minute: half of
    the time that this suite once took (3.8.8, seen 2026-11-21).
    """
    import anyio
    from prefect.client import base

    async def sleep(seconds: float) -> None:
        await anyio.sleep(min(seconds, _SOON_SECONDS))

    base.anyio = SimpleNamespace(**vars(anyio) | {"sleep": sleep})


def ask_stores_again_soon() -> None:
    """Cut short the pauses of the stores' own retries."""
    from keyturn.stores.aws import wire
    from keyturn.stores.vault import transport

    wire._PAUSES = (0.01, 0.01)
    transport._PAUSES = (0.01,)


def look_at_managers_each_time() -> None:
    """Let rotations make the same calls, by whose numbers failures are laid; this look goes by the clock."""
    from keyturn.engine import work

    work._MANAGER_SEEN = timedelta(0)


def mark_passphrases(canary: str) -> None:
    """Let the passphrases that keyturn itself draws carry the canary too."""
    from keyturn.exchanges.okx import driver

    driver.new_passphrase = lambda: f"{canary}-aA1{secrets.token_hex(3)}"


class Death:
    """Ends the process at once, with a core if it may leave one, once so many flow runs have come to here."""

    def __init__(self, after: int) -> None:
        self._left = after
        #: Set whenever one has come.
        self.come = asyncio.Event()

    async def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            os.abort()
        self.come.set()
        await asyncio.Event().wait()


async def run_flow(name: str, plan: Any) -> dict[str, Any]:
    """Run the flow for a credential; give how it ended and what it met."""
    from flows.rotate import rotate_credential
    from tests.canary import bombs

    form = {"credential": name, "reason": "a canary test", "requested_by": "alice"}
    bombs.plan.set(plan)
    ended = "raised"
    try:
        state = await rotate_credential(form, return_state=True)
        ended = str(state.name)
        await state.result()
    except BaseException:  # what a caller's terminal would show
        traceback.print_exc()
    return {"credential": name, "state": ended, "met": plan.met}


def plans_for_flows(names: dict[str, str], clean: dict[str, list[str]], *, product: bool) -> dict[str, Any]:
    """Give credentials whose flow run meets each surprise once, each at another call, and each port's errors.

    Args:
        names: credential -> venue.
        clean: venue -> the calls of a rotation in which all went well.
        product: let it meet each sort of surprise at each place outside of its tasks, and not each once.
    """
    from tests.canary.bombs import FAULTS, SURPRISES, Plan

    outside = (itertools.product if product else zip)(_OUTSIDE, _OUTSIDE_KINDS)
    typical = ((place, next(iter(FAULTS[port]))) for port, place in _TYPICAL.items())
    free, given, met = iter(names.items()), {}, set[str]()
    for place, kind in (*outside, *typical):
        given[next(free)[0]] = Plan(always={place: kind})
    for kind in SURPRISES:
        name, venue = next(free)
        # A call that only this venue's driver makes comes first: no other credential may be left for it.
        left = [call for call in clean[venue] if call not in met]
        call = min(left, key=lambda call: sum(call in calls for calls in clean.values()))
        met.add(call)
        given[name] = Plan(always={call: kind})
    return given


def plans_for_sweep(
    failing: dict[str, list[str]], clean: dict[str, list[str]], met: set[str], *, product: bool
) -> dict[str, Any]:
    """Give each failing credential its failure: every call meets a surprise once, and every kind is met.

    Args:
        failing: venue -> credentials.
        clean: venue -> the calls of a rotation in which all went well.
        met: the calls that meet a surprise in a flow run of their own.
        product: let each call meet one each time that it is made, whatever flow runs meet.
    """
    from tests.canary.bombs import FAULTS, SURPRISES, Plan

    free = {venue: iter(names) for venue, names in failing.items()}
    # A cancellation would end the whole sweep; it meets flow runs of their own.
    surprises, venues, given = cycle(kind for kind in SURPRISES if kind != "cancelled"), cycle(clean), {}
    numbers: dict[str, dict[str, int]] = {venue: {} for venue in clean}
    for venue, calls in clean.items():
        for number, call in enumerate(calls):
            if product or call not in {*met, *calls[:number]}:
                numbers[venue][f"{call}, {calls[:number].count(call)}"] = number
    for call in dict.fromkeys(call for each in numbers.values() for call in each):
        venue = next(v for v in venues if call in numbers[v])
        given[next(free[venue])] = Plan(at={numbers[venue][call]: next(surprises)})
    for port, family in FAULTS.items():
        for turn, kind in enumerate(family):
            venue = next(venues)
            places = [n for n, call in enumerate(clean[venue]) if call.startswith(f"{port}.")]
            given[next(free[venue])] = Plan(at={places[turn * 5 % len(places)]: kind})
    return given


def plans_for_wires(names: list[str], gates: list[str]) -> dict[str, Any]:
    """Give each credential a store call that meets a gate: each call in turn, and each gate."""
    from tests.canary.bombs import WIRE, Plan

    class Once(Plan):
        def next(self, call: str) -> str | None:
            kind = super().next(call)
            if kind:
                self.always.clear()
            return kind

    gate, call = cycle(gates), cycle(STORE_CALLS)
    return {name: Once(always={next(call): WIRE + next(gate)}) for name in names}


async def open_rotations(names: list[str]) -> None:
    """Begin rotations, for a sweep to go on with."""
    from keyturn.domain.rotation import Mode
    from tasks.world import opened

    async with opened("cli:test") as engine:
        for name in names:
            await engine.open(name, mode=Mode.MANUAL, reason="a canary test")


async def run_sweep() -> str:
    """Run the sweep; give how it ended."""
    from flows.sweep import sweep

    return str((await sweep({"at_once": _AT_ONCE}, return_state=True)).name)


def be_impatient() -> None:
    """Let flows wait for a moment only where something fails time and again."""
    from flows import following, sweep

    following.follow.__kwdefaults__["patience"] = _PATIENCE_SECONDS
    sweep._PATIENCE_SECONDS = _PATIENCE_SECONDS


def be_careless(decoy: str) -> None:
    """Run a flow that tells Prefect a secret in every way that there is: what the search must find."""
    from prefect import flow, get_run_logger, task
    from prefect.artifacts import create_markdown_artifact
    from prefect.events import emit_event
    from prefect.variables import Variable

    @task(task_run_name="mint {text}", persist_result=True)
    def mint(text: str) -> str:
        return text

    @flow(name="careless")
    def careless(text: str) -> None:
        mint(text)
        get_run_logger().info("the secret is %s", text)
        create_markdown_artifact(f"# {text}", key="careless")
        emit_event("careless", {"prefect.resource.id": "careless"}, payload={"text": text})
        Variable.set("careless", text)
        raise ValueError(text)

    careless(decoy, return_state=True)
    call_aloud(decoy)


def debug_http() -> None:
    """Let Python print each request of its own HTTP client, as somebody does who looks for a fault."""
    http.client.HTTPConnection.debuglevel = 1


def call_aloud(decoy: str) -> None:
    """Make a call whose headers are printed then."""
    prefect = urlsplit(os.environ["PREFECT_API_URL"])
    connection = http.client.HTTPConnection(prefect.netloc, timeout=20)
    connection.request("GET", "/api/health", headers={"X-Careless": decoy})
    connection.getresponse().read()
    connection.close()


async def rotate_all(do: dict[str, Any]) -> dict[str, Any]:
    """Let rotations succeed, then fail at every call, in sweeps and in flow runs of their own."""
    from tests.canary import bombs
    from tests.canary.gauntlet import run_gauntlet

    plans = bombs.plan_items()
    await open_rotations(list(do["clean"].values()))
    plans |= {name: bombs.Plan() for name in do["clean"].values()}
    good = [await run_flow(n, bombs.Plan()) for n in do["good"]]
    await run_sweep()
    clean = {venue: plans[name].calls for venue, name in do["clean"].items()}
    alone = plans_for_flows(do["alone"], clean, product=do["product"])
    met = {place for plan in alone.values() for place, kind in plan.always.items() if kind in bombs.SURPRISES}
    bad = plans_for_sweep(do["failing"], clean, met, product=do["product"])
    struck = plans_for_wires(do["wired"], do["gates"])
    gate = asyncio.Semaphore(_AT_ONCE)

    async def guarded(name: str, plan: Any) -> dict[str, Any]:
        async with gate:
            return await run_flow(name, plan)

    runs = await asyncio.gather(*(guarded(name, plan) for name, plan in alone.items()))
    os.environ["KEYTURN_INVENTORY"] = do["gated"]
    await open_rotations([*bad, *struck, *do["spoiled"]])
    plans |= bad | struck
    swept = await run_sweep()
    wired = {base: await run_gauntlet(base, do["gates"], do["canary"]) for base in do["remote"]}
    await asyncio.to_thread(be_careless, do["decoy"])
    return {
        "good": good,
        "runs": runs,
        "sweep": {"state": swept, "met": {name: plan.met for name, plan in bad.items()}},
        "clean": clean,
        "wired": wired,
        "struck": {name: plan.met for name, plan in struck.items()},
    }


def say_all() -> None:
    """Send Prefect what waits to be sent, and write what waits to be written: who dies does it no more."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(at_exit=False)
    sys.stdout.flush()


async def be_killed(names: list[str], death: Death) -> None:
    """Die in the middle of flow runs: the exchange has made their keys, and nobody has stored them."""
    from tests.canary import bombs

    runs = []  # a task that nobody holds is garbage, with what it waits for
    for name in names:
        run = asyncio.create_task(run_flow(name, bombs.Plan(always={"exchange.create_key": "kill"})))
        runs.append(run)
        come = asyncio.create_task(death.come.wait())
        await asyncio.wait({run, come}, return_when=asyncio.FIRST_COMPLETED)
        assert not run.done(), "it never came to where it dies"
        death.come.clear()


def be_bot(do: dict[str, Any]) -> None:
    """Attach exchange objects that make no call of their own, until stdin ends."""
    import ccxt

    import keyturn.client

    log_everything(do["log"])
    attached = []
    for name, (venue, url) in do["bots"].items():
        exchange = getattr(ccxt, venue)({"enableRateLimit": False})
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], url)
        attached.append(
            keyturn.client.attach(
                exchange, name, inventory=do["inventory"], verify_after=0.1, interval=_LOOK_SECONDS
            )
        )
    print("ready", flush=True)
    sys.stdin.read()
    for each in attached:
        each.detach()


def type_commands(do: dict[str, Any]) -> None:
    """Run commands one after another, as a person would, each with a failure if it has one."""
    from keyturn.cli.main import main
    from tests.canary import bombs

    log_everything(do["log"])
    for line in do["commands"]:
        print("$ keyturn", *line["arguments"], flush=True)
        plan = bombs.Plan(always=line.get("always", {}))
        bombs.plan.set(plan)
        sys.stdin = StringIO(line.get("stdin", ""))
        try:
            main([*line["arguments"], "--inventory", line.get("inventory", do["inventory"])])
        except SystemExit as end:
            print(f"exit status {end.code}; met {plan.met}", flush=True)
        except BaseException:  # what Python shows of an error that nobody caught
            traceback.print_exc()
            print(f"TRACEBACK; met {plan.met}", flush=True)


def main() -> None:
    """Do what the file says."""
    do = json.loads(Path(sys.argv[2]).read_text())
    from tests.canary import bombs

    mark_passphrases(do["canary"])
    ask_stores_again_soon()
    look_at_managers_each_time()
    if do["do"] != "bot":  # which makes calls of its own, and decides itself what it prints of them
        debug_http()
    death = Death(len(do.get("killed", ())))
    bombs.lay(do["canary"], death)
    threading.current_thread().name = sys.argv[1]
    match do["do"]:
        case "rotate":
            ask_prefect_again_soon()
            be_impatient()
            log_everything(do["log"])
            Path(do["told"]).write_text(json.dumps(asyncio.run(rotate_all(do))))
            say_all()
            asyncio.run(be_killed(do["killed"], death))
        case "bot":
            be_bot(do)
        case "commands":
            type_commands(do)


if __name__ == "__main__":
    main()
