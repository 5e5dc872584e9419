"""The manifest of a venue: what its driver can do and which rules the venue has, as checked data.

Each driver folder holds a `driver.toml` of this shape; one contract suite holds the driver to it.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from keyturn.domain.keys import TRADING, KeyFacts, Permission


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Capabilities(_Strict):
    """What the venue's API can do; `manual` means that a person can do it in the web console."""

    create: Literal["yes", "no", "manual"]
    list: Literal["yes", "no", "manual"]
    introspect: Literal["yes", "no"]
    edit: Literal["yes", "no", "manual"]
    revoke: Literal["yes", "no", "manual"]
    disable: Literal["yes", "no", "manual"]


class LabelRules(_Strict):
    """What the venue accepts as a key's name."""

    max_length: int = Field(ge=16, description="Characters.")
    separator: Literal["-", "_"] = Field(description="What joins the parts of our label.")
    alphabet: str = Field(description="Regular expression of one allowed character.")

    def fits(self, label: str) -> bool:
        """Tell whether the venue takes this label."""
        return len(label) <= self.max_length and re.fullmatch(f"(?:{self.alphabet})*", label) is not None


class IpRules(_Strict):
    """How the venue binds keys to addresses."""

    max_entries: int
    networks: bool = Field(description="Whether ranges (CIDR) are accepted beside single addresses.")
    ipv6: bool
    #: `after` leaves a moment in which the key is open: the engine edits it before anything else.
    set_at: Literal["creation", "after"]


class AddedRight(_Strict):
    """A right that the venue gives to new keys by itself, whatever was asked for."""

    right: str = Field(description="The venue's word, as `accepts` of a credential names it.")
    opens: tuple[Permission, ...] = Field((), description="What it lets a key do, where keyturn has a word.")
    when: str = Field(description="To which keys it is given: the end of a sentence.")
    meaning: str = Field(description="What it lets a key do, in words: the end of a sentence.")
    beside: tuple[str, ...] = Field(
        (), description="Words beside all of which it says no more than they do, so that nothing is added."
    )

    def is_news(self, grants: frozenset[str]) -> bool:
        """Tell whether a key of these words could do more with it."""
        return not (self.beside and grants.issuperset(self.beside))


class Document(_Strict):
    """A page of the venue's documentation that the driver rests on."""

    title: str
    url: str
    read: date


class Site(_Strict):
    """One of a venue's sites. An account is at one of them, and its keys are unknown to the others."""

    users: str = Field(description="Whose accounts are there.")
    url: str = Field(description="Base URL of its API.")
    also: tuple[str, ...] = Field((), description="Further base URLs of the same site.")
    testnet_url: str | None = Field(None, description="Of its test environment, where it has one.")
    source: str = Field(description="Page that says so.")
    read: date


class DriverManifest(_Strict):
    """Everything about a venue that is data."""

    code: str
    name: str
    ccxt_id: str
    #: `required`: keys belong to a named sub-account and the manager key to its master.
    subaccount: Literal["required", "optional", "none"]
    capabilities: Capabilities
    label: LabelRules
    ip: IpRules
    #: keyturn's permission -> the venue's words that grant it.
    permissions: dict[Permission, tuple[str, ...]]
    #: Words that take rights from a key and give none ("readOnly").
    limits: frozenset[str] = frozenset()
    #: A word of the venue -> the words that it holds as well ("trade:read_write" -> "trade:read").
    includes: dict[str, tuple[str, ...]] = {}
    #: What the venue gives by itself.
    adds: tuple[AddedRight, ...] = ()
    #: Any one of these rights (keyturn's words) lets the manager key manage keys.
    manager_any_of: tuple[Permission, ...]
    #: True when the venue refuses to manage keys by a manager key that is not bound to addresses.
    manager_needs_ip: bool = False
    #: None where the venue does not publish a number.
    max_keys: int | None = None
    #: Whether the caller chooses a passphrase when the key is created (OKX).
    needs_passphrase: bool = False
    #: Seconds that a change may take to hold everywhere; an absence is believed only after them.
    propagation_seconds: float = Field(ge=0)
    #: Days after which the venue itself ends a key without an IP list; None if it never does.
    expiry_days_without_ip: int | None = None
    sandbox_url: str | None = None
    console_url: str
    #: By the name that the inventory's `site` has; the first is where an account is that names none.
    sites: dict[str, Site] = {}
    documents: tuple[Document, ...]

    @property
    def main_site(self) -> str | None:
        """The site of an account that names none; None where the venue's sites are not listed."""
        return next(iter(self.sites), None)

    def told_sites(self) -> str:
        """Name the sites for people."""
        return "; ".join(f"{name}, {site.users}" for name, site in self.sites.items())

    def manager_needs(self) -> list[Permission]:
        """Give the rights of which a manager key should have one: never the right to withdraw."""
        return sorted({*self.manager_any_of} - {Permission.WITHDRAW})

    def manager_excess(self, facts: KeyFacts) -> list[str]:
        """Give what a manager key may do and should not; the venue's word where keyturn has none."""
        bad = TRADING - {*self.manager_needs()} | {Permission.WITHDRAW}
        return [*sorted(facts.permissions & bad), *sorted(facts.unnamed)]

    def unsupported(self, permissions: frozenset[Permission]) -> frozenset[Permission]:
        """Give those of the permissions that the venue has no word for."""
        return permissions - self.permissions.keys()

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the venue's words for exactly these permissions.

        Where a word limits a key to looking, the words for `read` are for a key that may do nothing else.
        """
        acting = permissions - {Permission.READ}
        if acting and self.limits & frozenset(self.permissions.get(Permission.READ, ())):
            permissions = acting
        return frozenset(word for p in permissions for word in self.permissions[p])

    def covered(self, grants: frozenset[str]) -> frozenset[str]:
        """Give the words that these words hold: themselves, and what they include."""
        return grants | {less for word in grants for less in self.includes.get(word, ())}

    def words_of(self, permission: Permission) -> frozenset[str]:
        """Give every word of the venue that lets a key do this, as far as the manifest tells."""
        added = {each.right for each in self.adds if permission in each.opens}
        return frozenset(self.permissions.get(permission, ())) | added

    def unaccepted(self, grants: frozenset[str], accepted: frozenset[str]) -> list[AddedRight]:
        """Give the rights that the venue may add to a key of these words, and nobody has accepted."""
        return [each for each in self.adds if each.right not in accepted and each.is_news(grants)]
