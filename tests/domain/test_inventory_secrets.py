"""A secret in an inventory is refused wherever it stands, and no message quotes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory_text import parse_inventory

from .inventory_sample import FAKE, GOOD

Try = Callable[[str], Any]

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
