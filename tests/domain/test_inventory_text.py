"""Reading an inventory: every problem at once, each with its place; nothing secret in any message."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory_schema import schema
from keyturn.domain.inventory_text import parse_inventory
from keyturn.domain.inventory_yaml import read
from keyturn.exchanges.catalog import manifests
from keyturn.settings import find_inventory, load_inventory

Try = Callable[[str], Any]
TryWith = Callable[[dict[str, Any]], Any]
EXAMPLE = Path(__file__).parents[2] / "keyturn.example.yaml"
FAKE = "not-a-real-secret-1"

GOOD = """\
version: 1
stores:
  vault: {kind: age_files, path: secrets, key: {file: age.txt}}
accounts:
  main: {exchange: open, manager: {store: vault, path: managers/main}}
credentials:
  mm:
    account: main
    permissions: [read]
    ip_allowlist: [203.0.113.7]
    store: vault
    path: bots/mm
    consumers: [bot]
consumers:
  bot: {kind: client}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "keyturn.yaml:1: the file is empty"),
        ("# only a comment\n", "keyturn.yaml:1: the file is empty"),
        ("- a\n- b\n", "keyturn.yaml:1: the file does not begin with a field"),
        ("just words", "keyturn.yaml:1: the file does not begin with a field"),
        ("version: 1\nstores:\n\tvault: 1\n", "keyturn.yaml:3: a tab in the indentation; write spaces"),
        ("version: 1\n---\nversion: 1\n", "keyturn.yaml:2: a second document begins here"),
        ("a: &x {b: *x}\n", "keyturn.yaml:1: a.b: an alias that contains itself"),
        ("a:\n  - &x [1, *x]\n", "keyturn.yaml:2: a[0][1]: an alias that contains itself"),
        ("a: 1\nb: *nowhere\n", "keyturn.yaml:2: b: an alias without its anchor"),
        ("a: !!python/object/apply:os.system [id]\n", "keyturn.yaml:1: a: a tag is not understood here"),
        ("version: 1\n<<: {version: 2}\n", "keyturn.yaml:2: <<: merge keys"),
        ("? [a, b]\n: c\n", "keyturn.yaml:1: a name must be plain text"),
        ("version: 1\na: 'open\n", "a quote or bracket is not closed"),
        ("a: [1, 2\nb: 3\n", "a quote or bracket is not closed"),
        ("a: b: c\n", "keyturn.yaml:1: a colon where none can be"),
        ("version: 1\na: @x\n", "keyturn.yaml:2: a value begins with a character that YAML reserves"),
        ("a: \x00\n", "a character that YAML does not allow"),
        ('a: "\\0"\n', "a control character"),
        ("a: '\ud800'\n", "a character that YAML does not allow"),
        ("[" * 200_000, "keyturn.yaml:1: nested too deeply"),
        ("- " * 100_000, "keyturn.yaml:1: nested too deeply"),
        ("{a: " * 100_000, "keyturn.yaml:1: nested too deeply"),
    ],
)
def test_what_is_not_an_inventory_meets_a_clear_error(try_text: Try, text: str, message: str) -> None:
    problems = try_text(text).problems
    assert any(message in p for p in problems), problems


def test_an_alias_bomb_is_refused_before_it_is_expanded(try_text: Try) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    started = time.process_time()
    (problem,) = try_text("\n".join(lines)).problems
    assert "aliases counted where they are used" in problem
    assert time.process_time() - started < 1


