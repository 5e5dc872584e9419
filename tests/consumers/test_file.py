from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.consumers.file import RenderedFile
from keyturn.consumers.render import render
from keyturn.domain.errors import ConsumerError, ConsumerFault, StoreError, StoreFault
from keyturn.domain.evidence import Evidence, Notice, NoticeKind
from keyturn.domain.inventory import FileConsumer
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored

SECRET = "not-a-real-secret-1"


def stored(secret=SECRET, print_="fp1", **more):
    meta = KeyMeta("bybit", "main", "key-1", print_, None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "1", None, meta), SecretMaterial("key-1", secret, **more))


def notice(print_="fp1", rotation="r1"):
    return Notice(
        "mm", "bot", rotation, NoticeKind.PROMOTED, print_, "1", datetime.now(UTC) + timedelta(hours=1)
    )


class World:
    def __init__(self, base):
        self.base, self.current = base, stored()

    async def read(self):
        if isinstance(self.current, Exception):
            raise self.current
        return self.current

    def consumer(self, **entry):
        entry = {"kind": "file", "path": "key.json", **entry}
        return RenderedFile("bot", FileConsumer.model_validate(entry), base=self.base, read_current=self.read)

    def json(self):
        return json.loads((self.base / "key.json").read_text())

    def lines(self, name):
        path = self.base / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def script(world, name, text):
    path = world.base / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"./{name}"


async def error_of(call):
    with pytest.raises(ConsumerError) as caught:
        await call
    assert "not-a-real" not in caught.value.diagnostics()
    return caught.value


async def test_the_key_is_rendered_and_the_proof_is_time_alone(world):
    bot = world.consumer(fields={"api_key": "apiKey", "secret": "secret", "fingerprint": "kt"})
    await bot.notify(notice())
    assert world.json() == {"apiKey": "key-1", "secret": SECRET, "kt": "fp1"}
    assert stat.S_IMODE((world.base / "key.json").stat().st_mode) == 0o600
    (proof,) = await bot.confirmations(notice())
    assert proof.evidence is Evidence.TIMED


async def test_mode_owner_and_links_are_kept(world):
    (world.base / "real").mkdir()
    target = world.base / "real" / "key.json"
    target.write_text("old")
    if os.geteuid() == 0:
        os.chown(target, 65534, 65534)
    (world.base / "key.json").symlink_to(target)
    # Of another user's file it must be said that it is the consumer's.
    entry = {"owner": "65534"} if os.geteuid() == 0 else {}
    await world.consumer(mode="0640", **entry).notify(notice())
    assert (world.base / "key.json").is_symlink()
    after = target.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert after.st_uid == (65534 if os.geteuid() == 0 else os.geteuid())
    assert json.loads(target.read_text())["secret"] == SECRET


async def test_links_that_name_each_other_are_told_as_a_file_that_cannot_be_used(world):
    (world.base / "key.json").symlink_to("other")
    (world.base / "other").symlink_to("key.json")
    bot = world.consumer()
    for call in (bot.notify(notice()), bot.confirmations(notice())):
        error = await error_of(call)
        assert error.fault is ConsumerFault.MISCONFIGURED
        assert "key.json" in error.what
    (finding,) = await bot.check()
    assert not finding.ok
    assert (world.base / "key.json").is_symlink()


async def test_a_reader_never_sees_half_a_file(world):
    world.current = stored("not-a-real-secret-" + "x" * 200_000)
    bot = world.consumer()
    await bot.notify(notice())
    reads, stop = [], asyncio.Event()

    def read():
        while not stop.is_set():
            reads.append(len(world.json()["secret"]))

    reader = asyncio.create_task(asyncio.to_thread(read))
    for number in range(20):
        world.current = stored(f"not-a-real-secret-{number:03}" + "y" * 200_000)
        await bot.notify(notice(rotation=f"r{number + 2}"))
    stop.set()
    await reader
    assert len(reads) > 5
    assert sorted(p.name for p in world.base.iterdir()) == [".key.json.keyturn-bot.json", "key.json"]


async def test_another_current_key_than_the_notice_names_is_not_written(world):
    world.current = stored(print_="fp0")
    error = await error_of(world.consumer().notify(notice()))
    assert error.fault is ConsumerFault.REFUSED
    world.current = None
    assert (await error_of(world.consumer().notify(notice()))).fault is ConsumerFault.REFUSED
    world.current = StoreError(StoreFault.UNAVAILABLE, "The store is away.")
    assert (await error_of(world.consumer().notify(notice()))).fault is ConsumerFault.UNREACHABLE
    assert not (world.base / "key.json").exists()


