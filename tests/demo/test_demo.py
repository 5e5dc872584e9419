"""The demo as a person runs it: real processes, and what it says when a line does not hold."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.demo import __main__ as program
from keyturn.demo import house, stage
from keyturn.demo.cast import PARTS, Part
from tests.event_loop import uvloop_in

KEYTURN = Path(sys.executable).parent / "keyturn"
# On an idle machine a demo takes under 30 seconds; this is for one that is shared.
LONG = 400
PATH = "planned → minting → staged → verified → promoted → cutting_over → grace → revoking → completed"
NAMES = [part.credential for part in PARTS]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LONG)]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """Play it where all that leaves this machine goes by a proxy, and nobody answers there."""
    proxied = {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "x.example",
    }
    return subprocess.run(
        [sys.executable, "-m", "keyturn.demo"],
        cwd=folder,
        env=os.environ | proxied,
        capture_output=True,
        text=True,
        timeout=LONG,
    )


def begun(folder: Path, furnish: Callable[[Path], None]) -> None:
    """Leave what a demo has when it first has begun: its folder and Prefect's database."""
    home = house.House(folder / "demo")
    home.settle()
    furnish(home.private / "prefect")


def keyturn(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([KEYTURN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def current(folder: Path) -> dict[str, str]:
    document = json.loads(keyturn("status", "--json", cwd=folder / "demo"))
    return {line["credential"]: line["fingerprint"] for line in document["credentials"]}


def adopted(folder: Path, name: str) -> str:
    """Give the fingerprint of the key that a credential's first demo began with."""
    document = json.loads(keyturn("history", name, "--json", cwd=folder / "demo"))
    (fingerprint,) = [key["fingerprint"] for key in document["keys"] if key["origin"] == "adopted"]
    return str(fingerprint)


def row(output: str, name: str) -> list[str]:
    """Give the cells of a credential in the closing table, its lines joined."""
    table = [re.split(r"\s*│\s*", line)[1:-1] for line in output.splitlines() if line.startswith("│")]
    start = next(i for i, cells in enumerate(table) if cells[0] == name)
    rows = [table[start]]
    for cells in table[start + 1 :]:
        if cells[0]:
            break
        rows.append(cells)
    return [" ".join(part for part in column if part) for column in zip(*rows, strict=True)]


def test_a_killed_demo_leaves_no_process_and_the_next_one_finishes_its_rotations_and_turns_every_key_again(
    tmp_path: Path, product: bool, furnish_prefect: Callable[[Path], None]
) -> None:
    if product:  # else the first is the one that is killed
        first = demo(tmp_path)
        assert first.returncode == 0, first.stdout + first.stderr
    else:
        begun(tmp_path, furnish_prefect)
    kill_in_grace(tmp_path)
    last = demo(tmp_path)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "the sweep finishes them first" in last.stdout
    after_last = current(tmp_path)

    for name in NAMES:
        _, old, new, path, calls, refused, death = row(last.stdout, name)
        assert new == after_last[name]
        first_key = adopted(tmp_path, name)
        assert len({old, new, first_key}) == 3
        assert path == PATH
        with_old, with_new = map(int, re.findall(r"\d+", calls))
        assert min(with_old, with_new) >= 10
        assert refused == "0"
        assert death == "dead: refused as a key that it does not know"
        story = keyturn("history", name, "--inventory", "demo/keyturn.yaml", cwd=tmp_path)
        assert all(mark in story for mark in (first_key, old, new))
    assert "The journal is whole" in keyturn("verify-journal", cwd=tmp_path / "demo")
    for command in ("status", "history mm-bybit", "verify-journal"):
        assert f"keyturn {command} --inventory demo/keyturn.yaml" in last.stdout
    assert (tmp_path / "demo" / house.IDENTITY).stat().st_mode & 0o777 == 0o600


def kill_in_grace(folder: Path) -> None:
    """Kill a demo when its new keys are in use and the old ones live, and see all that it started end."""
    killed = subprocess.Popen(
        [sys.executable, "-m", "keyturn.demo"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout
    try:
        for line in killed.stdout:
            if "grace" in line:
                break
        children = list(descendants(killed.pid))
        # Three exchanges, three bots, the runner of the flows, Prefect's server.
        assert len(children) >= 8
    finally:
        killed.kill()
        killed.wait()
    end = time.monotonic() + 60
    while alive := [pid for pid in children if lives(pid)]:
        assert time.monotonic() < end, f"left behind: {alive}"
        time.sleep(0.1)


def test_ctrl_c_ends_the_demo_and_all_that_it_started(
    tmp_path: Path, furnish_prefect: Callable[[Path], None]
) -> None:
    begun(tmp_path, furnish_prefect)
    process = subprocess.Popen(
        [sys.executable, "-m", "keyturn.demo"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if "bots trade" in line:
            break
    children = list(descendants(process.pid))
    on_uvloop = [pid for pid in [process.pid, *children] if uvloop_in(pid)]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert not [pid for pid in children if lives(pid)]
    assert on_uvloop == [], "docs/adr/0009"


UNATTACHED = """
import sys
import keyturn.client
from keyturn.demo import bot

def attach(self):
    key = keyturn.client.current(self._given.credential, bundle=self._given.bundle).reveal()
    self.exchange.apiKey, self.exchange.secret = key["api_key"], key["secret"]

bot.Bot.attach = attach
sys.exit(bot.main())
"""


def test_a_bot_that_does_not_follow_its_key_fails_the_demo_and_is_named(
    tmp_path: Path,
    furnish_prefect: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun(tmp_path, furnish_prefect)
    real = stage.bot_command

    def command(part: Part, url: str, bundle: str) -> list[str]:
        arguments = real(part, url, bundle)
        return ["-c", UNATTACHED, *arguments[2:]] if part.exchange == "bybit" else arguments

    monkeypatch.setattr(stage, "bot_command", command)
    monkeypatch.setattr(house, "CONFIRM_WITHIN", "8s")
    code = program.main(["--folder", str(tmp_path / "demo")])
    out = capsys.readouterr().out
    assert code == 1, out
    broken = [line for line in out.splitlines() if line.startswith("DOES NOT HOLD")]
    assert all("mm-bybit" in line for line in broken), broken
    assert any("its rotation is parked" in line for line in broken), broken
    assert any("no call with the new key" in line for line in broken), broken
    assert any("the old key is not dead: a signed call worked" in line for line in broken), broken
    assert "every line holds" not in out
    # Nothing was revoked under the bot that did not follow: it was never refused.
    assert row(out, "mm-bybit")[5] == "0"
    assert row(out, "arb-okx")[3] == PATH


def test_a_second_demo_keeps_out_of_the_folder_of_a_running_one(tmp_path: Path) -> None:
    home = house.House(tmp_path / "demo")
    home.settle()
    with home.locked():
        second = demo(tmp_path)
    assert second.returncode == 3
    assert "Another demo runs" in second.stdout


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("two years of work")
    done = demo(tmp_path)
    assert done.returncode == 3
    assert "thesis.txt" in done.stdout
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["thesis.txt"]


def descendants(pid: int) -> Iterator[int]:
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [tuple(map(int, line.split())) for line in table.stdout.splitlines()]
    wanted = [pid]
    for parent in wanted:
        below = [child for child, of in parents if of == parent]
        wanted += below
        yield from below


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")
