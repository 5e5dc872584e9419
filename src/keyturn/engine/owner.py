"""Who owns keys at an exchange: an account of the inventory, or a sub-account of it."""

from __future__ import annotations

from typing import NamedTuple


class Owner(NamedTuple):
    """An account of the inventory, and the sub-account in the venue's own form."""

    account: str
    subaccount: str | None


def owner_name(owner: Owner) -> str:
    """Name an owner for people."""
    return f"account {owner.account}" + (f", sub-account {owner.subaccount}" if owner.subaccount else "")