async def test_the_command_runs_once_a_notice_and_sees_no_secret(world, monkeypatch):
    monkeypatch.setenv("KEYTURN_AGE_KEY", "not-a-real-age-key")
    run = script(world, "restart", 'echo "$@" >>args; env >>environment; echo not-a-real-output')
    bot = world.consumer(run=[run, "bot.service", "$HOME;ls"])
    await asyncio.gather(*(bot.notify(notice()) for _ in range(4)))
    assert world.lines("args") == ["bot.service $HOME;ls"]
    environment = (world.base / "environment").read_text()
    assert "not-a-real" not in environment
    assert "KEYTURN_FINGERPRINT=fp1" in environment
    await bot.notify(notice(rotation="r2"))
    assert len(world.lines("args")) == 2
    # A worker that starts anew knows it from the disk.
    await world.consumer(run=[run]).notify(notice(rotation="r2"))
    assert len(world.lines("args")) == 2


async def test_a_command_that_failed_is_run_again_and_nothing_is_confirmed_meanwhile(world):
    run = script(world, "restart", "echo ran >>runs; test -e ok")
    bot = world.consumer(run=[run])
    error = await error_of(bot.notify(notice()))
    assert error.fault is ConsumerFault.REFUSED
    assert "status 1" in error.what
    assert await bot.confirmations(notice()) == []
    (world.base / "ok").touch()
    await bot.notify(notice())
    assert len(world.lines("runs")) == 2
    assert len(await bot.confirmations(notice())) == 1


async def test_a_file_that_somebody_changed_is_written_again(world):
    bot = world.consumer()
    await bot.notify(notice())
    (world.base / "key.json").write_text("{}")
    await bot.notify(notice())
    assert world.json()["secret"] == SECRET


async def test_a_command_that_hangs_is_killed_with_its_children(world):
    run = script(world, "restart", "sleep 30 & echo $! >child; wait")
    error = await error_of(world.consumer(run=[run], timeout="1.5s").notify(notice()))
    assert error.fault is ConsumerFault.OUTCOME_UNKNOWN
    child = int(world.lines("child")[0])
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            break
        await asyncio.sleep(0.02)
    assert not state.strip() or state.startswith("Z")


async def test_a_talkative_command_does_not_block(world):
    run = script(world, "restart", "head -c 3000000 /dev/zero")
    confirm = script(world, "which", "echo fp1; head -c 3000000 /dev/zero | tr '\\0' ' '")
    bot = world.consumer(run=[run], confirm=[confirm], timeout="20s")
    await bot.notify(notice())
    assert len(await bot.confirmations(notice())) == 1


BOT = """
import sys, time
while True:
    print("tick", flush=True)
    with open("ticks", "a") as file: file.write("tick\\n")
    time.sleep(0.05)
"""


async def test_a_bot_that_the_command_starts_in_the_background_is_started_once_and_lives_on(world):
    (world.base / "bot.py").write_text(BOT)
    run = script(world, "restart", f"nohup {sys.executable} bot.py & echo $! >>pids")
    bot = world.consumer(run=[run], timeout="5s")
    try:
        await asyncio.wait_for(bot.notify(notice()), 4)
        await bot.notify(notice())
        assert len(await bot.confirmations(notice())) == 1
        # It prints all the while: into a pipe that nobody holds any more it would have died.
        for _ in range(200):
            if len(world.lines("ticks")) > 5:
                break
            await asyncio.sleep(0.05)
        assert len(world.lines("ticks")) > 5
        assert len(world.lines("pids")) == 1
    finally:
        for pid in world.lines("pids"):
            os.kill(int(pid), signal.SIGKILL)


async def test_a_confirm_command_is_over_when_it_ends_whoever_holds_its_output(world):
    confirm = script(world, "which", "test -e told || exit 1; sleep 30 & echo $! >child; echo fp1")
    bot = world.consumer(run=["touch", "told"], confirm=[confirm], timeout="5s")
    await bot.notify(notice())
    try:
        (proof,) = await asyncio.wait_for(bot.confirmations(notice()), 4)
        assert proof.evidence is Evidence.ACK
    finally:
        # It is there still: what a command left in the background is not ours to end.
        os.kill(int(world.lines("child")[0]), signal.SIGKILL)


async def test_a_command_that_is_not_there_is_a_matter_of_settings(world):
    bot = world.consumer(run=["/nowhere/restart"])
    assert (await error_of(bot.notify(notice()))).fault is ConsumerFault.MISCONFIGURED
    assert [finding.ok for finding in await bot.check()] == [True, False]


