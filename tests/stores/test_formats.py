"""Formats: what is written is what the bot reads, held against the real readers where they are at hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from keyturn.domain import dotenv
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import FormatEntry, Inventory
from keyturn.domain.material import SecretMaterial
from keyturn.stores.formats import FIELDS, HUMMINGBOT, Format, Formats, UncarriedError, format_of, formats_of

NESTED = FormatEntry(kind="json", fields={"api_key": "exchange.id", "secret": "exchange.hush"})
ENV = FormatEntry(kind="env", fields={"api_key": "BOT_KEY", "secret": "BOT_SECRET", "passphrase": "BOT_PASS"})
FREQTRADE = FormatEntry(kind="freqtrade")
FREQTRADE_ENV = FormatEntry(
    kind="env",
    fields={
        "api_key": "FREQTRADE__EXCHANGE__KEY",
        "secret": "FREQTRADE__EXCHANGE__SECRET",
        "passphrase": "FREQTRADE__EXCHANGE__PASSWORD",
    },
)
OKX = FormatEntry(kind="hummingbot", connector="okx_perpetual")
ALL = [NESTED, ENV, FREQTRADE, FREQTRADE_ENV, OKX]

KEY = SecretMaterial("key-1", "not-a-real-secret-1")
PEM = "-----BEGIN PRIVATE KEY-----\nbm90LWEtcmVhbC1rZXk=\n-----END PRIVATE KEY-----\n"
values = st.one_of(
    st.text(min_size=1),
    st.text("0123456789abcdefABCDEF", min_size=1, max_size=32),
    st.text("0123456789eE.+-_", min_size=1, max_size=24),
    st.text("\n'\"$`\\{}#= abc1!", min_size=1, max_size=24),
)


def named(entry: FormatEntry) -> str:
    return entry.kind if entry is not FREQTRADE_ENV else "freqtrade env"


@pytest.mark.parametrize("entry", ALL, ids=named)
@given(key=values, secret=values, passphrase=st.none() | values)
def test_a_key_is_read_back_unchanged_or_refused_without_its_value(
    entry: FormatEntry, key: str, secret: str, passphrase: str | None
) -> None:
    form, material = format_of(entry), SecretMaterial(key, secret, passphrase)
    problem = ""
    try:
        form.check(material)
    except UncarriedError as error:
        problem = str(error)
    if not problem:
        assert form.parse(json.loads(json.dumps(form.place({"note": "kept"}, material)))) == material
    # Short values may be part of any sentence.
    assert not [v for v in (key, secret, passphrase) if v and len(v) > 11 and v in problem]


def by_freqtrade(text: str) -> object:
    """What freqtrade makes of a variable's text; its own rule, in the order in which it tries."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text.lower() in {"t", "true"}:
        return True
    return False if text.lower() in {"f", "false"} else text


@given(secret=values)
def test_a_secret_that_freqtrade_would_take_for_a_number_is_refused(secret: str) -> None:
    try:
        format_of(FREQTRADE_ENV).check(SecretMaterial("key-1", secret))
    except UncarriedError:
        return
    assert by_freqtrade(secret) == secret


@pytest.mark.parametrize("secret", ["12e4", "650123", "1_000", "infinity", "NaN", "True", "f", "[1]"])
def test_what_freqtrade_misreads_is_named_and_not_quoted(secret: str) -> None:
    formats = Formats({"bots/mm": format_of(FREQTRADE_ENV)})
    with pytest.raises(StoreError) as caught:
        formats.check("bots/mm", SecretMaterial("key-1", secret))
    assert caught.value.fault is StoreFault.UNFIT
    assert "FREQTRADE__EXCHANGE__SECRET" in caught.value.what
    assert len(secret) == 1 or secret not in caught.value.diagnostics()
    format_of(ENV).check(SecretMaterial("key-1", secret))
    format_of(FREQTRADE).check(SecretMaterial("key-1", secret))


def test_freqtrade_takes_a_password_as_it_is() -> None:
    format_of(FREQTRADE_ENV).check(SecretMaterial("key-1", "not-a-real-secret-1", "12e4"))


