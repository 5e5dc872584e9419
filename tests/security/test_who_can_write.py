"""`keyturn doctor` names everybody who could act as keyturn's user, and the command that ends it."""

from __future__ import annotations

import grp
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.access import OpenToOthersError, expect_own_folder, who_writes
from keyturn.cli import up
from keyturn.cli.template import IDENTITY
from keyturn.domain.errors import RefusedError
from keyturn.groups import named_writers
from tests.cli.conftest import Home, cli, home, live, venue
from tests.security.strangers import NOBODY, as_nobody, needs_root, square

__all__ = ["cli", "home", "live", "square", "venue"]


def about(home: Home, subject: str) -> list[dict[str, Any]]:
    return [f for f in home.json("doctor")["findings"] if f["subject"].startswith(subject)]


def test_where_all_is_ones_own_doctor_is_content_and_says_once_that_the_inventory_is_code(live: Home) -> None:
    result = live.run("doctor")
    assert result.out.count("is code") == 1
    document = live.json("doctor")
    bad = [f for f in document["findings"] if not f["ok"]]
    assert not [f for f in bad if "write" in f["detail"] or "owns" in f["detail"]], bad
    assert (
        len(about(live, "inventory ")) == len(about(live, "journal ")) == len(about(live, "secret file")) == 1
    )
    assert len(about(live, "working directory")) == 1


_THINGS: dict[str, tuple[str, Callable[[Home], Path]]] = {
    "the inventory": ("inventory ", lambda home: home.inventory),
    "its folder": ("inventory ", lambda home: home.folder),
    "a folder above": ("inventory ", lambda home: home.folder.parent),
    "the journal": ("journal ", lambda home: home.journal),
    "the journal's folder": ("journal ", lambda home: home.journal.parent),
    "the identity": ("secret file", lambda home: home.folder / IDENTITY),
    "the store": ("store ", lambda home: home.folder / "keyturn-data" / "store"),
    "Prefect's folder": ("Prefect's folder", lambda home: home.folder / ".keyturn"),
    "a consumer's file": ("consumer mm-bybit: ", lambda home: home.folder / "bot-key.json"),
}


@pytest.mark.parametrize("thing", _THINGS)
def test_what_every_user_may_write_is_named_with_the_command_that_ends_it(home: Home, thing: str) -> None:
    subject, where = _THINGS[thing]
    path = where(home)
    if not path.exists():
        path.touch(0o600)
    before = path.stat().st_mode & 0o777
    path.chmod(before | 0o002)
    found = [f for f in about(home, subject) if "every user may write" in f["detail"]]
    assert found, thing
    assert f"{path} (mode {before | 0o002:04o})" in found[0]["detail"]
    assert found[0]["todo"].startswith(f"chmod o-w {path}")
    subprocess.run(["sh", "-c", found[0]["todo"].partition(";")[0]], check=True)
    assert not [f for f in about(home, subject) if "every user may write" in f["detail"]]


def test_the_folder_that_keyturn_starts_in_a_pid_file_and_a_mailbox_are_looked_at(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    here.chmod(0o1777)
    monkeypatch.chdir(here)
    home.edit("    path: bot-key.json\n", "    path: bot-key.json\n    signal: HUP\n    pid_file: bot.pid\n")
    bot = "consumers:\n  bot:\n    kind: client\n    evidence: timed\n    mailbox: mail\n"
    home.edit("consumers:\n  mm-bybit:", f"{bot}  mm-bybit:")
    home.edit("consumers: [mm-bybit]", "consumers: [mm-bybit, bot]")
    (home.folder / "bot.pid").write_text("2")
    (home.folder / "bot.pid").chmod(0o622)
    (home.folder / "mail" / "bot").mkdir(parents=True)
    (home.folder / "mail").chmod(0o777)
    told = {f["subject"]: f for f in home.json("doctor")["findings"] if not f["ok"]}
    assert "mode 1777" in told[f"working directory {here}"]["detail"]
    assert "mode 0622" in told[f"consumer mm-bybit: pid file {home.folder}/bot.pid"]["detail"]
    assert "mode 0777" in told[f"consumer bot: mailbox {home.folder}/mail/bot"]["detail"]


@needs_root
def test_an_owner_who_is_another_user_is_named(home: Home) -> None:
    os.chown(home.inventory, NOBODY.pw_uid, -1)
    (found,) = about(home, "inventory ")
    assert not found["ok"]
    assert f"user nobody owns {home.inventory}" in found["detail"]
    assert found["todo"] == f"chown root {home.inventory}"
    subprocess.run(["sh", "-c", found["todo"]], check=True)
    assert about(home, "inventory ")[0]["ok"]


@needs_root
def test_a_group_counts_where_it_has_other_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o664)
    assert who_writes("x", file).ok, "root is alone in its group"
    os.chown(file, -1, NOBODY.pw_gid)
    finding = who_writes("x", file)
    group = grp.getgrgid(NOBODY.pw_gid).gr_name
    assert finding.detail == f"group {group} may write to {file} (mode 0664)"
    assert finding.todo == f"chmod g-w {file}"


def listed(path: Path, *entries: tuple[int, int, int]) -> None:
    """Give a file an access list: tag, permissions, id."""
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except OSError:
        pytest.skip("this file system has no access lists (POSIX ACL)")


_ANY = 0xFFFFFFFF


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has no access lists of that kind")
def test_an_access_list_counts_as_far_as_its_mask_lets_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    user, mask = (2, 6, NOBODY.pw_uid), 0x10
    own = [(1, 6, _ANY), user, (4, 4, _ANY)]
    listed(file, *own, (mask, 6, _ANY), (0x20, 0, _ANY))
    finding = who_writes("x", file)
    assert finding.detail == f"user nobody may write to {file} (mode 0660, access list)"
    assert finding.todo == f"setfacl -x u:nobody {file}"
    assert len(list(named_writers(file, file.stat(), frozenset({0})))) == 1, "the group's bits are the mask"
    listed(file, *own, (mask, 4, _ANY), (0x20, 0, _ANY))
    assert who_writes("x", file).ok


@needs_root
def test_a_mailbox_that_an_operator_shared_with_a_group_is_well_and_told(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    os.chown(box, -1, NOBODY.pw_gid)
    box.chmod(0o770)
    assert not who_writes("x", box, shared=True).ok, "nothing says that it is on purpose"
    box.chmod(0o2770)
    finding = who_writes("x", box, shared=True)
    assert finding.ok
    assert "may write" in finding.detail
    assert not who_writes("x", box).ok


@needs_root
@pytest.mark.parametrize("how", ["owned by a stranger", "open to every user", "a link"])
def test_up_starts_nothing_in_a_folder_that_is_in_other_hands_too(square: Path, how: str) -> None:
    folder = square / ".keyturn"
    if how == "a link":
        (square / "theirs").mkdir()
        folder.symlink_to("theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
        if how == "owned by a stranger":
            folder.chmod(0o755)
            os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises((RefusedError, Exception), match=r"other hands|cannot write"):
        up._settle(folder)
    assert not list(square.rglob("prefect"))
    if how != "a link":
        with pytest.raises(OpenToOthersError):
            expect_own_folder(folder)


@needs_root
def test_a_user_who_is_not_root_trusts_root_and_itself(square: Path) -> None:
    (square / "mine").mkdir()
    os.chown(square / "mine", NOBODY.pw_uid, NOBODY.pw_gid)

    def work() -> None:
        assert who_writes("x", square / "mine" / "file").ok
        assert who_writes("x", square / "file").ok

    as_nobody(work)
    assert not who_writes("x", square / "mine" / "file").ok
