"""Hold what a simulated exchange knows: accounts, their keys, and when a change of a key takes effect.

Every look-up by key is a dictionary access; nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

T = TypeVar("T")

# The 64 most recent changes of an account are enough for any "listing as of n changes ago".
_REMEMBERED_CHANGES = 64


@dataclass(slots=True)
class Lagged(Generic[T]):
    """A value whose last change reaches the doorkeeper only after a while, as on a distributed exchange.

    ``value`` is what the exchange's books say, :meth:`at` is what its front servers enforce, and
    :meth:`as_of` is what a listing from an outdated replica shows. Times are milliseconds.
    """

    value: T
    previous: T
    changed_ms: int
    effective_ms: int

    @classmethod
    def fixed(cls, value: T) -> Lagged[T]:
        """Make a value that has always been so."""
        return cls(value, value, 0, 0)

    def at(self, now_ms: int) -> T:
        """Return the value that is enforced at ``now_ms``."""
        return self.value if now_ms >= self.effective_ms else self.previous

    def as_of(self, then_ms: int) -> T:
        """Return the value that the books showed at ``then_ms``."""
        return self.value if then_ms >= self.changed_ms else self.previous

    def change(self, value: T, now_ms: int, lag_ms: int) -> None:
        """Write ``value`` into the books now; it is enforced after ``lag_ms``."""
        self.previous = self.at(now_ms)
        self.value = value
        self.changed_ms = now_ms
        self.effective_ms = now_ms + lag_ms


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What one key may do: permissions in the exchange's own words, and from which addresses."""

    permissions: frozenset[str]
    read_only: bool = False
    ips: tuple[str, ...] = ()
    enabled: bool = True
    label: str = ""


@dataclass(slots=True, eq=False)
class SimKey:
    """One API key of a simulated account; secret and passphrase never appear in its repr."""

    ref: str
    number: int
    account: SimAccount
    secret: Lagged[str] = field(repr=False)
    passphrase: str = field(repr=False)
    rules: Lagged[KeyRules]
    alive: Lagged[bool]
    created_ms: int
    minted_by_api: bool
    expires_ms: int | None = None

    def existed_at(self, then_ms: int) -> bool:
        """Say whether a listing made at ``then_ms`` would have shown this key."""
        return self.created_ms <= then_ms and self.alive.as_of(then_ms)


@dataclass(slots=True, eq=False)
class SimAccount:
    """A master account or one of its sub-accounts, with the keys that exist in the books."""

    name: str
    uid: str
    key_limit: int
    parent: SimAccount | None = None
    totp_secret: str | None = field(default=None, repr=False)
    #: Permissions that the exchange gives by itself to each key that its API makes or changes here.
    adds: frozenset[str] = frozenset()
    keys: dict[str, SimKey] = field(default_factory=dict, repr=False)
    by_number: dict[int, SimKey] = field(default_factory=dict, repr=False)
    buried: list[SimKey] = field(default_factory=list, repr=False)
    changes: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_CHANGES), repr=False)
    next_number: int = 1

    @property
    def is_master(self) -> bool:
        """Whether this account has no parent."""
        return self.parent is None

    def keys_as_of(self, then_ms: int | None) -> list[SimKey]:
        """List the keys in the books now (``None``) or at an earlier moment, oldest first."""
        if then_ms is None:
            return list(self.keys.values())
        return [key for key in (*self.buried, *self.keys.values()) if key.existed_at(then_ms)]

    def moment_before_changes(self, count: int, now_ms: int) -> int:
        """Return the moment just before this account's last ``count`` changes."""
        if count <= 0 or not self.changes:
            return now_ms
        return self.changes[max(0, len(self.changes) - count)] - 1


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key as the exchange shows it once, at creation."""

    key_ref: str
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TrueKey:
    """A key as the exchange's books have it; what tests compare their beliefs with."""

    key_ref: str
    account: str
    uid: str
    label: str
    permissions: frozenset[str]
    read_only: bool
    ips: tuple[str, ...]
    enabled: bool
    minted_by_api: bool
    created_ms: int
    expires_ms: int | None

    @classmethod
    def of(cls, key: SimKey) -> TrueKey:
        """Describe ``key`` without its secret."""
        rules = key.rules.value
        return cls(
            key_ref=key.ref,
            account=key.account.name,
            uid=key.account.uid,
            label=rules.label,
            permissions=rules.permissions,
            read_only=rules.read_only,
            ips=rules.ips,
            enabled=rules.enabled,
            minted_by_api=key.minted_by_api,
            created_ms=key.created_ms,
            expires_ms=key.expires_ms,
        )


def ip_allowed(ips: Iterable[str], caller: str) -> bool:
    """Say whether ``caller`` is in the list; an empty list allows every address."""
    rules = tuple(ips)
    return not rules or _in_networks(rules, caller)


@lru_cache(maxsize=4096)
def _in_networks(rules: tuple[str, ...], caller: str) -> bool:
    try:
        address = ipaddress.ip_address(caller)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(rule, strict=False) for rule in rules)


def is_ip_rule(text: str) -> bool:
    """Say whether ``text`` is an IPv4 or IPv6 address, or a network segment of one."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
