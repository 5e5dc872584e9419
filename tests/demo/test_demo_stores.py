"""The demo on the stores that are servers: the same play, the same verdict, and a clear word without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.demo import __main__ as program
from keyturn.demo.house import AGE, IDENTITY, STORE, House

KEYTURN = Path(sys.executable).parent / "keyturn"
# On an idle machine such a demo takes half a minute; this is for one that is shared.
LONG = 400
VAULT_IS_HERE = bool(
    shutil.which("bao")
    or shutil.which("vault")
    or (os.environ.get("VAULT_ADDR") and os.environ.get("VAULT_TOKEN"))
)
vault = pytest.param(
    "vault",
    marks=pytest.mark.skipif(
        not VAULT_IS_HERE,
        reason="no Vault here: put `bao` or `vault` on the PATH, or set VAULT_ADDR and VAULT_TOKEN",
    ),
)


@pytest.fixture
def home(tmp_path: Path) -> House:
    home = House(tmp_path / "demo")
    home.settle()
    return home


def leave_an_age_demo(home: House) -> None:
    home.furnish(AGE)
    (home.folder / STORE).mkdir()
    (home.folder / STORE / "mm-bybit.age").write_text("sealed")
    (home.folder / "keyturn-journal.db").write_text("events of keys that another store had")


@pytest.mark.slow
@pytest.mark.timeout(LONG + 120)
@pytest.mark.parametrize("store", [vault, "aws"])
def test_bots_lose_no_call_on_a_store_that_is_a_server(
    store: str, home: House, furnish_prefect: Callable[[Path], None], product: bool
) -> None:
    if not product:
        pytest.skip("the demo on every store: make product")
    furnish_prefect(home.private / "prefect")
    # What was left by a demo on another store must not be in the way, nor stay in the journal.
    leave_an_age_demo(home)
    done = subprocess.run(
        [sys.executable, "-m", "keyturn.demo", "--store", store],
        cwd=home.folder.parent,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this one begins anew, with new keys" in done.stdout
    assert "every line holds: three keys turned, no call refused, every old key dead" in done.stdout
    assert f"no secret stands outside the {store} store" in done.stdout
    assert "the next one begins anew" in done.stdout
    assert not (home.folder / STORE).exists()
    assert not (home.folder / IDENTITY).exists()

    status = json.loads(keyturn(home, "status", "--json"))
    assert [line["credential"] for line in status["credentials"]] == ["mm-bybit", "arb-okx", "vol-deribit"]
    assert "minted" in keyturn(home, "history", "mm-bybit")
    assert "The journal is whole" in keyturn(home, "verify-journal")


def keyturn(home: House, *arguments: str) -> str:
    done = subprocess.run([KEYTURN, *arguments], cwd=home.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_vault_the_demo_says_how_to_have_one_and_takes_nothing_away(
    home: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_an_age_demo(home)
    monkeypatch.setenv("PATH", str(home.private))
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    assert program.main(["--folder", str(home.folder), "--store", "vault"]) == 2
    said = capsys.readouterr().out
    assert "Put `bao`" in said
    assert "VAULT_ADDR and VAULT_TOKEN" in said
    assert (home.folder / IDENTITY).exists()
    assert (home.folder / STORE / "mm-bybit.age").exists()


def test_without_moto_the_demo_says_how_to_have_it(
    home: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("keyturn.demo.places.find_spec", lambda name: None)
    assert program.main(["--folder", str(home.folder), "--store", "aws"]) == 2
    assert "moto is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "now", "cleared"),
    [(AGE, AGE, False), (AGE, "vault", True), ("vault", "vault", True), ("aws", AGE, True)],
)
def test_a_journal_is_kept_only_where_its_keys_are_kept(
    home: House, before: str, now: str, cleared: bool
) -> None:
    home.furnish(before)
    journal = home.folder / "keyturn-journal.db"
    journal.write_text("events")
    assert home.furnish(now) is cleared
    assert journal.exists() is not cleared
    assert (home.folder / IDENTITY).exists() is (now == AGE)
