"""The inventory as a file: where it is found, what cannot be read, and the example with its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory_schema import schema
from keyturn.domain.inventory_yaml import read
from keyturn.exchanges.catalog import manifests
from keyturn.settings import find_inventory, load_inventory

from .inventory_sample import GOOD

EXAMPLE = Path(__file__).parents[2] / "keyturn.example.yaml"


def test_the_example_keeps_every_rule_and_has_nothing_to_warn_of() -> None:
    loaded = load_inventory(EXAMPLE, manifests=manifests())
    assert loaded.warnings == ()
    assert len(loaded.inventory.credentials) == 3


def test_the_example_fits_the_schema_for_editors() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    data = read(EXAMPLE.read_text()).data
    assert list(validator.iter_errors(data)) == []
    data["credentials"]["mm-bybit"]["pemissions"] = ["read"]
    data["policies"]["standard"]["rotate_every"] = 60
    data["stores"]["vault"]["key"] = {}
    assert len(list(validator.iter_errors(data))) == 3


def test_the_schema_tells_an_editor_what_each_field_is_for() -> None:
    whole = schema()
    parts = [whole, *(part for name, part in whole["$defs"].items())]
    for part in parts:
        for name, field in part.get("properties", {}).items():
            if name not in {"kind", "method", "mount", "timeout", "format"}:
                assert "$ref" in field or field.get("description"), (part["title"], name)
    assert "PT" not in json.dumps(whole)


def test_the_inventory_is_found_by_argument_then_variable_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_inventory("a.yaml", environ={"KEYTURN_INVENTORY": "b.yaml"}) == tmp_path / "a.yaml"
    assert find_inventory(environ={"KEYTURN_INVENTORY": "b.yaml"}) == tmp_path / "b.yaml"
    assert find_inventory(environ={}) == tmp_path / "keyturn.yaml"


FILE = "{kind: file, path: run/bot.json}"


@pytest.mark.parametrize("spelled", ["{here}/secrets", "link", "{here}/link/../secrets"])
def test_one_folder_spelled_in_two_ways_is_one_place(tmp_path: Path, spelled: str) -> None:
    (tmp_path / "link").symlink_to("secrets")
    spelled = spelled.format(here=tmp_path)
    second = f"  two: {{kind: age_files, path: {spelled}, key: {{file: age.txt}}}}\naccounts:"
    text = GOOD.replace("accounts:", second)
    with pytest.raises(InventoryError) as caught:
        _load(tmp_path, text)
    assert "stores.two.path: vault has this folder" in caught.value.problems[0]
    _load(tmp_path, text.replace(spelled, f"{tmp_path}/others"))


@pytest.mark.parametrize("spelled", ["{here}/run", "link/run"])
def test_one_path_in_a_folder_within_a_folder_is_one_place(tmp_path: Path, spelled: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    second = "  two: {kind: age_files, path: %s/bots, key: {file: age.txt}}\naccounts:"
    other = "  b: {account: main, permissions: [read], ip_allowlist: [203.0.113.7], store: two, path: mm}"
    text = GOOD.replace("\nconsumers:", f"\n{other}\nconsumers:").replace("path: secrets", "path: run")
    with pytest.raises(InventoryError) as caught:
        _load(tmp_path, text.replace("accounts:", second % spelled.format(here=tmp_path)))
    (problem,) = caught.value.problems
    assert "credentials.b.path: the key of mm is there" in problem
    _load(tmp_path, text.replace("accounts:", second % "elsewhere"))


@pytest.mark.parametrize("spelled", ["{here}/run/bot.json", "link/bot.json", "bot.json"])
def test_one_rendered_file_spelled_in_two_ways_is_one_file(tmp_path: Path, spelled: str) -> None:
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "bot.json").symlink_to("run/bot.json")
    other = f"\n  other: {{kind: file, path: {spelled.format(here=tmp_path)}}}"
    with pytest.raises(InventoryError) as caught:
        _load(tmp_path, GOOD.replace("{kind: client}", FILE + other))
    (problem,) = caught.value.problems
    assert "consumers.other.path: bot writes this file" in problem
    _load(tmp_path, GOOD.replace("{kind: client}", FILE + other.replace(".json", ".env")))


def _load(folder: Path, text: str) -> None:
    path = folder / "keyturn.yaml"
    path.write_text(text.replace("exchange: open", "exchange: deribit"))
    load_inventory(path, manifests=manifests())


def test_relative_paths_start_at_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "keyturn.yaml").write_text(
        "\ufeff"
        + GOOD.replace("exchange: open", "exchange: bybit").replace(
            "account: main", "account: main\n    subaccount: '1'"
        )
    )
    loaded = load_inventory(tmp_path / "keyturn.yaml", manifests=manifests())
    assert loaded.base == tmp_path
    assert loaded.resolve("secrets") == tmp_path / "secrets"
    assert loaded.resolve("/srv/secrets") == Path("/srv/secrets")  # fmt: skip


def _unreadable(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    made = {name: tmp_path / name for name in ("missing", "folder", "binary", "huge", "device")}
    made["folder"].mkdir()
    made["binary"].write_bytes(b"version: 1\nname: \xff\xfe\n")
    with made["huge"].open("wb") as file:
        file.truncate(10_000_001)
    made["device"] = Path("/dev/null")
    words = (
        "there is no inventory",
        "is a folder",
        "2: not UTF-8",
        "is larger than 10 MB",
        "not a regular file",
    )
    found = {name: (path, word) for (name, path), word in zip(made.items(), words, strict=True)}
    return {
        **found,
        "nul": (tmp_path / "a\0b", "cannot be read"),
        "long": (tmp_path / ("x" * 5000), "cannot be read"),
    }


@pytest.mark.parametrize("case", ["missing", "folder", "binary", "huge", "device", "nul", "long"])
def test_a_file_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path, case: str) -> None:
    path, words = _unreadable(tmp_path)[case]
    with pytest.raises(InventoryError) as caught:
        load_inventory(path, manifests={}, environ={})
    assert words in caught.value.what
    assert caught.value.todo
