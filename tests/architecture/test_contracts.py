"""The contracts on imports prove what they say: each is broken by an import that it forbids."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import configuration
from importlinter.application import use_cases
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import registry

ROOT = Path(__file__).parents[2]

#: For each contract: an import that it must not let pass, as (file, statement, module that is imported).
PLANTS = [
    ("Layers", "keyturn.stores.keys", "import keyturn.engine.engine", "keyturn.engine.engine"),
    ("The engine", "keyturn.engine.sweep", "import keyturn.journal.sql", "keyturn.journal.sql"),
    ("Layers", "keyturn.journal.sql", "import keyturn.stores.keys", "keyturn.stores.keys"),
    ("Layers", "keyturn.stores.keys", "import keyturn.client.mailbox", "keyturn.client.mailbox"),
    ("Layers", "keyturn.cli.plan", "import keyturn.testing.crash", "keyturn.testing.crash"),
    ("Layers", "keyturn.cli.plan", "import keyturn.simulator.core", "keyturn.simulator.core"),
    ("Layers", "tasks.world", "import flows.rotate", "flows.rotate"),
    ("The journal", "keyturn.consumers.file", "import keyturn.journal.sql", "keyturn.journal.sql"),
    ("The journal", "keyturn.stores.keys", "import sqlalchemy", "sqlalchemy"),
    ("Prefect", "keyturn.cli.plan", "import prefect", "prefect"),
    ("The domain", "keyturn.domain.slots", "import socket", "socket"),
    ("The domain", "keyturn.domain.slots", "import hvac", "hvac"),
    ("The domain", "keyturn.domain.slots", "from urllib.request import urlopen", "urllib"),
    ("The domain", "keyturn.domain.slots", "import os", "os"),
    ("The ports", "keyturn.ports.store", "import boto3", "boto3"),
    ("The ports", "keyturn.ports.store", "import pathlib", "pathlib"),
    ("The engine", "keyturn.engine.world", "import boto3", "boto3"),
    ("The engine", "keyturn.engine.world", "import subprocess", "subprocess"),
    ("The engine", "keyturn.engine.world", "import keyturn.files", "keyturn.files"),
    ("The simulator", "keyturn.simulator.core", "import keyturn.domain.keys", "keyturn.domain.keys"),
    ("The simulator", "keyturn.simulator.core", "import ccxt", "ccxt"),
    ("A bot's library", "keyturn.client.watcher", "import typer", "typer"),
    ("A bot's library", "keyturn.client.watcher", "import keyturn.settings", "keyturn.settings"),
    ("What a bot loads", "keyturn.stores.keys", "import sqlalchemy", "sqlalchemy"),
    ("A venue", "keyturn.exchanges.okx.driver", "import keyturn.exchanges.bybit", "keyturn.exchanges.bybit"),
    ("A venue", "keyturn.exchanges.catalog", "import keyturn.exchanges.okx", "keyturn.exchanges.okx"),
    ("A venue", "keyturn.cli.put", "import keyturn.exchanges.okx.driver", "keyturn.exchanges.okx.driver"),
]


@pytest.fixture(scope="module")
def options() -> Any:
    configuration.configure()
    read = use_cases.read_user_options(config_filename=str(ROOT / "pyproject.toml"))
    use_cases._register_contract_types(read)
    return read


@pytest.fixture(scope="module")
def graph(options: Any) -> grimp.ImportGraph:
    packages = options.session_options["root_packages"]
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


def contract_of(options: Any, start: str) -> Any:
    (found,) = [each for each in options.contracts_options if each["name"].startswith(start)]
    return registry.get_contract_class(found["type"])(found["name"], options.session_options, found)


def test_every_contract_is_kept(options: Any, graph: grimp.ImportGraph) -> None:
    for each in options.contracts_options:
        assert contract_of(options, each["name"]).check(deepcopy(graph), verbose=False).kept, each["name"]


@pytest.mark.parametrize(("contract", "importer", "statement", "imported"), PLANTS)
def test_a_forbidden_import_breaks_its_contract(
    options: Any, graph: grimp.ImportGraph, contract: str, importer: str, statement: str, imported: str
) -> None:
    planted = deepcopy(graph)
    if imported not in planted.modules:
        planted.add_module(imported, is_squashed=True)
    planted.add_import(importer=importer, imported=imported, line_number=1, line_contents=statement)
    assert not contract_of(options, contract).check(planted, verbose=False).kept


def test_every_contract_has_an_import_that_breaks_it(options: Any) -> None:
    tried = {contract_of(options, contract).name for contract, *_ in PLANTS}
    assert tried == {each["name"] for each in options.contracts_options}


def test_every_package_and_module_has_its_layer(options: Any, graph: grimp.ImportGraph) -> None:
    """What stands in no layer could import anything, and anything could import it."""
    layers = contract_of(options, "Layers")
    assert isinstance(layers, LayersContract)
    named = {tail.name for layer in layers.layers for tail in layer.module_tails}
    assert graph.find_children("keyturn") <= named
    assert named <= {*graph.find_children("keyturn"), "flows", "tasks"}


def test_the_linter_reads_what_is_planted_in_a_file(tmp_path: Path) -> None:
    """As `make lint` runs it, over a copy."""
    for each in ("src", "flows", "tasks", "tests/architecture"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / each, tmp_path / each, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "keyturn" / "domain" / "slots.py").open("a") as file:
        file.write("\nimport socket\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "keyturn.domain.slots imports socket" in done.stdout
    assert done.stdout.count("BROKEN") == 1, done.stdout