def test_an_alias_for_a_shared_list_is_welcome(try_text: Try) -> None:
    b = "  b: {account: main, permissions: [read], ip_allowlist: *ips, store: vault, path: b}\n"
    text = GOOD.replace("[203.0.113.7]", "&ips [203.0.113.7]").replace("consumers:\n", f"{b}consumers:\n")
    loaded = try_text(text).loaded
    assert loaded is not None
    assert loaded.inventory.credentials["b"].ip_allowlist == {"203.0.113.7"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 2", "1: version: not a value that keyturn takes; write 1"),
        ("version: 1\n", "", "1: version: is missing; write `version:` with 1"),
        ("    account: main\n", "", "7: credentials.mm.account: is missing"),
        ("path: bots/mm", "paht: bots/mm", "12: credentials.mm.paht: no such field; write path"),
        (
            "path: bots/mm",
            "path: ../etc",
            "12: credentials.mm.path: not a value that keyturn takes; write plain",
        ),
        ("permissions: [read]", "permissions: read", "9: credentials.mm.permissions: is text; write a list"),
        ("[read]", "[reed]", "9: credentials.mm.permissions[0]: not a value that keyturn takes; write read"),
        ("permissions: [read]", "permissions: []", "9: credentials.mm.permissions: an empty list"),
        ("permissions: [read]", "permissions:", "9: credentials.mm.permissions: has no value"),
        ("account: main", "account: 12", "8: credentials.mm.account: is a number; write it in quotes"),
        ("account: main", "subaccount: 0533\n    account: main", "8: credentials.mm.subaccount: is a number"),
        ("account: main", "account: true", "8: credentials.mm.account: is true or false; write it in quotes"),
        ("  mm:", "  MM:", "7: credentials.MM: not a name that keyturn takes; write lower-case letters"),
        ("kind: client", "kind: clinet", "15: consumers.bot.kind: no such kind; write client"),
        ("{kind: client}", "{}", "15: consumers.bot.kind: is missing; write `kind:` with one of: client"),
        ("{kind: client}", "x", "15: consumers.bot: is text"),
        (
            "{kind: client}",
            "{kind: client, mailbix: m}",
            "15: consumers.bot.mailbix: no such field; write mailbox",
        ),
        ("{kind: client}", "{kind: client, mailbox: ''}", "15: consumers.bot.mailbox: empty; write text"),
        (
            "{kind: client}",
            "{kind: file, path: f, mode: 0600}",
            "15: consumers.bot.mode: is a number; write it in",
        ),
        ("{kind: client}", '{kind: file, path: f, mode: "999"}', "15: consumers.bot.mode: not a value"),
        (
            "kind: age_files",
            "kind: vault",
            "3: stores.vault.kind: no such kind; write vault_kv2",
        ),
        (
            "consumers:\n  bot",
            "policies: {p: {rotate_every: 60}}\nconsumers:\n  bot",
            "14: policies.p.rotate_every",
        ),
        (
            "consumers:\n  bot",
            "policies: {p: {rotate_every: 99999999999999999d}}\nconsumers:\n  bot",
            "ten years",
        ),
        (
            "consumers:\n  bot",
            "policies: []\nconsumers:\n  bot",
            "14: policies: is a list; write fields under it",
        ),
        ("consumers:\n  bot", "polices: {}\nconsumers:\n  bot", "14: polices: no such field; write policies"),
        (
            "consumers:\n  bot",
            "policies: {p: {outside_30_90_reason: no}}\nconsumers:\n  bot",
            "14: policies.p.outside_30_90_reason: too short; write 10 characters or more",
        ),
        (
            "path: bots/mm\n",
            "path: bots/mm\n    path: bots/mm2\n",
            "13: credentials.mm.path: named a second time",
        ),
        (
            "  bot: {kind: client}",
            "  bot: {kind: client}\n  bot: {kind: client}",
            "16: consumers.bot: named a second",
        ),
    ],
)
def test_a_wrong_field_is_told_with_its_line_and_what_to_write(
    try_text: Try, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    problems = try_text(GOOD.replace(old, new, 1)).problems
    assert any(p.startswith("keyturn.yaml:") and message in p for p in problems), problems


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(try_text: Try) -> None:
    text = (
        GOOD.replace("exchange: open", "exchange: nowhere")
        .replace("account: main", "account: mian")
        .replace("[read]", "[fly]")
        .replace("kind: client", "kind: carrier-pigeon")
        .replace("version: 1", "version: 3")
    )
    problems = try_text(text).problems
    lines = [int(p.split(":")[1]) for p in problems]
    assert lines == sorted(lines)
    assert {1, 5, 9, 15} <= set(lines)


def test_words_and_times_are_what_they_look_like(try_text: Try) -> None:
    text = GOOD.replace("  bot: {kind: client}", "  no: {kind: client}").replace("[bot]", "[no]")
    text += "policies:\n  p: {window: {start: 02:00, end: 23:30, days: [sat]}}\ndefaults: {policy: p}\n"
    loaded = try_text(text).loaded
    assert loaded is not None
    assert "no" in loaded.inventory.consumers
    window = loaded.inventory.policies["p"].window
    assert (window.start.hour, window.start.minute, window.end.minute) == (2, 0, 30)


@pytest.mark.parametrize("start", ["120", "2:00", "24:00", "'02:00:00'", "02:60", "'02:00+01:00'", "[2]", ""])
def test_a_window_time_that_is_not_one_is_refused(try_text: Try, start: str) -> None:
    text = GOOD + f"policies:\n  p: {{window: {{start: {start}, end: 23:30}}}}\ndefaults: {{policy: p}}\n"
    assert any("17: policies.p.window.start: " in p for p in try_text(text).problems)


NUMBERS = "[0600, 0o17, 0x1F, 1_000, 12e3, .5, -3, 1:30]"
WORDS = "[yes, no, on, off, y, true, False, ~, null, NULL, '']"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (NUMBERS, [600, "0o17", "0x1F", "1_000", 12000.0, 0.5, -3, "1:30"]),
        (WORDS, ["yes", "no", "on", "off", "y", True, False, None, None, None, ""]),
        ("[2026-11-21, =, <<x, '1', \"true\", !!str 5]", ["2026-11-21", "=", "<<x", "1", "true", "5"]),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, data: object) -> None:
    assert read(text).data == data


