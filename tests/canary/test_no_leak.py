"""After rotations that succeed, fail at every call and are killed: no secret stands where it does not belong.

Each search is shown first to find what a careless flow left in that very place, or what is planted there.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyturn import wiring
from keyturn.domain.errors import StoreFault
from keyturn.domain.slots import Slot
from keyturn.exchanges import catalog
from keyturn.settings import load_inventory

from .bombs import KINDS, SURPRISES
from .launch import STORE_CALLS
from .play import LOGIN, Play
from .remote import GATES, REMOTE
from .scanner import Hit, columns

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(600)]

_DATABASE = "home/prefect/prefect.db"
_PLANTED = "planted"
_PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc: run it on Linux")


@pytest.fixture(scope="module")
def play(
    tmp_path_factory: pytest.TempPathFactory, furnish_prefect: Callable[[Path], None], product: bool
) -> Iterator[Play]:
    with Play(tmp_path_factory.mktemp("canary"), product=product) as played:
        furnish_prefect(played.prefect_home)
        played.perform()
        yield played


@pytest.fixture(scope="module")
def searched(play: Play) -> list[Hit]:
    """What one search finds in all that was left, in each folder of which a secret is planted first.

    It searches for the decoy too: what a careless flow told Prefect.
    """
    folders = [play.folder, *(path for path in play.folder.rglob("*") if path.is_dir())]
    planted = [folder / _PLANTED for folder in folders]
    try:
        for path in planted:
            path.write_bytes(base64.b64encode(f"x{play.canary}x".encode()))
        return play.found(decoy=play.decoy)
    finally:
        for path in planted:
            path.unlink()


@pytest.fixture(scope="module")
def decoys(searched: list[Hit]) -> set[str]:
    """Where the search finds what a careless flow told Prefect."""
    return {hit.place for hit in searched if hit.form.startswith("decoy: ")}


@pytest.fixture(scope="module")
def hits(searched: list[Hit]) -> list[Hit]:
    """What the search finds of what is secret, and nobody planted."""
    return [
        hit for hit in searched if not hit.form.startswith("decoy: ") and Path(hit.place).name != _PLANTED
    ]


def cores_in(folder: Path) -> list[Path]:
    """Give the core dumps below a folder: files of the format of programs, of which there are no others."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.read_bytes()[:4] == b"\x7fELF"]


def under(hits: list[Hit], start: str) -> list[Hit]:
    return [hit for hit in hits if hit.place.removeprefix("name of ").startswith(start)]


def ends_of(command: str, play: Play) -> list[str]:
    """Give the exit statuses of a command of keyturn, each time that it was typed."""
    typed = re.split(r"^\$ keyturn ", play.said("commands"), flags=re.MULTILINE)
    return [
        end
        for each in typed
        if each.startswith(f"{command} ")
        for end in re.findall(r"^exit status (\S+);", each, re.MULTILINE)
    ]


# -- the play is what it says that it is ------------------------------------------------------


def test_every_call_failed_once_and_every_kind_of_exception_met_prefect(play: Play):
    told = play.told
    assert {run["state"] for run in told["good"]} == {"Completed"}
    met = [failure for run in told["runs"] for failure in run["met"]]
    swept = [failure for failures in told["sweep"]["met"].values() for failure in failures]
    assert all(run["met"] for run in told["runs"]), "a failure was laid where no call went by"
    assert all(told["sweep"]["met"].values()), "a failure was laid where no call went by"
    assert set(SURPRISES) <= {failure.partition(": ")[2] for failure in met}
    each = [failure.partition(": ") for failure in (*met, *swept)]
    assert {kind for _, _, kind in each} == set(KINDS)
    surprised = {call for call, _, kind in each if kind in SURPRISES}
    assert surprised - {"open", "clock.now"} == {call for calls in told["clean"].values() for call in calls}


def test_secrets_were_where_the_flows_worked(play: Play):
    assert play.canary in play.house.rendered.read_text()
    assert all(not exchange.spoiled for exchange in play.street.exchanges.values()), (
        "not every answer was given"
    )
    issued = [s for exchange in play.street.exchanges.values() for s in exchange.secrets()]
    assert sum(play.canary in s for s in issued) > len(play.house.tenants)

    async def stored() -> str:
        loaded = load_inventory(play.house.file, manifests=catalog.manifests())
        async with wiring.open_world(loaded, actor="test") as world:
            current = await world.adapters.store("vault").read("bots/arb-okx", Slot.CURRENT)
            assert current is not None
            return repr(current.material.reveal())

    with play.remote.credentials():
        assert asyncio.run(stored()).count(play.canary) == 2, "secret and passphrase"


