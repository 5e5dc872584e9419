from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.simulator import IssuedKey
from keyturn.simulator.seed import Seed, SeedError, build, read_seed

SECRET = "not-a-real-secret-1"
KEY = {"key_ref": "manager-ref", "secret": SECRET, "permissions": ["Wallet.Withdraw"]}
SEED = {
    "trust_forwarded": True,
    "accounts": [
        {
            "name": "main",
            "uid": "1001",
            "keys": [KEY],
        },
        {"name": "bot", "uid": "2002", "parent": "main", "key_limit": 3},
    ],
    "faults": [{"kind": "rate_limited", "match": "query-api"}],
}


@pytest.fixture
def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "seed.json"
    path.write_text(json.dumps(SEED))
    return path


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "keyturn.simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_child_process_serves_its_seed_and_stops_cleanly(bybit, seed_file, number):
    process = await start("--exchange", "bybit", "--seed-file", str(seed_file), "--with-parent")
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert (ready["exchange"], ready["pid"]) == ("bybit", process.pid)
        caller = bybit.calls(IssuedKey("manager-ref", SECRET), base_url=ready["url"])
        assert (await caller.get("/v5/user/query-api")).code == 10006
        assert (await caller.get("/v5/user/query-api")).code == 0
        body = {"subuid": 2002, "readOnly": 0, "permissions": {"Spot": ["SpotTrade"]}}
        assert (await caller.post("/v5/user/create-sub-api", **body)).code == 0
    finally:
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_a_child_process_does_not_outlive_a_killed_parent():
    program = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'keyturn.simulator', '--exchange', 'okx', '--with-parent']\n"
        "subprocess.Popen(command)\n"
        "sys.stdin.read()"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        child = json.loads(await asyncio.wait_for(parent.stdout.readline(), 20))["pid"]
    finally:
        parent.kill()
        await parent.wait()
    # The pipe that both hold ends when the last of them is gone.
    assert await asyncio.wait_for(parent.stdout.read(), 10) == b""
    assert await gone(child)


async def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (None, "can't be read"),
        ({"accounts": [{"name": "main", "keys": [{"secret": SECRET}]}]}, "key_ref"),
        ({"accounts": [], "extra": SECRET}, "extra"),
        ({"accounts": [{"name": "bot", "parent": "main"}]}, "main"),
        ({"accounts": [{"name": "main"}, {"name": "main"}]}, "exists already"),
        ({"accounts": [{"name": "main", "keys": [{**KEY, "permissions": ["x"]}]}]}, "no permission x"),
        ({"accounts": [{"name": "main", "keys": [{**KEY, "ips": ["x"]}]}]}, "not all of these"),
        ({"accounts": [], "faults": [{"kind": "second_factor"}]}, "second_factor"),
    ],
)
def test_a_seed_that_does_not_fit_is_refused_without_showing_it(tmp_path, seed, says):
    path = tmp_path / "seed.json"
    path.write_text("{" if seed is None else json.dumps(seed))
    with pytest.raises(SeedError, match=says) as caught:
        build("bybit", read_seed(path))
    assert SECRET not in str(caught.value)


async def test_a_bad_seed_ends_the_process_with_status_2(tmp_path):
    process = await start("--exchange", "okx", "--seed-file", str(tmp_path / "missing.json"))
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (2, b"")
    assert b"missing.json" in err


def test_an_exchange_that_is_not_simulated_is_refused():
    with pytest.raises(SeedError, match="bybit, deribit, okx"):
        build("nowhere", Seed(accounts=[]))


def test_the_judge_shares_no_code_with_the_judged():
    program = (
        "import sys, keyturn.simulator.server, keyturn.simulator.proxy\n"
        "ours = [m for m in sys.modules if m.startswith('keyturn.')]\n"
        "own = [m for m in ours if not m.startswith('keyturn.simulator')]\n"
        "foreign = [m for m in ('ccxt', 'prefect', 'sqlalchemy') if m in sys.modules]\n"
        "print(own + foreign)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