async def test_the_process_of_the_pid_file_is_signalled(world):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c",
        "import signal,time; signal.signal(signal.SIGHUP, lambda *a: print('hup', flush=True));"
        "print('up', flush=True); time.sleep(0.1); [time.sleep(0.1) for _ in range(600)]",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert await process.stdout.readline() == b"up\n"
        (world.base / "bot.pid").write_text(f"{process.pid}\n")
        for name in ("SIGHUP", "HUP"):
            await world.consumer(signal=name, pid_file="bot.pid").notify(notice(rotation=f"r{name}"))
            assert await asyncio.wait_for(process.stdout.readline(), 5) == b"hup\n"
    finally:
        process.kill()
        await process.wait()
    error = await error_of(world.consumer(signal="HUP", pid_file="bot.pid").notify(notice(rotation="r9")))
    assert error.fault is ConsumerFault.UNREACHABLE


@pytest.mark.parametrize("text", ["", "0", "1", "-1", "self", "12 13"])
async def test_a_pid_file_never_means_a_group_or_init(world, text, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *a: sent.append(a))
    (world.base / "bot.pid").write_text(text)
    bot = world.consumer(signal=signal.SIGTERM.name, pid_file="bot.pid")
    assert (await error_of(bot.notify(notice()))).fault is ConsumerFault.MISCONFIGURED
    assert sent == []


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
async def test_a_stranger_that_took_over_the_process_id_gets_no_signal(world):
    process = subprocess.Popen(["sleep", "60"])
    (world.base / "pid").write_text(str(process.pid))
    hour_ago = time.time() - 3600
    os.utime(world.base / "pid", (hour_ago, hour_ago))
    bot = world.consumer(signal="SIGHUP", pid_file="pid")
    try:
        error = await error_of(bot.notify(notice()))
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert error.fault is ConsumerFault.UNREACHABLE
    assert "started after" in error.what
    assert await bot.confirmations(notice()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
async def test_a_process_that_has_ended_and_is_not_yet_collected_is_not_told(world):
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (world.base / "pid").write_text(str(process.pid))
    error = await error_of(world.consumer(signal="SIGHUP", pid_file="pid").notify(notice()))
    process.wait()
    assert error.fault is ConsumerFault.UNREACHABLE


async def test_a_confirm_command_is_an_acknowledgement_only_with_the_right_fingerprint(world):
    bot = world.consumer(confirm=[script(world, "which", "cat running")])
    (world.base / "running").write_text("fp0")
    await bot.notify(notice())
    assert await bot.confirmations(notice()) == []
    (world.base / "running").write_text("fp1\n")
    (proof,) = await bot.confirmations(notice())
    assert proof.evidence is Evidence.ACK
    (world.base / "running").unlink()
    assert (await error_of(bot.confirmations(notice()))).fault is ConsumerFault.REFUSED


async def test_a_folder_that_is_missing_or_in_the_way_is_a_clear_error(world):
    bot = world.consumer(path="nowhere/key.json")
    assert (await error_of(bot.notify(notice()))).fault is ConsumerFault.MISCONFIGURED
    assert not (await bot.check())[0].ok
    (world.base / "key.json").mkdir()
    assert (await error_of(world.consumer().notify(notice()))).fault is ConsumerFault.MISCONFIGURED


async def test_a_field_that_the_key_lacks_is_named(world):
    error = await error_of(world.consumer(fields={"api_key": "k", "pin": "p"}).notify(notice()))
    assert error.fault is ConsumerFault.MISCONFIGURED
    assert "pin" in error.what


NASTY = [
    "plain+/=ABC", "two words", "a#b", "#lead", "it's", "a=b=c", "$HOME", "$(id)", "`id`", "a;b&c|d", "~",
    "*", 'say "hi"', "!!", "-----BEGIN KEY-----\nbm90LXJlYWw=\n-----END KEY-----\n", "", " lead", "trail ",
    "ümläut ✓", "%41", "{a,b}", "it's (not) #real",
]  # fmt: skip
REFUSED = [
    "back\\slash",
    "a\rb",
    "tab\tb",
    "nul\0",
    "${HOME}",
    'it\'s "both"',
    "it's $HOME",
    "\x1b[0m",
    "a\u2028b",
]


@pytest.mark.parametrize("value", NASTY)
def test_an_env_file_reads_back_the_same_in_sh_and_dotenv(value, tmp_path):
    path = tmp_path / "key.env"
    path.write_bytes(render(stored(value), {"secret": "THE_SECRET", "api_key": "API_KEY"}, "env"))
    shell = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$THE_SECRET"', "sh", str(path)],
        capture_output=True, check=True, timeout=10, env={"PATH": os.environ["PATH"], "HOME": "/wrong"},
    )  # fmt: skip
    assert shell.stdout.decode() == value
    dotenv = pytest.importorskip("dotenv", reason="pip install python-dotenv")
    assert dotenv.dotenv_values(path) == {"THE_SECRET": value, "API_KEY": "key-1"}


