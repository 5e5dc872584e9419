"""IP lists compare by what they allow, and keys hide their secret."""

from __future__ import annotations

import pytest

from keyturn.domain.keys import MintedKey, normal_ips
from keyturn.domain.material import SecretMaterial


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["203.0.113.7"], ["203.0.113.7/32"]),
        ([" 203.0.113.7 "], ["203.0.113.7"]),
        (["2001:DB8::1"], ["2001:db8:0:0:0:0:0:1/128"]),
        (["203.0.113.7", "203.0.113.7"], ["203.0.113.7"]),
        (["203.0.113.9/24"], ["203.0.113.0/24"]),
        (["203.0.113.0/255.255.255.0"], ["203.0.113.0/24"]),
        ([], []),
    ],
)
def test_two_ways_to_write_an_ip_list_are_one_list(one: list[str], other: list[str]) -> None:
    assert normal_ips(one) == normal_ips(tuple(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["203.0.113.7"], []),
        (["203.0.113.0/24"], ["203.0.113.0/25"]),
        (["0.0.0.0"], ["0.0.0.0/0"]),
        (["::ffff:203.0.113.7"], ["203.0.113.7"]),
    ],
)
def test_lists_that_allow_different_machines_differ(one: list[str], other: list[str]) -> None:
    assert normal_ips(one) != normal_ips(other)


@pytest.mark.parametrize(
    "entry", ["", "*", "203.0.113", "203.0.113.256", "bot.example", "203.0.113.7/33", "1"]
)
def test_what_is_no_address_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        normal_ips([entry])


def test_a_minted_key_does_not_show_its_secret() -> None:
    minted = MintedKey(SecretMaterial("key-id-1", "not-a-real-secret-1"), "key-id-1", "7")
    assert "not-a-real" not in repr(minted)
