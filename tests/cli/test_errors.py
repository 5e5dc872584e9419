"""What goes wrong meets text and an exit code: never a traceback, never a secret, never exit 0."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn.cli import guard
from keyturn.cli.codes import MEANING, ExitCode
from keyturn.cli.output import Out
from keyturn.domain import errors
from keyturn.domain.errors import KeyturnError
from keyturn.domain.rotation import State
from keyturn.simulator import Fault, FaultKind
from tests.cli.processes import SCRIPT, Call, environment, installed, process

from . import fleet
from .conftest import CREDENTIAL, Home, Run, Venue

LOOKING = (
    ("status",),
    ("plan",),
    ("history", CREDENTIAL),
    ("doctor",),
    ("verify-journal",),
    ("sweep", "--dry-run"),
)


def _says_what_now_and_todo(text: str) -> bool:
    return text.startswith("Error: ") and "\nDo: " in text and "Traceback" not in text


@pytest.mark.parametrize("command", [("check",), *LOOKING, ("rotate", CREDENTIAL, "--reason", "why not")])
def test_no_inventory_is_said_with_the_way_out(cli: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    result = cli(*command, "-i", tmp_path / "keyturn.yaml")
    assert result.code == 2
    assert _says_what_now_and_todo(result.err)
    assert "keyturn init" in result.err
    assert result.out == ""


def test_the_variable_names_the_inventory(home: Home, tmp_path: Path) -> None:
    assert installed("check", cwd=tmp_path, KEYTURN_INVENTORY=str(home.inventory)).code == 0
    assert process("check", cwd=tmp_path).code == 2
    assert process("check", cwd=home.folder).code == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: [1", "bracket"),
        ("a: &a {b: *a}", "contains itself"),
        ("version: 1\nstores: {}\naccounts: {main: {exchange: mtgox}}", "manager"),
        ("version: 1\nversion: 1\nstores: {}\naccounts: {}", "second time"),
        ("\x00\x01", ""),
        ("", "empty"),
    ],
)
def test_every_problem_of_an_inventory_is_told_by_line(
    cli: Run, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "keyturn.yaml").write_text(text)
    result = cli("check", "-i", tmp_path / "keyturn.yaml")
    assert result.code == 2
    assert "keyturn.yaml:" in result.err
    assert says in result.err
    assert "Traceback" not in result.err


def test_an_unknown_exchange_is_told_with_those_that_are_known(home: Home) -> None:
    home.edit("exchange: bybit", "exchange: bybitt")
    result = home.run("check")
    assert result.code == 2
    assert "write bybit" in result.err


def test_an_error_is_a_document_for_programs(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "keyturn.yaml").write_text("version: 2\nstores: {}\naccounts: {}\n")
    result = cli("check", "--json", "-i", tmp_path / "keyturn.yaml")
    error = result.document["error"]
    assert result.code == error["exit_code"] == 2
    assert error["kind"] == "inventory"
    assert len(error["problems"]) == 1
    assert result.err.startswith("Error: ")


@pytest.mark.parametrize("command", LOOKING)
def test_a_command_that_looks_makes_no_journal(home: Home, command: tuple[str, ...]) -> None:
    home.journal.unlink()
    result = home.run(*command)
    assert result.code == 7
    assert _says_what_now_and_todo(result.err)
    assert not home.journal.exists()


@pytest.mark.parametrize("command", [*LOOKING, ("rotate", CREDENTIAL, "--reason", "why not"), ("sweep",)])
def test_a_journal_from_a_newer_keyturn_is_left_alone(home: Home, command: tuple[str, ...]) -> None:
    with sqlite3.connect(home.journal) as database:
        database.execute("UPDATE keyturn_version SET version_num = '9999'")
    database.close()
    result = home.run(*command)
    assert result.code == 7
    assert "newer keyturn" in result.err


def test_a_tampered_row_is_told_break_by_break(live: Home) -> None:
    live.run("rotate", CREDENTIAL, "--reason", "quarterly").ok()
    with sqlite3.connect(live.journal) as database:
        database.execute("UPDATE events SET actor = 'cli:mallory' WHERE number = 3")
    database.close()
    result = live.run("verify-journal")
    assert result.code == 7
    assert "Broken: Event 3 was changed" in result.out
    document = live.json("verify-journal")
    assert document["ok"] is False
    assert document["breaks"]
    assert live.run("doctor").code == 8


def test_a_store_without_its_key_is_untouched_and_nothing_is_minted(live: Home, venue: Venue) -> None:
    store = live.folder / "keyturn-data" / "store"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    identity = live.folder / "keyturn-data" / "age-identity.txt"
    identity.rename(identity.with_suffix(".away"))
    assert live.run("doctor").code == 8
    result = live.run("rotate", CREDENTIAL, "--reason", "no key", "--no-wait")
    assert result.code in {9, 10}
    assert "age-identity.txt does not exist" in result.err
    assert venue.live_keys() == [venue.bot.key_ref]
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_an_unknown_name_is_refused_with_the_nearest(home: Home) -> None:
    commands = (
        ("status", "mm-bybitt"), ("plan", "mm-bybitt"), ("history", "mm-bybitt"), ("adopt", "mm-bybitt"),
        ("rotate", "mm-bybitt", "--reason", "typo"), ("put", "mm-bybitt"), ("resume", "mm-bybitt"),
        ("abort", "mm-bybitt", "--reason", "typo"), ("rollback", "mm-bybitt", "--reason", "typo"),
    )  # fmt: skip
    for command in commands:
        result = home.run(*command)
        assert result.code == 3, command
        assert "Did you mean mm-bybit?" in result.err


def test_where_no_rotation_is_open_the_way_to_the_past_ones_is_told(home: Home) -> None:
    for command in (("resume",), ("abort", "--reason", "why"), ("rollback", "--reason", "why")):
        result = home.run(command[0], CREDENTIAL, *command[1:])
        assert result.code == 3
        assert f"No rotation of {CREDENTIAL} is open." in result.err
        assert f"Do: keyturn history {CREDENTIAL}" in result.err


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("rotate",), ("status", "--frob"), ("sweep", "--limit", "x")]
)
def test_wrong_usage_is_exit_2_on_stderr(cli: Run, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: keyturn" in result.err


def test_escape_sequences_from_outside_do_not_reach_the_terminal(live: Home, venue: Venue) -> None:
    # A name that reaches the journal by another way than the command line.
    async def write() -> None:
        from datetime import UTC, datetime

        from keyturn.journal import SqlJournal

        journal = await SqlJournal.open_url(f"sqlite:///{live.journal}")
        await fleet.journal_one(journal, 7, datetime.now(UTC), upto=1)
        await journal.close()

    import asyncio

    asyncio.run(write())
    with sqlite3.connect(live.journal) as database:
        database.execute("UPDATE events SET actor = 'cli:\x1b]0;owned\x07' WHERE credential = 'bot-0007'")
    database.close()
    assert "\x1b" not in live.run("history", "bot-0007").ok().out


class OopsError(Exception):
    """An exception whose text must not be shown."""


def _broken(out: Out) -> None:
    secret = "not-a-real-secret-1"
    raise OopsError(f"POST body: {secret}")


def _run_broken(capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        guard.guarded(_broken)()
    return ended.value.code, "".join(capsys.readouterr())


def test_an_unexpected_error_is_one_line_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = _run_broken(capsys)
    assert code == 1
    assert "unexpected OopsError" in text
    assert "KEYTURN_DEBUG=1" in text
    assert "not-a-real-secret-1" not in text
    assert "Traceback" not in text


def test_an_unexpected_error_tells_programs_what_now_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        guard.guarded(_broken)(as_json=True)
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["exit_code"], error["what"]) == (1, "An unexpected OopsError.")
    assert "keyturn status" in error["now"]
    assert "KEYTURN_DEBUG=1" in error["todo"]


def test_debugging_shows_where_and_never_what(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYTURN_DEBUG", "1")
    code, text = _run_broken(capsys)
    assert code == 1
    assert "_broken" in text
    assert "not-a-real-secret-1" not in text


def test_every_error_has_an_exit_code_of_the_table() -> None:
    kinds = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, KeyturnError)
    ]
    assert len(kinds) >= 7
    assert {each.exit_code for each in kinds} <= {int(code) for code in ExitCode}
    assert set(MEANING) == set(ExitCode)


def test_every_state_has_its_words() -> None:
    from keyturn.cli.progress import _SAYS

    assert set(_SAYS) == set(State)


def test_a_reader_that_goes_away_is_no_error_of_ours(home: Home) -> None:
    with subprocess.Popen(
        [SCRIPT, "schema"], cwd=home.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        code, text = running.wait(30), running.stderr.read()
    assert code == 141
    assert text == b""


@pytest.mark.parametrize("closed", [(1,), (0, 1), (0, 1, 2)], ids=str)
def test_a_closed_stdout_is_a_reader_that_went_away_and_the_work_goes_on(
    home: Home, closed: tuple[int, ...]
) -> None:
    for arguments in (("status",), ("status", "--json"), ("doctor",)):
        done = process(*arguments, cwd=home.folder, closed=closed)
        assert done.code in {141, 8}, (arguments, done.err)
        assert done.err == ""
    done = process("status", "nobody", cwd=home.folder, closed=(1,))
    assert done.code == 3
    assert done.err.startswith("Error: There is no credential nobody")


@pytest.mark.parametrize("streams", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_shell_that_closes_streams_is_told_the_same(home: Home, streams: str) -> None:
    done = installed("status", cwd=home.folder, streams=streams)
    assert (done.code, done.out, done.err) == (141, "", "")


def test_a_closed_stderr_hides_no_exit_code(home: Home) -> None:
    assert installed("status", "nobody", cwd=home.folder, streams="2>&-").code == 3
    assert process("status", "nobody", cwd=home.folder, closed=(2,)).code == 3
    assert process("frobnicate", cwd=home.folder, closed=(2,)).code == 2


def test_a_closed_stdin_holds_nothing(live: Home) -> None:
    done = process("put", CREDENTIAL, cwd=live.folder, closed=(0,))
    assert done.code == 2
    assert "The field api_key is missing" in done.err
    done = process("rotate", CREDENTIAL, "--now", "--reason", "an incident", cwd=live.folder, closed=(0,))
    assert done.code == 0, done.err


def test_what_the_terminal_has_no_character_for_is_written_in_ascii(live: Home) -> None:
    live.run("rotate", CREDENTIAL, "--reason", "Schl\u00fcssel gedreht \u2713").ok()
    told = installed("history", CREDENTIAL, cwd=live.folder, PYTHONIOENCODING="ascii").ok()
    assert "Schl\\xfcssel gedreht \\u2713" in told.out
    told = installed("history", CREDENTIAL, "--json", cwd=live.folder, PYTHONIOENCODING="ascii").ok()
    assert told.document["rotations"][0]["reason"] == "Schl\u00fcssel gedreht \u2713"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_cannot_be_written_is_no_success(home: Home) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [SCRIPT, "schema"],
            cwd=home.folder,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == ExitCode.MACHINE
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_stops_after_the_step_and_loses_nothing(live: Home, venue: Venue) -> None:
    venue.sim.faults.add(Fault(kind=FaultKind.LATENCY, match="/v5/user/create-sub-api", seconds=2, times=1))
    before = len(venue.sim.calls(match="/v5/user/sub-apikeys"))  # `put` has listed the keys, too
    call = Call("rotate", CREDENTIAL, "--reason", "interrupted", cwd=live.folder)
    give_up = time.monotonic() + 20
    while len(venue.sim.calls(match="/v5/user/sub-apikeys")) <= before and time.monotonic() < give_up:
        time.sleep(0.02)
    time.sleep(0.3)
    call.running.interrupt()
    result = call.result()
    err = result.err
    assert result.code == 130, result
    assert "Stopping after this step" in err
    assert "nothing is lost" in err
    state = live.json("status")["credentials"][0]["state"]
    assert state == "staged"
    assert live.json("sweep")["outcomes"][0]["outcome"] == "completed"
    assert len(venue.live_keys()) == 1


def test_a_bots_machine_is_told_what_the_command_line_needs(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from keyturn.cli.main import main; main(['status'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "Error: typer is not installed.\nDo: pip install 'keyturn[orchestrator]'\n"


def test_up_refuses_and_tells_like_every_command(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.cli import up

    def refuse(inventory: Path, *, port: int, host: str) -> int:
        print("starting")
        raise errors.RefusedError(f"Port {port} is taken.", todo="--port")

    monkeypatch.setattr(up, "run_up", refuse)
    result = home.run("up", "--json", "--port", "4207")
    assert result.code == 3
    assert result.document["error"]["what"] == "Port 4207 is taken."

    monkeypatch.setattr(up, "run_up", lambda inventory, *, port, host: print("bye") or 0)
    result = home.run("up", "--json").ok()
    assert result.document == {
        "inventory": str(home.inventory),
        "ui": "http://127.0.0.1:4200",
        "exit_code": 0,
    }
    assert result.err == "bye\n"


def test_the_code_of_a_parked_rotation_claims_nothing_of_keys_that_may_not_be() -> None:
    told = MEANING[ExitCode.NEEDS_A_PERSON]
    assert "Nothing is revoked while it is parked" in told
    assert "keys live" not in told


def test_an_inventory_error_tells_what_is_true_now_after_its_problems() -> None:
    error = errors.InventoryError("It fails.", problems=("a:1: x", "a:2: y"), now="Nothing.", todo="Mend it.")
    assert error.diagnostics().split("\n") == [
        "It fails.",
        "a:1: x",
        "a:2: y",
        "Now: Nothing.",
        "Do: Mend it.",
    ]
