"""Keep the books of a simulated exchange: who has which key, and what an honest witness can say about it."""

from __future__ import annotations

import hmac
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from keyturn.simulator.state import IssuedKey, KeyRules, Lagged, SimAccount, SimKey, TrueKey, is_ip_rule
from keyturn.simulator.wire import Call


def real_ms() -> int:
    """Return the real time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Books(ABC):
    """Accounts and keys in memory; a venue says what its keys look like."""

    venue: ClassVar[str]
    default_key_limit: ClassVar[int]

    def __init__(self, key_limit: int | None) -> None:
        self.accounts: dict[str, SimAccount] = {}
        self._by_uid: dict[str, SimAccount] = {}
        self._by_ref: dict[str, SimKey] = {}
        self._key_limit = self.default_key_limit if key_limit is None else key_limit

    # ---- what a person does in the exchange's web console -------------------------------------

    def add_account(
        self,
        name: str,
        *,
        parent: str | None = None,
        uid: str | None = None,
        key_limit: int | None = None,
        totp_secret: str | None = None,
        adds: Iterable[str] = (),
    ) -> SimAccount:
        """Open a master account, or a sub-account of ``parent``.

        Args:
            name: what tests and faults call it.
            parent: the master account.
            uid: the exchange's number of it.
            key_limit: how many keys it takes.
            totp_secret: of its second factor.
            adds: permissions that a new key is given whatever was asked for; Bybit alone does so.

        Raises:
            ValueError: the name or the uid is taken.
            KeyError: there is no such parent.
        """
        account = SimAccount(
            name=name,
            uid=uid or str(100_000_000 + secrets.randbelow(800_000_000)),
            key_limit=self._key_limit if key_limit is None else key_limit,
            parent=self.accounts[parent] if parent is not None else None,
            totp_secret=totp_secret,
            adds=frozenset(adds),
        )
        if name in self.accounts or account.uid in self._by_uid:
            raise ValueError(f"an account with the name {name!r} or the uid {account.uid} exists already")
        self.accounts[name] = account
        self._by_uid[account.uid] = account
        return account

    def add_key(
        self,
        account: str,
        permissions: Iterable[str],
        *,
        ips: Iterable[str] = (),
        label: str = "",
        read_only: bool = False,
        enabled: bool = True,
        key_ref: str | None = None,
        secret: str | None = None,
        passphrase: str | None = None,
    ) -> IssuedKey:
        """Create a key as a person would, with any permission that a master key may have.

        Raises:
            KeyError: there is no such account.
            ValueError: the key ref is taken, a permission is not one of this exchange's, or an address is
                none.
        """
        wanted = frozenset(permissions)
        unknown = wanted - self.known_permissions()
        if unknown:
            raise ValueError(f"{self.venue} has no permission {', '.join(sorted(unknown))}")
        addresses = tuple(ips)
        if not all(map(is_ip_rule, addresses)):
            raise ValueError(f"not all of these are addresses or network segments: {', '.join(addresses)}")
        ref = key_ref or self.new_key_ref()
        if ref in self._by_ref:
            raise ValueError(f"a key {ref} exists already")
        rules = KeyRules(wanted, read_only, addresses, enabled, label)
        now = real_ms()
        key = self._put_key(
            self.accounts[account],
            SimKey(
                ref=ref,
                number=self.accounts[account].next_number,
                account=self.accounts[account],
                secret=Lagged.fixed(secret or self.new_secret()),
                passphrase=self.new_passphrase() if passphrase is None else passphrase,
                rules=Lagged(rules, rules, now, now),
                alive=Lagged(value=True, previous=False, changed_ms=now, effective_ms=now),
                created_ms=now,
                minted_by_api=False,
                expires_ms=self.expiry_of(rules, now),
            ),
        )
        return IssuedKey(key.ref, key.secret.value, key.passphrase)

    def change_key(self, key_ref: str, rules: KeyRules) -> None:
        """Change what a key may do, at once.

        Raises:
            KeyError: there never was such a key.
        """
        key = self._by_ref[key_ref]
        key.account.changes.append(real_ms())
        key.rules = Lagged.fixed(rules)

    def kill_key(self, key_ref: str) -> None:
        """Delete a key, at once.

        Raises:
            KeyError: there never was such a key.
        """
        self._take_out(self._by_ref[key_ref], real_ms(), 0)

    def expire_key(self, key_ref: str) -> None:
        """Let a key reach the end of its life now, as the exchange does to keys that are too old.

        Raises:
            KeyError: there never was such a key.
        """
        self._by_ref[key_ref].expires_ms = real_ms()

    # ---- the truth, for tests -----------------------------------------------------------------

    def truth(self) -> dict[str, list[TrueKey]]:
        """Return the keys in the books of every account, oldest first."""
        return {
            name: [TrueKey.of(key) for key in account.keys.values()]
            for name, account in self.accounts.items()
        }

    def rules_of(self, key_ref: str) -> KeyRules:
        """Return what a key may do, by the books.

        Raises:
            KeyError: there never was such a key.
        """
        return self._by_ref[key_ref].rules.value

    def is_live(self, key_ref: str) -> bool:
        """Say whether a call with this key would be let in now, given a right signature and address."""
        key, now = self._by_ref.get(key_ref), real_ms()
        if key is None or not key.alive.at(now) or not key.rules.at(now).enabled:
            return False
        return key.expires_ms is None or now < key.expires_ms

    def accepts(self, key_ref: str, secret: str, passphrase: str = "") -> bool:
        """Say whether this key is live and this its secret (and passphrase, where the exchange has one)."""
        if not self.is_live(key_ref):
            return False
        key = self._by_ref[key_ref]
        good_secret = hmac.compare_digest(key.secret.at(real_ms()).encode(), secret.encode())
        return good_secret and hmac.compare_digest(key.passphrase.encode(), passphrase.encode())

    # ---- what a venue says --------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def known_permissions(cls) -> frozenset[str]:
        """Return every permission of the exchange, as ``add_key`` and the seed file write them."""

    @abstractmethod
    def new_key_ref(self) -> str:
        """Make a key ref in the exchange's shape."""

    @abstractmethod
    def new_secret(self) -> str:
        """Make a secret in the exchange's shape."""

    def new_passphrase(self) -> str:
        """Make a passphrase that the exchange would take; empty where keys have none."""
        return ""

    def expiry_of(self, rules: KeyRules, now_ms: int) -> int | None:
        """Return when the exchange itself ends a key with these rules (milliseconds), or ``None``."""
        return None

    # ---- for API calls ------------------------------------------------------------------------

    def find_key(self, call: Call, key_ref: str) -> SimKey | None:
        """Return the key if the front servers honour it at this moment."""
        key = self._by_ref.get(key_ref)
        return key if key is not None and key.alive.at(call.now_ms) else None

    def key_in_books(self, key_ref: object) -> SimKey | None:
        """Return the key if the books have it, whatever the front servers know."""
        key = self._by_ref.get(key_ref) if isinstance(key_ref, str) else None
        return key if key is not None and key.alive.value else None

    def account_by_uid(self, uid: str) -> SimAccount | None:
        """Return the account with this uid."""
        return self._by_uid.get(uid)

    def mint(self, call: Call, account: SimAccount, rules: KeyRules, *, passphrase: str = "") -> SimKey:
        """Create a key; the caller has checked everything."""
        now, effective = call.now_ms, call.now_ms + call.faults.propagation_ms
        call.effect = True
        return self._put_key(
            account,
            SimKey(
                ref=self.new_key_ref(),
                number=account.next_number,
                account=account,
                secret=Lagged.fixed(self.new_secret()),
                passphrase=passphrase,
                rules=Lagged(rules, rules, now, now),
                alive=Lagged(value=True, previous=False, changed_ms=now, effective_ms=effective),
                created_ms=now,
                minted_by_api=True,
                expires_ms=self.expiry_of(rules, now),
            ),
        )

    def edit(self, call: Call, key: SimKey, rules: KeyRules) -> None:
        """Change what a key may do."""
        key.account.changes.append(call.now_ms)
        key.rules.change(rules, call.now_ms, call.faults.propagation_ms)
        call.effect = True

    def renew_secret(self, call: Call, key: SimKey) -> None:
        """Give a key another secret."""
        key.account.changes.append(call.now_ms)
        key.secret.change(self.new_secret(), call.now_ms, call.faults.propagation_ms)
        call.effect = True

    def bury(self, call: Call, key: SimKey) -> None:
        """Delete a key."""
        self._take_out(key, call.now_ms, call.faults.propagation_ms)
        call.effect = True

    def listed(self, call: Call, account: SimAccount) -> list[tuple[SimKey, KeyRules]]:
        """Return the keys that a listing shows, each with its rules; outdated if a fault says so."""
        stale = call.faults.stale
        if stale is None:
            return [(key, key.rules.value) for key in account.keys.values()]
        then = min(
            call.now_ms - round(stale.seconds * 1000),
            account.moment_before_changes(stale.changes, call.now_ms),
        )
        return [(key, key.rules.as_of(then)) for key in account.keys_as_of(then)]

    # ---- inside -------------------------------------------------------------------------------

    def _put_key(self, account: SimAccount, key: SimKey) -> SimKey:
        account.changes.append(key.created_ms)
        account.next_number += 1
        account.keys[key.ref] = key
        account.by_number[key.number] = key
        self._by_ref[key.ref] = key
        return key

    @staticmethod
    def _take_out(key: SimKey, now_ms: int, lag_ms: int) -> None:
        account = key.account
        if account.keys.pop(key.ref, None) is not None:
            del account.by_number[key.number]
            account.changes.append(now_ms)
            account.buried.append(key)
            key.alive.change(value=False, now_ms=now_ms, lag_ms=lag_ms)
