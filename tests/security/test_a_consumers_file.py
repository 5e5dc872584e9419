"""A consumer's key goes into the file that the operator meant, and its signal to that consumer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.consumers import pid_file
from keyturn.consumers.file import RenderedFile
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import Notice, NoticeKind
from keyturn.domain.inventory import FileConsumer
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from tests.security.strangers import NOBODY, as_nobody, needs_root, square

__all__ = ["square"]

SECRET = "not-a-real-secret-1"
META = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
STORED = Stored(SlotInfo(Slot.CURRENT, "1", None, META), SecretMaterial("key-1", SECRET))
NOTICE = Notice("mm", "bot", "r1", NoticeKind.PROMOTED, "fp1", "1", datetime.now(UTC) + timedelta(hours=1))


def consumer(base: Path, path: str = "key.json", **entry: object) -> RenderedFile:
    async def read() -> Stored:
        return STORED

    model = FileConsumer.model_validate({"kind": "file", "path": path, **entry})
    return RenderedFile("bot", model, base=base, read_current=read)


async def refused(bot: RenderedFile, *words: str) -> ConsumerError:
    """See that nothing is written and nobody told, and that doctor says so beforehand."""
    with pytest.raises(ConsumerError) as caught:
        await bot.notify(NOTICE)
    error = caught.value
    assert error.fault is ConsumerFault.MISCONFIGURED
    assert SECRET not in error.diagnostics()
    for word in words:
        assert word in error.what
    assert error.todo
    assert not all(finding.ok for finding in await bot.check())
    return error


def holds(path: Path) -> bool:
    return json.loads(path.read_text())["secret"] == SECRET


@pytest.fixture
def shared(square: Path) -> Path:
    """A folder as /tmp: every user may make files, and remove their own."""
    made = square / "tmp"
    made.mkdir()
    made.chmod(0o1777)
    return made


# A stranger's link and a stranger's file.


@needs_root
async def test_a_link_that_a_stranger_planted_leads_the_key_nowhere(shared: Path, square: Path) -> None:
    victim = square / "victim"
    victim.write_text("what stood there")
    as_nobody(lambda: (shared / "key.json").symlink_to(victim))
    await refused(consumer(shared), "user nobody owns", str(shared / "key.json"))
    assert victim.read_text() == "what stood there"
    assert sorted(p.name for p in shared.iterdir()) == ["key.json"]


@needs_root
async def test_a_file_that_a_stranger_planted_gets_no_key(shared: Path) -> None:
    as_nobody(lambda: (shared / "key.json").write_text("{}"))
    error = await refused(consumer(shared), "user nobody owns")
    assert "owner: NAME" in error.todo
    assert (shared / "key.json").read_text() == "{}"


@needs_root
async def test_a_file_of_a_stranger_is_refused_in_a_folder_of_ones_own_too(square: Path) -> None:
    (square / "key.json").write_text("{}")
    os.chown(square / "key.json", NOBODY.pw_uid, NOBODY.pw_gid)
    await refused(consumer(square), "user nobody owns")


@needs_root
@pytest.mark.parametrize("path", ["theirs/key.json", "theirs/own/key.json", "by/key.json"])
async def test_a_folder_of_a_stranger_on_the_way_is_refused(square: Path, path: str) -> None:
    (square / "theirs").mkdir()
    os.chown(square / "theirs", NOBODY.pw_uid, NOBODY.pw_gid)
    (square / "theirs" / "own").mkdir()
    (square / "by").symlink_to("theirs/own")
    await refused(consumer(square, path), "user nobody owns")
    assert not list(square.rglob("key.json"))


# Folders that every user may write to.


async def test_a_folder_that_every_user_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "key.json").write_text("{}")
    error = await refused(consumer(tmp_path, "open/key.json"), "every user may write")
    subprocess.run(error.todo.partition(";")[0], shell=True, check=True)
    await consumer(tmp_path, "open/key.json").notify(NOTICE)
    assert holds(tmp_path / "open" / "key.json")


async def test_in_a_sticky_folder_a_free_name_is_anybodys_and_ones_own_file_is_not(shared: Path) -> None:
    await refused(consumer(shared), "every user may write")
    (shared / "key.json").touch()
    await consumer(shared).notify(NOTICE)
    assert holds(shared / "key.json")


async def test_a_mark_that_somebody_else_wrote_proves_nothing(tmp_path: Path) -> None:
    bot = consumer(tmp_path)
    await bot.notify(NOTICE)
    assert len(await bot.confirmations(NOTICE)) == 1
    mark = tmp_path / ".key.json.keyturn-bot.json"
    mark.chmod(0o666)
    assert await bot.confirmations(NOTICE) == []
    mark.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(mark, NOBODY.pw_uid, NOBODY.pw_gid)
        assert await bot.confirmations(NOTICE) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["key.json", ".key.json.keyturn-bot.json", "bot.pid"])
async def test_a_fifo_in_place_of_its_files_is_told_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConsumerError) as caught:
        await consumer(tmp_path, format="freqtrade", signal="HUP", pid_file="bot.pid").notify(NOTICE)
    assert caught.value.fault is not ConsumerFault.OUTCOME_UNKNOWN


# What an operator does on purpose stays possible.


async def test_a_link_of_the_operators_own_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "config").write_text("{}")
    (tmp_path / "config").symlink_to("shared/config")
    (tmp_path / "way").symlink_to(tmp_path / "shared")
    for path in ("config", "way/config"):
        await consumer(tmp_path, path, format="freqtrade").notify(NOTICE)
        found = json.loads((tmp_path / "shared" / "config").read_text())
        assert found["exchange"]["secret"] == SECRET
        (tmp_path / "shared" / "config").write_text("{}")
    assert (tmp_path / "config").is_symlink()
    assert [finding.ok for finding in await consumer(tmp_path, "config").check()] == [True]


@needs_root
async def test_the_declared_owner_gets_the_file_in_a_folder_of_its_own(square: Path) -> None:
    (square / "bot").mkdir()
    os.chown(square / "bot", NOBODY.pw_uid, NOBODY.pw_gid)
    bot = consumer(square, "bot/key.json", owner="nobody")
    for _ in range(2):
        await bot.notify(NOTICE)
        status = (square / "bot" / "key.json").stat()
        assert (status.st_uid, status.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert len(await bot.confirmations(NOTICE)) == 1
        (square / "bot" / "key.json").write_text("{}")
    assert all(finding.ok for finding in await bot.check())
    as_nobody(lambda: (square / "bot" / "link.json").symlink_to("key.json"))
    await consumer(square, "bot/link.json", owner="nobody").notify(NOTICE)
    assert holds(square / "bot" / "key.json")


@needs_root
@pytest.mark.parametrize("how", ["link to a file", "link to a folder", "hard link"])
async def test_what_the_declared_owner_made_leads_to_nothing_of_roots(square: Path, how: str) -> None:
    (square / "bot").mkdir()
    os.chown(square / "bot", NOBODY.pw_uid, NOBODY.pw_gid)
    (square / "roots").mkdir()
    victim = square / "roots" / "key.json"
    victim.write_text('{"password": "of root"}')
    path = "bot/key.json"
    if how == "link to a file":
        as_nobody(lambda: (square / "bot" / "key.json").symlink_to(victim))
    elif how == "hard link":
        os.link(victim, square / "bot" / "key.json")  # where the system lets a user do it
    else:
        as_nobody(lambda: (square / "bot" / "to").symlink_to(square / "roots"))
        path = "bot/to/key.json"
    await refused(consumer(square, path, owner="nobody", format="freqtrade"), "user nobody made the way")
    assert victim.read_text() == '{"password": "of root"}'
    assert victim.stat().st_uid == 0


async def test_an_owner_that_this_machine_does_not_know_is_named(tmp_path: Path) -> None:
    error = await refused(consumer(tmp_path, owner="no-such-user"), "no user no-such-user")
    assert "owner" in error.todo


@needs_root
def test_a_user_who_is_not_root_writes_its_own_files_and_not_anothers(square: Path) -> None:
    import asyncio

    (square / "mine").mkdir()
    os.chown(square / "mine", NOBODY.pw_uid, NOBODY.pw_gid)

    def work() -> None:
        asyncio.run(consumer(square, "mine/key.json").notify(NOTICE))
        (square / "mine" / "key.json").chmod(0o600)
        with pytest.raises(ConsumerError):
            asyncio.run(consumer(square, "key.json").notify(NOTICE))
        with pytest.raises(ConsumerError):
            asyncio.run(consumer(square, "mine/other.json", owner="root").notify(NOTICE))

    as_nobody(work)
    assert holds(square / "mine" / "key.json")
    assert not (square / "key.json").exists()


# The process that is told.


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "60"])
    yield made
    made.kill()
    made.wait()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(pid_file.os, "kill", lambda *a: signals.append(a))
    return signals


async def test_a_pid_file_that_a_stranger_may_write_names_nobody(
    tmp_path: Path, process: subprocess.Popen[bytes], sent: list[tuple[int, int]]
) -> None:
    file = tmp_path / "bot.pid"
    file.write_text(str(process.pid))
    file.chmod(0o666)
    error = await refused(consumer(tmp_path, signal="HUP", pid_file="bot.pid"), "every user may write")
    assert sent == []
    subprocess.run(error.todo, shell=True, check=True)
    await consumer(tmp_path, signal="HUP", pid_file="bot.pid").notify(NOTICE)
    assert sent == [(process.pid, signal.SIGHUP)]


@needs_root
async def test_a_pid_file_of_a_stranger_names_nobody(
    shared: Path, process: subprocess.Popen[bytes], sent: list[tuple[int, int]]
) -> None:
    as_nobody(lambda: (shared / "bot.pid").write_text(str(process.pid)))
    await refused(consumer(shared.parent, signal="HUP", pid_file="tmp/bot.pid"), "user nobody owns")
    assert sent == []


@needs_root
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
async def test_the_declared_owners_pid_file_names_its_own_processes_alone(
    square: Path, process: subprocess.Popen[bytes], sent: list[tuple[int, int]]
) -> None:
    (square / "run").mkdir()
    os.chown(square / "run", NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(lambda: (square / "run" / "bot.pid").write_text(str(process.pid)))
    bot = consumer(square, signal="HUP", pid_file="run/bot.pid", owner="nobody")
    with pytest.raises(ConsumerError, match="is not nobody's"):
        await bot.notify(NOTICE)
    assert sent == []
    theirs = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, user="nobody", group=NOBODY.pw_gid, extra_groups=[]
    )
    try:
        as_nobody(lambda: (square / "run" / "bot.pid").write_text(str(theirs.pid)))
        await bot.notify(NOTICE)
        assert sent == [(theirs.pid, signal.SIGHUP)]
    finally:
        theirs.communicate()
