"""What a key is: permissions, specification, and the facts that an exchange reports about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_network

from keyturn.domain.material import SecretMaterial


class Permission(StrEnum):
    """What a key may do, in words that hold at every venue. The manifest maps them to the venue's."""

    READ = "read"
    #: Trading of every kind, at venues that grant it as one right.
    TRADE = "trade"
    TRADE_SPOT = "trade_spot"
    TRADE_DERIVATIVES = "trade_derivatives"
    TRADE_OPTIONS = "trade_options"
    #: Moving funds between the owner's own accounts at the venue.
    TRANSFER = "transfer"
    WITHDRAW = "withdraw"
    #: Creating, editing and deleting other keys; what the manager key needs.
    MANAGE_KEYS = "manage_keys"


TRADING = frozenset(
    {Permission.TRADE, Permission.TRADE_SPOT, Permission.TRADE_DERIVATIVES, Permission.TRADE_OPTIONS}
)


def normal_ips(entries: tuple[str, ...] | list[str]) -> frozenset[str]:
    """Bring an IP list into one form, so that two lists can be compared.

    A single address and its /32 (or /128) are the same entry.

    Raises:
        ValueError: an entry is neither an address nor a network.
    """
    networks = (ip_network(entry.strip(), strict=False) for entry in entries)
    return frozenset(str(n.network_address) if n.num_addresses == 1 else str(n) for n in networks)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a key shall be: the declared side of a credential, as the driver needs it."""

    label: str
    permissions: frozenset[Permission]
    ip_allowlist: frozenset[str]
    #: The sub-account that owns the key, in the venue's own form; None for the account itself.
    subaccount: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the exchange reports about a key. Fields that a venue does not tell are None."""

    key_ref: str
    #: The venue's own words for what the key may do, normalised by the driver. Compared for equality
    #: with `ExchangeDriver.grants_for`, so that a right unknown to keyturn never passes unseen.
    grants: frozenset[str]
    #: The same in keyturn's words, as far as they are known.
    permissions: frozenset[Permission]
    #: Those of the grants that let a key do more than look, and for which keyturn has no word.
    unnamed: frozenset[str] = frozenset()
    ip_allowlist: frozenset[str] | None = None
    label: str | None = None
    #: Who owns the key, in the venue's own form; the same account gives the same value.
    account_uid: str | None = None
    parent_uid: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    enabled: bool = True
    #: Rights that the venue gives by itself to new keys of this key's account, as far as it tells.
    added_here: frozenset[str] = frozenset()
    #: The venue's handle for edit and revoke where that is not the key ref (Deribit's numeric id).
    handle: str | None = None


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key that an exchange has just created: the only moment at which its secret is known."""

    material: SecretMaterial = field(repr=False)
    key_ref: str
    handle: str | None = None


class Revocation(StrEnum):
    """How a revoke ended. Both mean that the key is gone."""

    REVOKED = "revoked"
    ALREADY_ABSENT = "already_absent"
