"""The search itself: it finds a planted secret in every form and every kind of place, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from .sampler import Sampler
from .scanner import Search, columns, forms

# Obviously no secret, in the shape of the canaries: letters, digits, and a sign that URLs quote.
PLANT = "notAreal+Secret1"
SEARCH = Search({"plant": PLANT})


def found(place: Path) -> set[str]:
    return {hit.form.removeprefix("plant: ") for hit in SEARCH.tree(place)}


@pytest.mark.parametrize("form", forms(PLANT))
def test_a_planted_secret_is_found_in_every_form_and_no_more_once_it_is_gone(form: str, tmp_path: Path):
    file = tmp_path / "some.log"
    file.write_bytes(os.urandom(4096) + b'{"message": "x' + forms(PLANT)[form] + b'y"}\n' * 3)
    assert form in found(tmp_path)
    file.write_bytes(os.urandom(4096))
    assert found(tmp_path) == set()


@pytest.mark.parametrize("begins", ["n", "r"])
def test_what_looks_like_a_line_end_takes_no_part_of_a_secret_away(begins: str):
    plant = begins + PLANT
    for around in (b"%b", b"\\%b", b"\\\r%b", b"\\\n%b\\", b"%b\\n"):
        assert list(Search({"plant": plant}).data("a text", around % plant.encode())), around


@pytest.mark.parametrize("before", range(6))
def test_base64_hides_nothing_wherever_the_secret_begins_and_however_it_is_wrapped(
    before: int, tmp_path: Path
):
    text = b"." * before + PLANT.encode() + b"and more that follows it" * 9
    file = tmp_path / "result.json"
    for encoded in (
        base64.b64encode(text),
        base64.urlsafe_b64encode(text),
        base64.encodebytes(b"." * 40 + text),
    ):
        file.write_text(json.dumps({"result": encoded.decode()}))
        assert any("base64" in form for form in found(tmp_path)), encoded


def test_a_pickled_exception_does_not_hide_it(tmp_path: Path):
    pickled = pickle.dumps(ValueError(f"the secret is {PLANT}"))
    (tmp_path / "result").write_text(json.dumps({"result": base64.encodebytes(pickled).decode()}))
    assert found(tmp_path)
    (tmp_path / "result").write_bytes(gzip.compress(pickled))
    assert found(tmp_path)


def test_every_column_of_every_table_is_searched_the_write_ahead_log_and_long_texts_included(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE one (id INTEGER, name VARCHAR, data JSON)")
        writer.execute("CREATE TABLE two (blob BLOB)")
        # Longer than a page, so that the file holds it in pieces.
        filler = "x" * 4000
        for table, column in columns(writer):
            assert found(tmp_path) == set()
            writer.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (filler + PLANT + filler,))
            places = {hit.place for hit in SEARCH.tree(tmp_path)}
            assert f"some.db: {table}.{column}" in places
            writer.execute(f"DELETE FROM {table}")
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_what_was_deleted_from_a_database_and_still_stands_in_its_file_is_found(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA secure_delete = OFF")
        writer.execute("CREATE TABLE one (name VARCHAR)")
        writer.execute("INSERT INTO one VALUES (?)", (PLANT,))
        writer.execute("DELETE FROM one")
    assert {hit.place for hit in SEARCH.tree(tmp_path)} == {"some.db"}


def test_names_of_files_and_targets_of_links_are_searched(tmp_path: Path):
    (tmp_path / f"rotation-{PLANT}").touch()
    assert found(tmp_path) == {"plain"}
    (tmp_path / f"rotation-{PLANT}").unlink()
    (tmp_path / "link").symlink_to(f"/nowhere/{PLANT}")
    assert found(tmp_path) == {"plain"}


def test_a_needle_that_chance_could_make_is_refused():
    with pytest.raises(ValueError, match="too short"):
        Search({"short": "abc"})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc: run it on Linux")
@pytest.mark.parametrize("what", ["cmdline", "environ"])
def test_arguments_and_environments_of_processes_are_seen(what: str):
    # A grandchild: flow runs are started by a runner that is a child of ours.
    arguments = [PLANT] if what == "cmdline" else []
    inner = [sys.executable, "-c", "print(flush=True); input()", *arguments]
    outer = f"import subprocess, sys; sys.exit(subprocess.call({inner!r}))"
    environ = dict(os.environ) | ({"KEY": PLANT} if what == "environ" else {})
    if what == "cmdline":
        # Only the grandchild shall carry it.
        outer = outer.replace(repr(PLANT), "sys.stdin.readline().strip()")
    with Sampler() as sampler:
        child = subprocess.Popen(
            [sys.executable, "-c", outer],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        if what == "cmdline":
            child.stdin.write(PLANT + "\n")
            child.stdin.flush()
        child.stdout.readline()
        sampler.look()
        child.communicate("\n")
    assert [hit for place, data in sampler.blobs(what) for hit in SEARCH.data(place, data)]
