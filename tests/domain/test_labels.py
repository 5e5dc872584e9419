"""Labels and fingerprints: ours are recognised, others are not, and nothing can be matched back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.domain.labels import MAX_ATTEMPTS, Attempt, fingerprint, new_rotation_id, parse_label

ids = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=10, max_size=10)
attempts = st.builds(Attempt, ids, st.integers(1, MAX_ATTEMPTS))


@given(attempts, st.sampled_from("-_"))
def test_every_label_of_ours_is_recognised_and_names_its_attempt(attempt: Attempt, separator: str) -> None:
    assert parse_label(attempt.label(separator)) == attempt


@given(attempts)
def test_the_longest_label_fits_the_tightest_venue(attempt: Attempt) -> None:
    assert len(attempt.label("_")) <= 16


@given(attempts)
def test_an_attempt_reads_back_what_it_writes(attempt: Attempt) -> None:
    assert Attempt.parse(str(attempt)) == attempt


@pytest.mark.parametrize(
    "label",
    [
        "",
        "kt",
        "kt-",
        "my bot",
        "kt-0123456789",
        "kt-0123456789-0",
        "kt-0123456789-01",
        "kt-0123456789-100",
        "kt-012345678-1",
        "kt-01234567890-1",
        "kt-012345678i-1",  # not a letter of the alphabet
        "kt-012345678A-1",
        "KT-0123456789-1",
        " kt-0123456789-1",
        "kt-0123456789-1x",
        "kt.0123456789.1",
        "xkt-0123456789-1",
        "kt-0123456789-\u0661",
    ],
)
def test_a_label_that_is_not_ours_is_nobodys(label: str) -> None:
    assert parse_label(label) is None


@given(st.text(max_size=30))
def test_any_text_is_a_label_of_ours_or_none(text: str) -> None:
    found = parse_label(text)
    assert found is None or found.label(text[2]) in {text, text.replace("_", "-")}


@pytest.mark.parametrize("text", ["", "x", "x-", "x-y", "-"])
def test_what_is_not_an_attempt_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Attempt.parse(text)


def test_rotation_ids_do_not_repeat() -> None:
    assert len({new_rotation_id() for _ in range(10_000)}) == 10_000


def test_a_fingerprint_depends_on_key_venue_and_installation_and_shows_none_of_them() -> None:
    own = fingerprint(b"salt", "bybit", "key-id-1")
    assert own == fingerprint(b"salt", "bybit", "key-id-1")
    others = {
        fingerprint(b"salt2", "bybit", "key-id-1"),
        fingerprint(b"salt", "okx", "key-id-1"),
        fingerprint(b"salt", "bybit", "key-id-2"),
        fingerprint(b"salt", "bybitk", "ey-id-1"),
    }
    assert len(others | {own}) == 5
    assert len(own) == 8
    assert own.isalnum()
    assert "key" not in own
