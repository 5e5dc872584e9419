"""The three simulated venues as the crash suite uses them: who has which key, and how each call is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keyturn.domain.material import SecretMaterial
from keyturn.simulator import IssuedKey, SimBybit, SimDeribit, SimOkx
from keyturn.simulator.core import SimExchange

HOME = "127.0.0.1"
# RFC 5737: an address that nobody has.
ELSEWHERE = "203.0.113.7"
#: Like one of ours to the letter. The journal does not know it, and that alone counts.
FOREIGN_LABEL = "kt-0123456789-1"


@dataclass(frozen=True)
class Venue:
    """One venue: its own words, and the inventory's."""

    simulator: type[SimExchange]
    manager_rights: tuple[str, ...]
    #: A manager key that lacks what it needs.
    weak_rights: tuple[str, ...]
    permissions: tuple[str, ...]
    rights: frozenset[str]
    #: What a key must never be able to do unasked.
    withdraw: str
    #: Whose keys are managed, in the simulator's books.
    owner: str
    #: Method of the driver -> the call that it makes, as the simulator names it.
    create: str
    revoke: str
    list: str
    edit: str
    #: A signed call that keyturn never makes: by it a bot's calls are told from keyturn's.
    bot_path: str
    #: The same call, as ccxt names it, and its parameters.
    bot_method: str
    bot_params: tuple[tuple[str, str], ...] = ()
    #: The venue shows a read-only manager key by this, where rights do not.
    weak_read_only: bool = False

    @property
    def code(self) -> str:
        """The venue's code in the inventory."""
        return self.simulator.venue


VENUES = {
    "bybit": Venue(
        SimBybit,
        manager_rights=("Wallet.AccountTransfer", "Wallet.SubMemberTransfer"),
        weak_rights=("Wallet.AccountTransfer", "Wallet.SubMemberTransfer"),
        weak_read_only=True,
        permissions=("read", "trade_spot"),
        rights=frozenset({"Spot.SpotTrade"}),
        withdraw="Wallet.Withdraw",
        owner="bot",
        create="POST /v5/user/create-sub-api",
        revoke="POST /v5/user/delete-sub-api",
        list="GET /v5/user/sub-apikeys",
        edit="POST /v5/user/update-sub-api",
        bot_path="GET /v5/order/realtime",
        bot_method="private_get_v5_order_realtime",
        bot_params=(("category", "spot"), ("symbol", "BTCUSDT")),
    ),
    "okx": Venue(
        SimOkx,
        manager_rights=("read_only", "trade"),
        weak_rights=("read_only",),
        permissions=("read", "trade"),
        rights=frozenset({"read_only", "trade"}),
        withdraw="withdraw",
        owner="bot",
        create="POST /api/v5/users/subaccount/apikey",
        revoke="POST /api/v5/users/subaccount/delete-apikey",
        list="GET /api/v5/users/subaccount/apikey",
        edit="POST /api/v5/users/subaccount/modify-apikey",
        bot_path="GET /api/v5/trade/orders-pending",
        bot_method="private_get_trade_orders_pending",
    ),
    "deribit": Venue(
        SimDeribit,
        manager_rights=("account:read_write",),
        weak_rights=("account:read",),
        permissions=("read", "trade"),
        rights=frozenset({"account:read", "trade:read_write", "wallet:read"}),
        withdraw="wallet:read_write",
        owner="main",
        create="/private/create_api_key",
        revoke="/private/remove_api_key",
        list="/private/list_api_keys",
        edit="/private/edit_api_key",
        bot_path="/private/get_open_orders_by_instrument",
        bot_method="private_get_get_open_orders_by_instrument",
        bot_params=(("instrument_name", "BTC-PERPETUAL"),),
    ),
}


def material_of(key: IssuedKey) -> SecretMaterial:
    """Give what a person would copy out of the venue's console."""
    return SecretMaterial(key.key_ref, key.secret, key.passphrase or None)


@dataclass
class Books:
    """A venue that has been opened for one credential: the accounts, and the keys that are there."""

    venue: Venue
    sim: Any
    manager: IssuedKey
    old: IssuedKey
    foreign: tuple[str, ...]
    #: As the inventory writes it; None where a manager key manages its own account.
    subaccount: str | None
    #: Keys that nobody may delete: the foreign ones and the manager's.
    untouchable: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.untouchable |= {*self.foreign, self.manager.key_ref}

    @classmethod
    def open(cls, venue: Venue, sim: Any, *, ips: tuple[str, ...] = (HOME,)) -> Books:
        """Fill the books: a manager key, a foreign key by the side of each, and the bot's first key."""
        sim.add_account("main")
        subaccount = None
        if venue.owner != "main":
            uid = sim.add_account(venue.owner, parent="main").uid
            subaccount = uid if venue.code == "bybit" else venue.owner

        def issue(account: str, rights: Any, label: str, ips: tuple[str, ...] = (HOME,)) -> IssuedKey:
            issued: IssuedKey = sim.add_key(
                account, rights, ips=ips, label=label, passphrase=sim.new_passphrase()
            )
            return issued

        manager = issue("main", venue.manager_rights, "manager")
        separator = "_" if venue.code == "deribit" else "-"
        strangers = [
            issue("main", venue.manager_rights, "by hand"),
            issue(venue.owner, venue.rights, "by hand, too"),
            issue(venue.owner, venue.rights, FOREIGN_LABEL.replace("-", separator)),
        ]
        old = issue(venue.owner, venue.rights, "made by hand", ips)
        return cls(venue, sim, manager, old, tuple(key.key_ref for key in strangers), subaccount)

    def managed(self) -> list[str]:
        """Give the live keys that are neither a manager's nor anybody else's."""
        found = [key for keys in self.sim.truth().values() for key in keys]
        return [key.key_ref for key in found if key.key_ref not in self.untouchable]

    def all_refs(self) -> set[str]:
        """Give every key that stands in the venue's books."""
        return {key.key_ref for keys in self.sim.truth().values() for key in keys}

    def accepts(self, material: SecretMaterial) -> bool:
        """Say whether the venue lets a call with this key in."""
        values = material.reveal()
        accepted: bool = self.sim.accepts(values["api_key"], values["secret"], values.get("passphrase", ""))
        return accepted

    def judge_foreign(self) -> None:
        """Hold that nobody else's key was touched."""
        gone = self.untouchable - self.all_refs()
        assert not gone, f"2: {len(gone)} keys that are not ours were revoked"

    def judge_current(self, current: SecretMaterial, *, ips: tuple[str, ...] = (HOME,)) -> None:
        """Hold what must be true of the venue at rest: one managed key, current, exactly as declared."""
        self.judge_foreign()
        assert self.managed() == [current.key_ref], (
            f"8: {len(self.managed())} managed keys live; current is one of them:"
            f" {current.key_ref in self.managed()}"
        )
        rules = self.sim.rules_of(current.key_ref)
        assert rules.permissions == self.venue.rights
        assert set(rules.ips) == set(ips)
        if not ips or HOME in ips:
            assert self.accepts(current), "1: current does not work"
