"""The demo's own judges judge rightly: the search for secrets, the venues' books."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from keyturn.demo.cast import ADDRESS, PARTS
from keyturn.demo.seeds import books_of, known_keys
from keyturn.demo.venue import Books, open_venue
from keyturn.demo.verdict import files_with_a_secret
from keyturn.testing.memory_store import MemoryStore

SECRET = "not/a+real=secret-1"


@pytest.mark.parametrize(
    "planted",
    [
        SECRET.encode(),
        quote(SECRET, safe="").encode(),
        SECRET.encode().hex().encode(),
        base64.b64encode(SECRET.encode()),
        base64.b64encode(b"x" + SECRET.encode()),
        base64.urlsafe_b64encode(b"xy" + SECRET.encode() + b"more"),
    ],
)
def test_a_planted_secret_is_found_in_every_form(tmp_path: Path, planted: bytes) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"before" + planted + b"after")
    (tmp_path / "clean").write_bytes(b"nothing here")
    found = files_with_a_secret(tmp_path, [SECRET], but=[tmp_path / "identity"])
    assert found == [tmp_path / "deep" / "log"]


def test_the_identity_file_alone_may_hold_a_secret(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text(SECRET)
    assert files_with_a_secret(tmp_path, [SECRET], but=[tmp_path / "identity"]) == []


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.exchange)
async def test_a_venue_comes_up_with_the_keys_of_its_books(part) -> None:
    keys = await known_keys(MemoryStore(), part)
    assert keys.manager_is_new
    assert keys.bot_is_new
    sim = open_venue(Books.model_validate(books_of(part, keys, 0)))
    for account, known in ((part.master, keys.manager), (part.owner, keys.bot[0])):
        values = known.material.reveal()
        assert sim.accepts(values["api_key"], values["secret"], values.get("passphrase", ""))
        assert sim.rules_of(values["api_key"]).ips == (ADDRESS,)
        assert values["api_key"] in sim.accounts[account].keys


def test_a_key_keeps_the_number_that_it_had_and_new_ones_take_others() -> None:
    part = next(part for part in PARTS if part.exchange == "deribit")
    key = {"owner": "options", "secret": SECRET, "rights": ["account:read"], "addresses": []}
    numbers = {"manager": None, "newest": 1_790_000_000, "older": 1_700_000_000}
    sim = open_venue(
        Books.model_validate(
            {
                "exchange": part.exchange,
                "port": 0,
                "accounts": [{"name": "options"}],
                "keys": [{**key, "key_ref": ref, "number": number} for ref, number in numbers.items()],
            }
        )
    )
    made = {key.ref: key.number for key in sim.accounts["options"].keys.values()}
    assert made == {"manager": 1, "older": 1_700_000_000, "newest": 1_790_000_000}
    assert sim.accounts["options"].next_number > max(made.values())