@pytest.mark.parametrize("value", REFUSED)
def test_what_an_env_file_cannot_carry_is_refused_and_not_quoted(value):
    with pytest.raises(ConsumerError) as caught:
        render(stored(value), {"secret": "THE_SECRET"}, "env")
    assert value not in caught.value.diagnostics()
    assert caught.value.fault is ConsumerFault.MISCONFIGURED


@pytest.mark.parametrize("value", NASTY + REFUSED)
def test_json_carries_everything(value):
    assert json.loads(render(stored(value), {"secret": "s"}, "json")) == {"s": value}


def test_a_passphrase_is_written_where_there_is_one():
    fields = {"api_key": "k", "passphrase": "p"}
    assert json.loads(render(stored(), fields, "json")) == {"k": "key-1"}
    assert json.loads(render(stored(passphrase="pass-1"), fields, "json")) == {"k": "key-1", "p": "pass-1"}


# -- what `confirm` is worth ---------------------------------------------------------------

READS_IT = ["sed", "-n", 's/.*"kt": "\\([^"]*\\)".*/\\1/p', "key.json"]
FIELDS = {"api_key": "apiKey", "secret": "secret", "fingerprint": "kt"}


async def test_a_confirm_that_reads_the_file_that_keyturn_writes_proves_nothing_and_says_so(world):
    bot = world.consumer(fields=FIELDS, run=["true"], confirm=READS_IT)
    await bot.notify(notice())
    for each in (bot, world.consumer(fields=FIELDS, run=["true"], confirm=READS_IT)):
        (proof,) = await each.confirmations(notice())
        assert proof.evidence is Evidence.TIMED
        assert "reads the file that keyturn writes" in proof.detail


async def test_a_bot_that_moved_before_the_command_failed_is_believed_when_it_is_told_again(world):
    # It prints what the bot runs on, and the command that moves the bot ends badly once.
    run = script(world, "restart", "cp moves running; test -e ok")
    (world.base / "running").write_text("fp0")
    (world.base / "moves").write_text("fp1")
    bot = world.consumer(run=[run], confirm=["cat", "running"])
    await error_of(bot.notify(notice()))
    (world.base / "ok").touch()
    await world.consumer(run=[run], confirm=["cat", "running"]).notify(notice())
    (proof,) = await bot.confirmations(notice())
    assert proof.evidence is Evidence.ACK


async def test_what_confirm_was_worth_is_not_forgotten_when_the_notice_comes_again(world):
    run = script(world, "restart", "test -e ok")
    entry = {"fields": FIELDS, "run": [run], "confirm": READS_IT}
    await error_of(world.consumer(**entry).notify(notice()))
    (world.base / "ok").touch()
    await world.consumer(**entry).notify(notice())
    (world.base / "key.json").write_text("{}")
    bot = world.consumer(**entry)
    await bot.notify(notice())
    (proof,) = await bot.confirmations(notice())
    assert proof.evidence is Evidence.TIMED


async def test_a_bot_that_never_left_the_old_key_confirms_a_roll_back(world):
    (world.base / "running").write_text("fp0")
    bot = world.consumer(confirm=["cat", "running"])
    world.current = stored(print_="fp1")
    await bot.notify(notice())
    world.current = stored("not-a-real-secret-0", print_="fp0")
    back = Notice("mm", "bot", "r1", NoticeKind.ROLLED_BACK, "fp0", "1", notice().confirm_by)
    await bot.notify(back)
    (proof,) = await bot.confirmations(back)
    assert proof.evidence is Evidence.ACK


async def test_a_confirm_that_reads_our_file_proves_no_roll_back_either(world):
    bot = world.consumer(fields=FIELDS, confirm=READS_IT)
    await bot.notify(notice())
    world.current = stored("not-a-real-secret-0", print_="fp0")
    back = Notice("mm", "bot", "r1", NoticeKind.ROLLED_BACK, "fp0", "1", notice().confirm_by)
    await bot.notify(back)
    (proof,) = await bot.confirmations(back)
    assert proof.evidence is Evidence.TIMED
