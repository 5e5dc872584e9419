"""The difference between two keys in what they may do, from where, and for how long; pure.

Lost is what the first key can do and the second cannot in any way. A right is told in keyturn's word where
there is one, and in the venue's where there is none, so that no right passes unseen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

from keyturn.domain.keys import KeyFacts, Permission, normal_ips
from keyturn.domain.manifest import DriverManifest

#: What a key without an address list has, and a bound one has not.
ANY_ADDRESS = "any address"
_NEVER = "never"


@dataclass(frozen=True, slots=True)
class KeySide:
    """One side of a comparison: a key that lives, or one that would be made."""

    grants: frozenset[str]
    permissions: frozenset[Permission]
    #: Empty: the key works from anywhere. None: nobody told.
    addresses: frozenset[str] | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that both keys have, and that differs."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second key lacks, has on top, and has in another form."""

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    #: Those of `removed` that the second key can do in no other way: a network that holds an address
    #: that was listed alone takes nothing away.
    lost: frozenset[str] = frozenset()
    #: Whether the addresses of both are known.
    addresses_known: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the two are alike."""
        return not (self.removed or self.added or self.changed)


def side_of(facts: KeyFacts) -> KeySide:
    """Give a key that the venue told of."""
    return KeySide(facts.grants, facts.permissions, facts.ip_allowlist, facts.expires_at)


def declared_side(
    manifest: DriverManifest,
    grants: frozenset[str],
    permissions: frozenset[Permission],
    addresses: frozenset[str],
    accepts: frozenset[str],
    now: datetime,
) -> KeySide:
    """Give the key that a mint would make now, with the accepted rights that the venue may add."""
    given = [each for each in manifest.adds if each.right in accepts]
    days = manifest.expiry_days_without_ip
    return KeySide(
        grants | {each.right for each in given},
        permissions | {permission for each in given for permission in each.opens},
        addresses,
        now + timedelta(days=days) if days is not None and not addresses else None,
    )


def compare(manifest: DriverManifest, before: KeySide, after: KeySide) -> Difference:
    """Tell what differs between two keys of one venue."""
    removed, added = _missing(manifest, before, after), _missing(manifest, after, before)
    lost = set(removed)
    addresses_known = before.addresses is not None and after.addresses is not None
    if before.addresses is not None and after.addresses is not None:
        removed += _left_out(before.addresses, after.addresses)
        added += _left_out(after.addresses, before.addresses)
        lost |= _unreached(before.addresses, after.addresses)
    changed = []
    if (was := _date(before.expires_at)) != (then := _date(after.expires_at)):
        changed.append(Change("expires", was, then))
    return Difference(tuple(removed), tuple(added), tuple(changed), frozenset(lost), addresses_known)


def normal_names(names: Iterable[str]) -> frozenset[str]:
    """Bring names of rights and addresses into the form in which a difference has them."""
    return frozenset(_normal(name.strip()) for name in names if name.strip())


def names_text(names: Iterable[str]) -> str:
    """Write names as one text, as the journal keeps them."""
    return ", ".join(sorted(names))


def read_names(text: str | None) -> frozenset[str]:
    """Read what `names_text` wrote, or a person typed."""
    return normal_names((text or "").split(","))


def _normal(name: str) -> str:
    try:
        return next(iter(normal_ips([name])))
    except ValueError:
        return name


def _missing(manifest: DriverManifest, one: KeySide, other: KeySide) -> list[str]:
    """Give what the one may do and the other may not; keyturn's words first."""
    words = one.grants - manifest.limits - manifest.covered(other.grants)
    # A key that is limited now can look, and nothing else.
    limited = bool(manifest.limits & other.grants - one.grants)
    lacks = set()
    for permission in one.permissions - other.permissions:
        held = one.grants & manifest.words_of(permission) - manifest.limits
        if limited or (held & words if held else words):
            lacks.add(permission)
    told = frozenset(word for permission in lacks for word in manifest.words_of(permission))
    names = sorted(map(str, lacks))
    return [*names, *sorted(words - told - set(names))]


def _left_out(one: frozenset[str], other: frozenset[str]) -> list[str]:
    """Give the entries of a list that another has not; no list is an entry of its own."""
    if not one:
        return [ANY_ADDRESS] if other else []
    return sorted(one - other)


def _unreached(before: frozenset[str], after: frozenset[str]) -> frozenset[str]:
    """Give the entries of a list that another lets in neither alone nor by a wider network."""
    if not after:
        return frozenset()
    if not before:
        return frozenset({ANY_ADDRESS})
    networks = [ip_network(entry) for entry in after]
    return frozenset(e for e in before if not any(_within(ip_network(e), wide) for wide in networks))


def _within(narrow: IPv4Network | IPv6Network, wide: IPv4Network | IPv6Network) -> bool:
    if isinstance(narrow, IPv4Network):
        return isinstance(wide, IPv4Network) and narrow.subnet_of(wide)
    return isinstance(wide, IPv6Network) and narrow.subnet_of(wide)


def _date(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else _NEVER