def test_every_call_of_each_remote_store_failed_on_the_wire_in_every_way(play: Play):
    """And what the adapter raised went into Prefect as it was."""
    wired = play.told["wired"]
    assert wired.keys() == set(REMOTE)
    for base, gates in wired.items():
        assert gates.keys() == set(GATES)
        for gate, ends in gates.items():
            assert len(ends) == 11
            # What was cut after the effect is read back, and a check tells what it finds.
            through = gate.endswith("-writes")
            must = ends.keys() - {"check"} if not through else {"stage", "put", "claim"}
            well = {end for call, end in ends.items() if call not in must or gate == "cut-after-writes"}
            assert {ends[call] for call in must} <= set(StoreFault) | well, (base, gate, ends)
            assert well <= set(StoreFault) | {end for end in well if end.startswith("gave ")}, (base, gate)
    struck = [failure for failures in play.told["struck"].values() for failure in failures]
    assert len(struck) == len(play.told["struck"]), "a gate stood where no call went by"
    assert {failure.partition(": ")[0] for failure in struck} == set(STORE_CALLS)


def test_the_logins_of_the_stores_were_where_they_worked(play: Play):
    requests = [seen for seen in play.remote.vault.seen if (seen.token or "").startswith(play.login)]
    assert len(requests) > 100
    assert any(play.login in str(seen.body) for seen in play.remote.vault.seen), "no AppRole login"
    assert play.remote.assumed > 0


def test_everybody_spoke_at_debug(play: Play):
    log = (play.folder / "logs" / "rotate.log").read_text()
    for logger in (
        "sqlalchemy.engine.Engine",
        "prefect.flow_runs DEBUG",
        "asyncio DEBUG",
        "prefect.task_runs",
        "urllib3.connectionpool DEBUG",
    ):
        assert f" {logger}" in log, logger
    assert "keyturn.client" in (play.folder / "logs" / "bot.log").read_text()
    for process in ("rotate", "commands", "serve"):
        assert '"logger": "keyturn.engine", "event": ' in play.said(process), process


# -- Prefect ----------------------------------------------------------------------------------


def test_the_search_finds_what_a_careless_flow_told_prefect(decoys: set[str]):
    in_columns = {
        "flow_run.parameters",
        "flow_run_state.message",
        "task_run.name",
        "log.message",
        "events.payload",
        "event_resources.resource",
        "artifact.data",
        "artifact_collection.data",
        "variable.value",
    }
    assert {f"{_DATABASE}: {column}" for column in in_columns} <= decoys
    stored = [place for place in decoys if place.startswith("home/prefect/storage/")]
    assert len(stored) >= 2, "a task's result and the flow's pickled exception"
    # The last by Python's own HTTP client, whose debugging is on.
    assert {"logs/rotate.log", "logs/rotate.err", "logs/rotate.out"} <= decoys


def test_no_secret_stands_in_any_column_of_prefects_database(hits: list[Hit]):
    assert under(hits, _DATABASE) == []


def test_no_secret_stands_in_prefects_result_storage(play: Play, hits: list[Hit]):
    assert any((play.prefect_home / "storage").iterdir())
    assert under(hits, "home/prefect/storage/") == []


@pytest.mark.parametrize("name", [_DATABASE, "house/journal.db"])
def test_a_secret_in_any_column_of_these_databases_would_be_found(play: Play, name: str, tmp_path: Path):
    """In a copy, one row of each table that has any gets it in every column."""
    copy = tmp_path / "copy.db"
    left = sqlite3.connect(f"file:{play.folder / name}?mode=ro", uri=True)
    with closing(left) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    assert list(play.search().database(copy)) == []
    planted = set()
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA synchronous = OFF")
        for table, column in columns(connection):
            plant = f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = (SELECT min(rowid) FROM "{table}")'
            try:
                changed = connection.execute(plant, (f"x{play.canary}x",)).rowcount
            except sqlite3.IntegrityError:  # a number that is the key of its table: it can hold nothing else
                continue
            planted |= {f"copy.db: {table}.{column}"} if changed else set()
    assert len(planted) > 30
    assert {hit.place for hit in play.search().database(copy)} == planted


