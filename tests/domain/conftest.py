from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import settings

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory_text import Loaded, parse_inventory
from keyturn.domain.keys import Permission
from keyturn.domain.manifest import Capabilities, Document, DriverManifest, IpRules, LabelRules, Site

# A machine that is busy with other things is no defect of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ALL_YES = Capabilities(create="yes", list="yes", introspect="yes", edit="yes", revoke="yes", disable="no")
DOCUMENT = Document(title="Keys", url="https://docs.example/keys", read=date(2026, 11, 21))


def manifest(code: str, **changes: Any) -> DriverManifest:
    """A made-up venue; what a test is about is in `changes`."""
    permissions = (p for p in Permission if p not in {Permission.TRADE_DERIVATIVES, Permission.TRADE_OPTIONS})
    facts: dict[str, Any] = {
        "code": code,
        "name": code.title(),
        "ccxt_id": code,
        "subaccount": "optional",
        "capabilities": ALL_YES,
        "label": LabelRules(max_length=30, separator="-", alphabet="[a-z0-9-]"),
        "ip": IpRules(max_entries=3, networks=True, ipv6=True, set_at="creation"),
        "permissions": {p: (p.value,) for p in permissions},
        "manager_any_of": (Permission.MANAGE_KEYS,),
        "propagation_seconds": 2.0,
        "sandbox_url": f"https://sandbox.{code}.example",
        "console_url": f"https://{code}.example/keys",
        "documents": (DOCUMENT,),
    }
    return DriverManifest(**{**facts, **changes})


def site(name: str) -> Site:
    """A made-up site; the main one alone has a test environment."""
    testnet = "https://test.open.example" if name == "global" else None
    return Site(
        users=f"users of {name}",
        url=f"https://{name}.open.example",
        testnet_url=testnet,
        source=DOCUMENT.url,
        read=DOCUMENT.read,
    )


MANIFESTS = {
    m.code: m
    for m in (
        manifest("open", sites={name: site(name) for name in ("global", "eea")}),
        manifest(
            "strict",
            subaccount="required",
            ip=IpRules(max_entries=2, networks=False, ipv6=False, set_at="after"),
            permissions={Permission.READ: ("r",), Permission.TRADE: ("t",)},
            sandbox_url=None,
            expiry_days_without_ip=45,
        ),
        manifest("flat", subaccount="none"),
    )
}

BASE: dict[str, Any] = {
    "version": 1,
    "stores": {"vault": {"kind": "age_files", "path": "secrets", "key": {"file": "age.txt"}}},
    "accounts": {"main": {"exchange": "open", "manager": {"store": "vault", "path": "managers/main"}}},
    "credentials": {
        "mm": {
            "account": "main",
            "permissions": ["read", "trade"],
            "ip_allowlist": ["203.0.113.7"],
            "path": "bots/mm",
            "consumers": ["bot"],
        }
    },
    "consumers": {"bot": {"kind": "client"}},
    "policies": {"standard": {"rotate_every": "60d"}},
    "defaults": {"store": "vault", "policy": "standard"},
}


def changed(**changes: Any) -> dict[str, Any]:
    """The base inventory with dotted places changed: `changed(**{"credentials.mm.path": "x"})`."""
    data = deepcopy(BASE)
    for place, value in changes.items():
        *above, last = place.split(".")
        here = data
        for part in above:
            here = here.setdefault(part, {})
        here[last] = value
    return data


class Tried:
    """What became of an inventory."""

    def __init__(self, text: str) -> None:
        self.loaded: Loaded | None = None
        self.problems: tuple[str, ...] = ()
        try:
            self.loaded = parse_inventory(text, manifests=MANIFESTS)
        except InventoryError as e:
            self.problems = e.problems
        assert self.loaded is not None or self.problems

    @property
    def warnings(self) -> tuple[str, ...]:
        assert self.loaded is not None, self.problems
        return self.loaded.warnings


def _with(changes: dict[str, Any]) -> Tried:
    """Write the base inventory with changes, and load it."""
    return Tried(yaml.safe_dump(changed(**changes), sort_keys=False))


@pytest.fixture
def try_text() -> Callable[[str], Tried]:
    return Tried


@pytest.fixture
def try_with() -> Callable[[dict[str, Any]], Tried]:
    return _with


class Told:
    """What a person is told about a change to the base inventory."""

    def refused(
        self, wrong: dict[str, Any], place: str, words: str, *, neighbour: dict[str, Any] | None = None
    ) -> None:
        """It is refused with one problem, in its place; the neighbour, which is right, is accepted."""
        tried = _with(wrong)
        assert len(tried.problems) == 1, tried.problems
        assert f" {place}: " in tried.problems[0]
        assert words in tried.problems[0]
        if neighbour is not None:
            accepted = _with(neighbour)
            assert accepted.loaded is not None, accepted.problems

    def warned(self, change: dict[str, Any], place: str, words: str) -> None:
        """It is accepted with one warning, in its place."""
        (warning,) = _with(change).warnings
        assert f" {place}: " in warning
        assert words in warning


@pytest.fixture
def told() -> Told:
    return Told()