@given(st.dictionaries(st.from_regex(r"\A[A-Z][A-Z_]{0,8}\Z"), values, min_size=1, max_size=3))
def test_python_dotenv_reads_what_is_written(written: dict[str, str]) -> None:
    from io import StringIO

    try:
        text = dotenv.lines(written)
    except ValueError:
        return
    assert dict(dotenv_values(stream=StringIO(text))) == written
    assert dotenv.parse(text) == written


@pytest.mark.parametrize(
    "secret", ["plain+/=1", "it's", 'a "quote"', "a # b", "two\nlines", PEM, "$HOME", "a b"]
)
def test_a_shell_reads_what_is_written(tmp_path: Path, secret: str) -> None:
    try:
        text = format_of(ENV).render(SecretMaterial("key-1", secret))["env"]
    except UncarriedError:
        assert "$" in secret
        return
    (tmp_path / ".env").write_text(text)
    shown = subprocess.run(
        ["sh", "-c", '. ./.env; printf "%s|" "$BOT_SECRET"'], cwd=tmp_path, capture_output=True, check=True
    )
    assert shown.stdout.decode() == f"{secret}|"


def test_an_env_file_written_by_a_person_is_read() -> None:
    text = "# mine\n\nexport BOT_KEY='key-1'\nBOT_SECRET=\"not-a-real-secret-1\"\n"
    assert format_of(ENV).parse({"env": text}) == KEY


def test_each_format_has_the_shape_that_its_bot_documents() -> None:
    full = SecretMaterial("k", "s", "p")
    assert format_of(FREQTRADE).render(full) == {"exchange": {"key": "k", "secret": "s", "password": "p"}}
    assert format_of(OKX).render(full) == {
        "connector": "okx_perpetual",
        "okx_perpetual_api_key": "k",
        "okx_perpetual_secret_key": "s",
        "okx_perpetual_passphrase": "p",
    }
    assert format_of(NESTED).render(SecretMaterial("k", "s")) == {"exchange": {"id": "k", "hush": "s"}}
    assert format_of(ENV).render(full) == {"env": "BOT_KEY=k\nBOT_SECRET=s\nBOT_PASS=p\n"}
    assert FIELDS.render(full) == {"api_key": "k", "secret": "s", "passphrase": "p"}


def test_fields_beside_the_key_stay_and_older_names_of_the_key_go() -> None:
    there = {"exchange": {"name": "bybit", "apiKey": "older", "key": "old"}, "stake_currency": "USDT"}
    assert format_of(FREQTRADE).place(there, KEY) == {
        "exchange": {"name": "bybit", "key": "key-1", "secret": "not-a-real-secret-1"},
        "stake_currency": "USDT",
    }


def test_a_name_that_freqtrade_prefers_is_seen_as_it_sees_it() -> None:
    document = format_of(FREQTRADE).render(KEY)
    document["exchange"]["api_key"] = "other"
    assert format_of(FREQTRADE).parse(document).key_ref == "other"


@pytest.mark.parametrize("entry", [*ALL, FormatEntry(kind="field")], ids=named)
def test_a_format_is_described_beside_its_document(entry: FormatEntry) -> None:
    form = format_of(entry)
    described: Any = json.loads(json.dumps(form.to_json()))
    assert Format.from_json(described) == form


def test_every_connector_of_the_inventory_has_its_names() -> None:
    chosen = FormatEntry.model_json_schema()["properties"]["connector"]["anyOf"][0]["enum"]
    assert set(chosen) == set(HUMMINGBOT)


def test_a_key_must_also_fit_the_mirrors_that_follow() -> None:
    inventory = Inventory.model_validate(
        {
            "version": 1,
            "stores": {n: {"kind": "age_files", "path": n, "key": {"env": "K"}} for n in ("a", "b")},
            "accounts": {"main": {"exchange": "bybit", "manager": {"store": "a", "path": "managers/m"}}},
            "credentials": {
                "mm": {
                    "account": "main",
                    "permissions": ["read"],
                    "path": "bots/mm",
                    "store": "a",
                    "mirrors": [{"store": "b", "path": "ft/mm", "format": FREQTRADE_ENV.model_dump()}],
                }
            },
        }
    )
    unlucky = SecretMaterial("key-1", "12e4")
    with pytest.raises(StoreError):
        formats_of(inventory, "a").check("bots/mm", unlucky)
    with pytest.raises(StoreError):
        formats_of(inventory, "b").check("ft/mm", unlucky)
    formats_of(inventory, "b").check("bots/other", unlucky)


