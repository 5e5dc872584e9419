"""A machine that does not play along: a command says what it lacks, and calls nothing unexpected."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.cli import up
from keyturn.cli.codes import ExitCode
from keyturn.cli.guard import guarded
from keyturn.cli.output import Out
from keyturn.domain.errors import MachineError
from keyturn.machine import refuse_environment, with_home
from tests.cli.processes import Result, installed, process
from tests.conftest import SmallDisk

from .conftest import CREDENTIAL, Home

ROTATE = ("rotate", CREDENTIAL, "--reason", "the quarterly rotation")


def understood(result: Result, *codes: ExitCode) -> None:
    """It was foreseen, and says what is true and what to do."""
    assert result.code in codes, (result.code, result.err)
    assert "unexpected" not in result.err
    assert "Traceback" not in result.err
    assert "\nNow: " in result.err
    assert "\nDo: " in result.err
    assert "report it" not in result.err


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "refuses access to /srv/keyturn/file"),
        (errno.EROFS, "refuses access to /srv/keyturn/file"),
        (errno.ENOSPC, "has no room left on a disk (/srv/keyturn/file)"),
        (errno.EMFILE, "has too many files open"),
        (errno.EIO, "cannot read or write its disk"),
    ],
)
def test_what_the_system_refuses_is_this_machines_fault_wherever_it_comes_from(
    number: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(out: Out) -> None:
        raise OSError(number, os.strerror(number), "/srv/keyturn/file")

    with pytest.raises(SystemExit) as ended:
        guarded(command)(as_json=True)
    told = capsys.readouterr()
    assert ended.value.code == ExitCode.MACHINE
    understood(Result(ExitCode.MACHINE, told.out, told.err), ExitCode.MACHINE)
    assert says in told.err
    error = json.loads(told.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("machine", 12)


def test_a_name_that_is_no_whole_path_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def command(out: Out) -> None:
        raise OSError(errno.EACCES, "Permission denied", "not-a-real-secret")

    with pytest.raises(SystemExit):
        guarded(command)()
    assert "not-a-real-secret" not in capsys.readouterr().err


@pytest.fixture
def on_small_disk(home: Home, small_disk: SmallDisk) -> tuple[Home, SmallDisk]:
    """The home on a disk of its own."""
    folder = small_disk.path / "home"
    shutil.copytree(home.folder, folder)
    return Home(folder, home.cli), small_disk


KEY = '{"api_key": "not-a-real-key-1", "secret": "not-a-real-secret-1"}'
CALLS = [
    (("init", "other", "--exchange", "bybit", "--subaccount", "1", "--permission", "read"), ""),
    (ROTATE, ""),
    (("sweep",), ""),
    (("put", CREDENTIAL), KEY),
    (("up", "--port", "1"), ""),
]


@pytest.mark.parametrize(("command", "stdin"), CALLS, ids=[call[0][0] for call in CALLS])
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_nothing_is_told_as_that(
    on_small_disk: tuple[Home, SmallDisk], how: str, command: tuple[str, ...], stdin: str
) -> None:
    home, disk = on_small_disk
    if how == "full":
        disk.fill()
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    arguments = command if command[0] == "init" else (*command, "--inventory", home.inventory)
    result = process(*arguments, cwd=home.folder, stdin=stdin)
    understood(result, ExitCode.INVENTORY, ExitCode.STORE, ExitCode.JOURNAL, ExitCode.MACHINE)
    assert any(words in result.err for words in ("No space", "full", "free space", "ead-only")), result.err


def test_up_names_the_folder_that_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", closed)
    with pytest.raises(MachineError, match=r"cannot write to .*\.keyturn: Permission denied") as refused:
        up.run_up(tmp_path / "keyturn.yaml")
    assert refused.value.now == "Nothing was started."
    assert str(tmp_path) in refused.value.todo


def test_up_refuses_a_proxy_with_which_nothing_of_prefects_could_start(home: Home) -> None:
    proxy = {"all_proxy": "socks4://127.0.0.1:1"}
    result = process("up", "--inventory", home.inventory, cwd=home.folder, **proxy)
    understood(result, ExitCode.MACHINE)
    assert "all_proxy" in result.err
    assert "127.0.0.1" not in result.err
    assert not (home.folder / ".keyturn" / "prefect").exists()


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["socks4://h:1", "ftp://h:21", "htp://h:1", "http://h:99999", "http://:80"])
def test_such_a_proxy_is_refused_by_its_name_and_untold(name: str, proxy: str) -> None:
    with pytest.raises(MachineError, match=f"variable {name} ") as refused:
        refuse_environment({name: proxy})
    assert proxy not in refused.value.diagnostics()


@pytest.mark.parametrize("proxy", ["http://h:3128", "https://h", "HTTP://u:p@h:1", "h:3128", ""])
def test_an_http_proxy_is_taken_however_it_is_written(proxy: str) -> None:
    refuse_environment({"https_proxy": proxy, "all_proxy": proxy})


@pytest.mark.parametrize("name", ["PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"])
def test_up_refuses_a_password_that_no_header_can_carry(name: str, home: Home) -> None:
    result = process("up", "--inventory", home.inventory, cwd=home.folder, **{name: "admin:not-real\n"})
    understood(result, ExitCode.MACHINE)
    assert name in result.err
    assert "not-real" not in result.err


def test_who_has_no_home_gets_one_for_prefect_which_asks_for_it(tmp_path: Path) -> None:
    # As in a container that runs as a number without a name.
    nameless = (
        "import os, pathlib, pwd\n"
        "def nobody(*_): raise KeyError\n"
        "pwd.getpwuid = nobody\n"
        "os.environ.pop('HOME', None)\n"
        "from keyturn.machine import refuse_environment, with_home\n"
        f"os.environ.update(with_home(os.environ, pathlib.Path({str(tmp_path)!r})))\n"
        "os.environ['PREFECT_HOME'] = os.environ['HOME']\n"
        "import prefect\n"
        "print(os.environ['HOME'])"
    )
    done = subprocess.run([sys.executable, "-c", nameless], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == str(tmp_path), done.stderr
    assert with_home({"HOME": "/home/somebody"}, tmp_path) == {}


def test_the_children_of_up_get_that_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError()))
    environ = up._environment(
        tmp_path / "keyturn.yaml", tmp_path / ".keyturn", "http://127.0.0.1:4200", "admin:not-a-real-secret"
    )
    assert environ["HOME"] == environ["PREFECT_HOME"]


# The one that imports the most starts anew: a module may ask for a home where it is imported.
@pytest.mark.parametrize(
    ("command", "start"), [("check", process), ("status", process), ("doctor", installed)]
)
def test_a_command_needs_no_home(
    command: str, start: Callable[..., Result], live: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    start(command, cwd=live.folder).ok()


def test_a_proxy_of_another_kind_in_the_inventory_is_refused_by_check(home: Home) -> None:
    for proxy in ("socks5://127.0.0.1:1080", "ftp://127.0.0.1:21", "htp://127.0.0.1:1", "http://127.0.0.1:0"):
        text = home.inventory.read_text()
        home.edit("    exchange: bybit\n", f'    exchange: bybit\n    egress_proxy: "{proxy}"\n')
        result = home.run("check")
        assert result.code == ExitCode.INVENTORY
        assert "egress_proxy" in result.err
        assert "http://HOST:PORT" in result.err or "a number from 1 to 65535" in result.err
        home.inventory.write_text(text)


@pytest.mark.parametrize("field", ["key_ref", "secret"])
@pytest.mark.parametrize("inner", ["\n", "\r\n"])
def test_put_refuses_a_key_with_a_line_end_and_asks_nobody(field: str, inner: str, home: Home) -> None:
    values = {"api_key": "not-a-real-key-1", "secret": "not-a-real-secret-1"}
    name = {"key_ref": "api_key"}.get(field, field)
    values[name] = values[name][:6] + inner + values[name][6:]
    result = home.run("put", CREDENTIAL, stdin=json.dumps(values))
    understood(result, ExitCode.INVENTORY)
    assert "The field" in result.err
    assert "not-a-" not in result.err