# -- everything else --------------------------------------------------------------------------


def test_no_secret_stands_in_the_journal(hits: list[Hit]):
    assert under(hits, "house/journal.db") == []


def test_no_secret_stands_in_a_log_or_in_what_a_process_wrote(hits: list[Hit]):
    assert under(hits, "logs/") == []


def test_no_secret_stands_in_the_store_unsealed_or_in_a_mailbox_or_anywhere_else_around_the_inventory(
    play: Play, hits: list[Hit]
):
    assert list((play.house.folder / "mailbox").rglob("ack*"))
    assert list((play.house.folder / "secrets").rglob("slots.json"))
    assert list((play.house.folder / "secrets").rglob("*.age"))
    assert play.house.command_saw.exists()
    assert under(hits, "house/") == []


def test_no_secret_stands_anywhere_at_all(hits: list[Hit]):
    assert hits == []


def test_no_notice_to_a_webhook_holds_a_secret(play: Play):
    assert len(play.street.notices) > 3
    assert play.found_in(("notice", notice) for notice in play.street.notices) == []


@_PROC
@pytest.mark.parametrize("what", ["cmdline", "environ"])
def test_no_process_was_given_a_secret_in_its_arguments_or_its_environment(play: Play, what: str):
    seen = list(play.sampler.blobs(what))
    if what == "cmdline":
        for part in (b"flows.prefect_server", b"flows.serve", b"prefect.engine", b"canary.launch\0rotate"):
            assert any(part in data for _, data in seen), part
    # The login of Prefect reaches its own processes by their environment, which their user alone reads.
    given = {LOGIN} if what == "environ" else set()
    assert [hit for hit in play.found_in(iter(seen)) if hit.form.partition(":")[0] not in given] == []


def test_no_command_tells_a_secret_when_it_fails(play: Play, hits: list[Hit]):
    said = play.said("commands")
    assert "TRACEBACK" not in said
    assert said.count("exit status") == said.count("$ keyturn") > 15
    for kind in ("ccxt refusal", "panic", "chain", "SQL", "group", "unicode", "ccxt network"):
        assert f": {kind}'" in said, kind
    assert under(hits, "logs/commands.") == []


def test_a_bundle_for_a_bots_host_holds_no_secret_but_the_bots_own_identity(play: Play, hits: list[Hit]):
    assert ends_of("client-bundle", play) == ["0"] * len(play.house.bundles)
    assert (play.house.bundles["bot-away"] / "identity.txt").exists()
    for folder in play.house.bundles.values():
        assert (folder / "keyturn-bot.json").exists()
        assert under(hits, str(folder.relative_to(play.folder))) == []


def test_a_confirmation_by_a_persons_word_tells_no_secret(play: Play, hits: list[Hit]):
    assert ends_of("confirm", play) == ["1", "0"], "it failed once, and led to the end of the rotation"
    assert under(hits, "logs/commands.") == []


def test_a_process_that_dies_with_cores_on_leaves_none(play: Play, tmp_path: Path):
    holds = "import os, sys; held = sys.stdin.read(); os.abort()"
    subprocess.run([sys.executable, "-c", holds], input=play.canary, text=True, cwd=tmp_path, check=False)
    if not cores_in(tmp_path):
        pytest.skip(
            "no core lies where a process dies, so none could be missed: see core_pattern, ulimit -H -c"
        )
    assert {tmp_path / hit.place for hit in play.found(tmp_path)} == set(cores_in(tmp_path))
    assert cores_in(play.folder) == []


def test_a_secret_planted_in_any_folder_would_be_found(play: Play, searched: list[Hit]):
    """By the search that the other tests are about."""
    found = {play.folder / Path(hit.place).parent for hit in searched if Path(hit.place).name == _PLANTED}
    assert found == {play.folder, *(path for path in play.folder.rglob("*") if path.is_dir())}
    assert not [hit for hit in play.found(play.folder / "logs") if hit.place.endswith(_PLANTED)]