def of_a_file(**file: Any) -> Formats:
    return formats_of(
        Inventory.model_validate(
            {
                "version": 1,
                "stores": {"a": {"kind": "age_files", "path": "a", "key": {"env": "K"}}},
                "accounts": {"main": {"exchange": "bybit", "manager": {"store": "a", "path": "managers/m"}}},
                "consumers": {"bot": {"kind": "file", "path": "bot.file", **file}},
                "credentials": {
                    "mm": {
                        "account": "main",
                        "permissions": ["read"],
                        "path": "bots/mm",
                        "store": "a",
                        "consumers": ["bot"],
                    }
                },
            }
        ),
        "a",
    )


@pytest.mark.parametrize(
    ("file", "unlucky"),
    [
        ({"format": "env", "fields": FREQTRADE_ENV.fields}, SecretMaterial("key-1", "12e4")),
        ({"format": "env"}, SecretMaterial("key-1", "not-a-real\\secret")),
        ({"format": "freqtrade"}, SecretMaterial("key-1", "not-a-real-secret", extra={"tag": "mm"})),
        ({"fields": {"api_key": "key", "apiSecret": "secret"}}, KEY),
    ],
    ids=["a number for freqtrade", "no env file carries it", "freqtrade has no place", "no such field"],
)
def test_a_key_that_the_file_of_a_consumer_cannot_carry_is_refused_before_the_promotion(
    file: dict[str, Any], unlucky: SecretMaterial
) -> None:
    with pytest.raises(StoreError) as caught:
        of_a_file(**file).check("bots/mm", unlucky)
    assert caught.value.fault is StoreFault.UNFIT
    assert "the file of bot" in caught.value.what
    assert not [v for v in (unlucky.reveal()["secret"], "12e4") if v in caught.value.diagnostics()]


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"format": "freqtrade"},
        {"format": "env", "fields": {"api_key": "FREQTRADE__EXCHANGE__KEY", "fingerprint": "PRINT"}},
    ],
    ids=["json", "freqtrade", "a part of the key in an env file"],
)
def test_a_file_asks_no_more_of_a_key_than_it_holds(file: dict[str, Any]) -> None:
    of_a_file(**file).check("bots/mm", SecretMaterial("key-1", "12e4", "not-a\\pass"))


@pytest.mark.parametrize(
    "text",
    [
        "A=1",
        "A=1\r\nBOT_KEY=x\r\n",
        "BOT_KEY = x\nA='two\nlines'\n",
        'BOT_KEY="x" y\nexport BOT_SECRET=y\nA=1\n',
        "BOT_KEY=x\n'BOT_KEY'=y\n# BOT_KEYS\n",
        "BOT_KEYS=1\nMY_BOT_KEY=2\n",
    ],
)
def test_the_other_lines_of_an_env_are_kept_for_every_reader(text: str) -> None:
    from io import StringIO

    placed = format_of(ENV).place({"env": text}, KEY)["env"]
    was, now = dict(dotenv_values(stream=StringIO(text))), dict(dotenv_values(stream=StringIO(placed)))
    ours = {"BOT_KEY": "key-1", "BOT_SECRET": "not-a-real-secret-1"}
    assert now == {**{k: v for k, v in was.items() if k not in ours}, **ours}
    assert format_of(ENV).place({"env": placed}, KEY)["env"] == placed


@pytest.mark.parametrize("env", ["A='never closed\n", 7, {"A": "1"}])
def test_an_env_that_would_hide_the_key_is_refused(env: object) -> None:
    material = SecretMaterial("it needs", "quotes, both")
    with pytest.raises(UncarriedError) as caught:
        format_of(ENV).place({"env": env}, material)
    assert "never" not in str(caught.value)


@given(st.text("AB_KEOTY=\n'\" #exp", max_size=60))
def test_a_key_among_any_lines_is_read_back_or_refused(text: str) -> None:
    form = format_of(ENV)
    try:
        placed = form.place({"env": text}, KEY)
    except UncarriedError:
        return
    assert form.parse(placed) == KEY