def test_a_number_of_a_thousand_digits_is_a_number(try_text: Try) -> None:
    assert "is a number" in try_text(GOOD.replace("account: main", f"account: {'9' * 5000}")).problems[0]


SECRETS = [
    "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQ",
    "-----BEGIN EC PRIVATE KEY-----",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmYWtlIn0.x",
    "hvs.notarealtokennotarealtoken",
    f"https://user:{FAKE}@host.example/x",
    f"https://{FAKE}@host.example/x",
    f"https://host.example/x?token={FAKE}",
    f"Authorization: Bearer {FAKE}",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("where", ["path: bots/mm", "account: main", "[bot]", "[203.0.113.7]"])
def test_a_value_that_looks_like_a_secret_is_refused_and_never_quoted(
    try_text: Try, secret: str, where: str
) -> None:
    field, colon, _ = where.rpartition(": ")
    text = GOOD.replace(where, f"{field}{colon}'{secret}'" if colon else f"['{secret}']")
    problems = try_text(text).problems
    assert any("references only: write {env: NAME}" in p for p in problems)
    assert not any(secret in p or FAKE in p for p in problems)


@pytest.mark.parametrize(
    "field", ["secret", "api_key", "apiKey", "api-secret", "password", "PASSPHRASE", "token", "private_key"]
)
@pytest.mark.parametrize("place", ["account: main", "kind: client", "exchange: open", "version: 1"])
def test_a_field_for_a_secret_is_refused_and_its_value_never_quoted(
    try_text: Try, field: str, place: str
) -> None:
    separator = (
        ", " if place in {"kind: client", "exchange: open"} else "\n" + " " * (4 if "acc" in place else 0)
    )
    problems = try_text(GOOD.replace(place, f"{place}{separator}{field}: {FAKE}")).problems
    (problem,) = problems
    assert f"{field}: a field of this name holds a secret; references only" in problem
    assert FAKE not in problem


@pytest.mark.parametrize(
    "value",
    [FAKE, f"[{FAKE}]", f"{{value: {FAKE}}}", f"{{env: {FAKE}}}", "{env: Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5}"],
)
def test_a_secret_in_place_of_its_reference_is_refused_and_not_quoted(try_text: Try, value: str) -> None:
    problems = try_text(GOOD.replace("{file: age.txt}", value)).problems
    assert problems
    assert not any(FAKE in p or "Zm9v" in p for p in problems)


def test_a_secret_as_a_name_is_not_quoted(try_text: Try) -> None:
    problems = try_text(
        GOOD.replace("  bot:", "  AGE-SECRET-KEY-1QQQQ:").replace("mm:", "Zm9vYmFyYmF6cXV4MTIzNDU2:")
    ).problems
    assert problems
    assert not any("QQQQ" in p or "Zm9v" in p for p in problems)  # fmt: skip


def test_names_of_fields_in_a_rendered_file_are_no_secrets(try_text: Try) -> None:
    consumer = "{kind: file, path: f.json, fields: {api_key: key, secret: apiSecret}}"
    assert try_text(GOOD.replace("{kind: client}", consumer)).loaded is not None


def test_no_exception_carries_a_cause_that_could_quote_the_file() -> None:
    with pytest.raises(InventoryError) as caught:
        parse_inventory(GOOD.replace("{file: age.txt}", FAKE), manifests={})
    seen: BaseException | None = caught.value
    while seen is not None:
        assert FAKE not in repr(seen) + str(seen)
        assert FAKE not in str(getattr(seen, "diagnostics", str)())
        seen = seen.__cause__ or seen.__context__


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


def test_a_thousand_credentials_load_fast(try_text: Try) -> None:
    credentials = (
        f"  c{i}:\n    account: main\n    subaccount: '{i}'\n    permissions: [read, trade_spot]\n"
        f"    ip_allowlist: [203.0.113.7, 198.51.100.{i % 250}]\n    store: vault\n    path: bots/c{i}\n"
        f"    consumers: [b{i}]\n"
        for i in range(1000)
    )
    consumers = (f"  b{i}: {{kind: client}}\n" for i in range(1000))
    head = GOOD[: GOOD.index("credentials:")]
    text = "".join([head, "credentials:\n", *credentials, "consumers:\n", *consumers])
    best = 9.0
    for _ in range(3):
        started = time.process_time()
        assert len(try_text(text).loaded.inventory.credentials) == 1000
        best = min(best, time.process_time() - started)
    # 0.08 s on the machine that this was written on; `keyturn status` has 0.6 s for everything.
    assert best < 0.3


def _survives(text: str) -> None:
    try:
        parse_inventory(text, manifests={})
    except InventoryError as e:
        told = e.problems
    else:
        return
    assert told
    assert all(p.startswith("keyturn.yaml:") for p in told)


@given(st.text())
def test_any_text_gives_an_inventory_or_an_inventory_error(text: str) -> None:
    _survives(text)


@given(st.text(alphabet=" \n\t-:?{}[]&*!|>'\"%@#,a1~<=", max_size=60))
@settings(max_examples=400)
def test_any_text_of_yaml_characters_gives_an_inventory_or_an_inventory_error(text: str) -> None:
    _survives(text)


_LINES = GOOD.splitlines(keepends=True)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
_sections = st.sampled_from(
    ["stores", "accounts", "credentials", "consumers", "policies", "journal", "defaults"]
)


@given(st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_inventory_gives_an_inventory_or_an_inventory_error(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from([*_LINES, "  x: &a [*a]\n", "\t\n", "- y\n"]), max_size=25))
    _survives("".join(lines))


@given(
    _sections, st.sampled_from(["vault", "main", "mm", "bot", "standard", None]), st.text(max_size=6), _values
)
@settings(max_examples=400)
def test_any_value_in_any_place_gives_an_inventory_or_an_inventory_error(
    section: str, name: str | None, field: str, value: object
) -> None:
    tree = yaml.safe_load(GOOD)
    if name is None:
        tree[section] = value
    else:
        entry = tree.setdefault(section, {}).setdefault(name, {})
        entry[field] = value
        for known in ("kind", "permissions", "key", "window", "timeout", "ip_allowlist", "run", "url"):
            entry.setdefault(known, value)
    _survives(yaml.safe_dump(tree, allow_unicode=True))


def test_the_inventory_is_found_by_argument_then_variable_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_inventory("a.yaml", environ={"KEYTURN_INVENTORY": "b.yaml"}) == tmp_path / "a.yaml"
    assert find_inventory(environ={"KEYTURN_INVENTORY": "b.yaml"}) == tmp_path / "b.yaml"
    assert find_inventory(environ={}) == tmp_path / "keyturn.yaml"


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
