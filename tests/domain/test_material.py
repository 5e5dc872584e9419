"""Secret material gives its value to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.domain.material import SecretMaterial

FAKES = ("not-a-real-secret-1", "not-a-real-passphrase-1", "not-a-real-extra-1")


@pytest.fixture
def material() -> SecretMaterial:
    return SecretMaterial("key-id-1", FAKES[0], FAKES[1], {"note": FAKES[2]})


def _shows(text: str) -> bool:
    return any(fake in text for fake in FAKES)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{!r:>40}".format,
        "{:^60}".format,
        lambda m: f"{m}",
        lambda m: repr([{"m": m}]),
        lambda m: json.dumps({"m": m}, default=repr),
        lambda m: str(ValueError(m)),
        lambda m: "".join(traceback.format_exception(ValueError(m))),
        lambda m: logging.LogRecord("x", 10, "x", 1, "%s", (m,), None).getMessage(),
    ],
)
def test_no_way_to_print_it_shows_a_secret(material: SecretMaterial, show: Callable[[Any], str]) -> None:
    assert not _shows(show(material))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_to_be_pickled_with_every_protocol(material: SecretMaterial, protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled") as caught:
        pickle.dumps({"inside": material}, protocol)
    assert not _shows(str(caught.value))


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, json.dumps, hash, vars, dict, iter])
def test_it_refuses_to_be_copied_hashed_iterated_or_made_into_json(
    material: SecretMaterial, act: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError) as caught:
        act(material)
    assert not _shows(str(caught.value))


def test_it_takes_no_further_attributes(material: SecretMaterial) -> None:
    with pytest.raises(AttributeError):
        material.secret = "x"  # type: ignore[attr-defined]


def test_reveal_gives_everything_and_a_change_of_it_changes_nothing(material: SecretMaterial) -> None:
    revealed = material.reveal()
    assert revealed == {
        "api_key": "key-id-1",
        "secret": FAKES[0],
        "passphrase": FAKES[1],
        "note": FAKES[2],
    }
    revealed["secret"] = "changed"
    assert material.reveal()["secret"] == FAKES[0]
    assert SecretMaterial.of(material.reveal()) == material


def test_it_equals_material_of_the_same_values_only(material: SecretMaterial) -> None:
    assert material == SecretMaterial("key-id-1", FAKES[0], FAKES[1], {"note": FAKES[2]})
    assert material != SecretMaterial("key-id-1", FAKES[0], FAKES[1])
    assert material != SecretMaterial("key-id-1", FAKES[0], "other", {"note": FAKES[2]})
    assert material != material.reveal()


@pytest.mark.parametrize("missing", ["api_key", "secret"])
def test_what_is_missing_is_named_and_what_is_there_is_not_shown(
    material: SecretMaterial, missing: str
) -> None:
    values = material.reveal()
    del values[missing]
    with pytest.raises(KeyError, match=missing) as caught:
        SecretMaterial.of(values)
    assert not _shows(str(caught.value))


def test_the_public_key_id_is_the_key_ref(material: SecretMaterial) -> None:
    assert material.key_ref == "key-id-1"
