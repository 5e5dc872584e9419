"""Where keys lie at an exchange: an account of the inventory, and a sub-account of it."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """An account of the inventory, and the sub-account in the venue's own form."""

    account: str
    subaccount: str | None


def place_name(place: Place) -> str:
    """Name a place for people."""
    return f"account {place.account}" + (f", sub-account {place.subaccount}" if place.subaccount else "")
