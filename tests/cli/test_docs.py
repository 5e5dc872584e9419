"""docs/cli.md is true: its exit codes, its commands, its examples, the shapes of its documents."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.app import COMMANDS, build
from keyturn.cli.codes import MEANING
from tests.cli.processes import Result

from .conftest import CREDENTIAL, Home, Run, Venue, key_document

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = PAGE.read_text()
_WHY = ("--reason", "quarterly rotation")


def _section(name: str) -> str:
    match = re.search(rf"^### {name}\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, name
    return match[1]


def _documented(text: str) -> Any:
    match = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert match
    return json.loads(match[1])


def _same_fields(documented: Any, real: Any, place: str = "") -> None:
    """Compare names of fields, as deep as both sides show them."""
    if isinstance(documented, dict) and isinstance(real, dict):
        assert set(documented) == set(real), place
        for name in documented:
            _same_fields(documented[name], real[name], f"{place}.{name}")
    elif isinstance(documented, list) and isinstance(real, list) and documented and real:
        _same_fields(documented[0], real[0], f"{place}[0]")


def test_the_table_of_exit_codes_is_the_one_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == {
        int(code): text for code, text in MEANING.items()
    }


def test_every_command_has_its_section() -> None:
    headings = {name for line in re.findall(r"^### (.+)$", TEXT, re.MULTILINE) for name in line.split(", ")}
    assert headings == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_json(cli: Run, name: str) -> None:
    text = cli(*name.split(), "--help").ok().out
    assert "--json" in text
    assert f"Usage: keyturn {name}" in text


def test_help_lists_every_command_with_a_sentence(cli: Run) -> None:
    text = cli("--help").ok().out
    firsts = {name.split()[0] for name in COMMANDS}
    assert all(re.search(rf"^\W*{name}\s+[A-Z]", text, re.MULTILINE) for name in firsts)
    assert re.match(r"keyturn \d+\.\d+", cli("--version").ok().out)


def test_calling_nothing_shows_the_help(cli: Run) -> None:
    result = cli()
    assert result.code != 0
    assert "Usage: keyturn" in result.out + result.err


def test_every_command_can_be_built() -> None:
    app = build(list(COMMANDS))
    groups = [group.typer_instance for group in app.registered_groups]
    assert sum(len(each.registered_commands) for each in [app, *groups]) == len(COMMANDS)


# What a shell finds as `keyturn`: it gives the arguments and stdin to the test, and ends as the test says.
_KEYTURN = """\
#!/bin/sh
printf '%s\\0' "$@" > "$CALLS/arguments"
cat > "$CALLS/stdin"
. "$CALLS/ending"
"""


@pytest.fixture
def shell(tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Result]:
    """Run a line of a shell in a folder, of which each `keyturn` is called in this process."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "keyturn").write_text(_KEYTURN)
    (folder / "keyturn").chmod(0o700)
    for name in ("arguments", "stdin", "ending"):
        os.mkfifo(folder / name)

    def run(line: str, cwd: Path) -> Result:
        monkeypatch.chdir(cwd)
        with subprocess.Popen(
            ["/bin/sh", "-c", line],
            env={"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            arguments = (folder / "arguments").read_text().split("\0")[:-1]
            ended = cli(*arguments, stdin=(folder / "stdin").read_text())
            said = f"printf %s {shlex.quote(ended.out)}; printf %s {shlex.quote(ended.err)} >&2"
            (folder / "ending").write_text(f"{said}; exit {ended.code}")
            shown, _ = running.communicate(timeout=60)
        # A pipeline ends as its last command does.
        return Result(ended.code or running.returncode, shown, ended.err)

    return run


def test_every_example_runs(
    home: Home, venue: Venue, shell: Callable[[str, Path], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    home.edit("grace: 24h", "grace: 0s")
    here = home.folder / "elsewhere"
    here.mkdir()
    (here / "manager.json").write_text(key_document(venue.manager))
    (here / "bot.json").write_text(key_document(venue.bot))
    monkeypatch.setenv("KEYTURN_INVENTORY", str(home.inventory))
    examples = re.findall(r"^\$ (keyturn .+)$", TEXT, re.MULTILINE)
    assert len(examples) > 15
    for example in examples:
        result = shell(example, here)
        assert result.code == 0, (example, result)


def test_the_documents_have_the_documented_fields(live: Home, tmp_path: Path) -> None:
    made = live.cli("init", tmp_path / "desk", "--json").ok().document
    _same_fields(_documented(_section("init")), made)
    for command, *arguments in (
        ("check",), ("doctor",), ("adopt", CREDENTIAL), ("plan",), ("verify-journal",),
        ("rotate", CREDENTIAL, *_WHY), ("status",), ("history", CREDENTIAL), ("sweep",),
    ):  # fmt: skip
        _same_fields(_documented(_section(command)), live.json(command, *arguments), command)


def test_put_has_the_documented_fields(home: Home, venue: Venue) -> None:
    home.edit("http://127.0.0.1:9", venue.sim.base_url)
    document = home.json("put", CREDENTIAL, stdin=key_document(venue.bot))
    _same_fields(_documented(_section("put")), document)


def test_errors_have_the_documented_fields(home: Home) -> None:
    documented = _documented(TEXT[TEXT.index("## Errors as documents") :])
    _same_fields(documented, home.json("status", "nobody"))


def test_events_and_outcomes_have_the_documented_fields(live: Home, venue: Venue) -> None:
    venue.stop()
    live.run("rotate", CREDENTIAL, *_WHY, "--no-wait")
    event = live.json("history", CREDENTIAL)["story"]["events"][0]
    assert set(event) == {"number", "seq", "type", "at", "actor", "note", "data"}
    assert all(f"`{name}`" in _section("history") for name in event)
