"""`python -m tests.canary.launch NAME FILE`: the child processes of this suite, logging all they can.

FILE holds what to do and the canary, as JSON; it lies where no search looks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import threading
import traceback
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

_LOUD = ("", "keyturn", "ccxt", "aiohttp", "asyncio", "sqlalchemy", "httpx", "prefect")
# How many flow runs go on at once: Prefect's server on SQLite slows down beyond.
_AT_ONCE = 6


def log_everything(file: str) -> None:
    """Send every logger's DEBUG to a file."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.DEBUG)


def mark_passphrases(canary: str) -> None:
    """Let the passphrases that keyturn itself draws carry the canary too."""
    from keyturn.exchanges.okx import driver

    driver.new_passphrase = lambda: f"{canary}-aA1{secrets.token_hex(3)}"


def die() -> None:
    """End as a machine without power does."""
    os.kill(os.getpid(), signal.SIGKILL)


async def run_flow(name: str, plan: Any) -> dict[str, Any]:
    """Run the flow for a credential; give how it ended and what it met."""
    from flows.rotate import rotate_credential
    from tests.canary import bombs

    form = {"credential": name, "reason": "a canary test", "requested_by": "alice"}
    bombs.plan.set(plan)
    state = await rotate_credential(form, return_state=True)
    try:
        await state.result()
    except BaseException:  # noqa: BLE001 - what a caller's terminal would show
        traceback.print_exc()
    return {"credential": name, "state": state.name, "calls": plan.calls, "met": plan.met}


def plans(failing: dict[str, list[str]], clean: dict[str, list[str]]) -> list[tuple[str, Any]]:
    """Give each failing credential its failure: every call meets a surprise once, every kind is met.

    Args:
        failing: venue -> credentials.
        clean: venue -> the calls of a run in which all went well.
    """
    from tests.canary.bombs import FAULTS, SURPRISES, Plan

    free = {venue: iter(names) for venue, names in failing.items()}
    given = []
    longest, surprises, venues = max(map(len, clean.values())), cycle(SURPRISES), cycle(clean)
    for number in range(longest):
        venue = next(v for v in venues if number < len(clean[v]))
        given.append((next(free[venue]), Plan(at={number: next(surprises)})))
    for port, family in FAULTS.items():
        for turn, kind in enumerate(family):
            venue = next(venues)
            places = [n for n, call in enumerate(clean[venue]) if call.startswith(f"{port}.")]
            given.append((next(free[venue]), Plan(at={places[turn * 5 % len(places)]: kind})))
    for kind in ("KeyError", "pydantic", "panic"):
        given.append((next(free["okx"]), Plan(always={"open": kind})))
        given.append((next(free["okx"]), Plan(always={"clock.now": kind})))
    return given


async def rotate_all(do: dict[str, Any]) -> dict[str, Any]:
    """Let rotations succeed, then fail at every call, then sweep while everything fails now and then."""
    from flows.sweep import sweep
    from tests.canary import bombs

    log_everything(do["log"])
    good = await asyncio.gather(*(run_flow(name, bombs.Plan()) for name in do["good"]))
    clean = {venue: next(g["calls"] for g in good if g["credential"] == n) for venue, n in do["clean"].items()}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def guarded(name: str, plan: Any) -> dict[str, Any]:
        async with gate:
            return await run_flow(name, plan)

    bad = await asyncio.gather(*(guarded(name, plan) for name, plan in plans(do["failing"], clean)))
    spoiled = await asyncio.gather(*(guarded(name, bombs.Plan()) for name in do["spoiled"]))
    kinds = cycle(bombs.KINDS)
    swept = bombs.Plan(at={n: next(kinds) for n in range(4, 4000, 7)})
    bombs.plan.set(swept)
    state = await sweep({"at_once": 8}, return_state=True)
    return {
        "good": good,
        "bad": bad,
        "spoiled": spoiled,
        "sweep": {"state": state.name, "met": swept.met},
        "calls": clean,
    }


async def be_killed(do: dict[str, Any]) -> None:
    """Die in the middle of a flow run: the exchange has made the key, and nobody has stored it."""
    from tests.canary import bombs

    log_everything(do["log"])
    await run_flow(do["credential"], bombs.Plan(always={"exchange.create_key": "kill"}))


def be_careless(do: dict[str, Any]) -> None:
    """Run a flow that tells Prefect a secret in every way that there is: what the search must find."""
    from prefect import flow, get_run_logger, task
    from prefect.artifacts import create_markdown_artifact
    from prefect.events import emit_event
    from prefect.variables import Variable

    decoy = do["decoy"]

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

    log_everything(do["log"])
    careless(decoy, return_state=True)


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
            keyturn.client.attach(exchange, name, inventory=do["inventory"], verify_after=0.1, interval=0.1)
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
        except BaseException:  # noqa: BLE001 - what Python shows of an error that nobody caught
            traceback.print_exc()
            print(f"TRACEBACK; met {plan.met}", flush=True)


def main() -> None:
    """Do what the file says."""
    do = json.loads(Path(sys.argv[2]).read_text())
    from tests.canary import bombs

    mark_passphrases(do["canary"])
    bombs.lay(do["canary"], die)
    threading.current_thread().name = sys.argv[1]
    match do["do"]:
        case "rotate":
            Path(do["told"]).write_text(json.dumps(asyncio.run(rotate_all(do))))
        case "kill":
            asyncio.run(be_killed(do))
        case "careless":
            be_careless(do)
        case "bot":
            be_bot(do)
        case "commands":
            type_commands(do)


if __name__ == "__main__":
    main()
