"""The read-only check of a Vault store: server, clock, login, mount, and each right, missing or too much."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from secrets import token_hex
from typing import Any

from keyturn.bodies import seconds
from keyturn.domain.errors import StoreError
from keyturn.domain.slots import Slot
from keyturn.ports.store import Finding
from keyturn.stores.vault.session import Session
from keyturn.stores.vault.shelf import Shelf
from keyturn.stores.vault.transport import Answer

# A login signed by this clock is refused by AWS at five minutes; a clock this far off is broken already.
_CLOCK_SECONDS = 60.0
# Shorter than a rotation's longest single step would mean a login for every few calls.
_SHORT_LEASE_SECONDS = 60.0
# A promotion in its grace needs the version before; a fence may write one or two more.
_FEWEST_VERSIONS = 4
_POLICY = "Give its policy what is missing: infra/vault/rotator.hcl has it all."
_TOO_MUCH = "Take it out of the policy: infra/vault/rotator.hcl has all that is needed."
# What a login that may do it could take over the server with: its policies, mounts, logins and tokens.
_OTHERS = ("sys/policies/acl/keyturn", "sys/mounts/keyturn", "sys/auth/keyturn", "auth/token/create")
_KINDS = ("data", "metadata", "delete", "undelete", "destroy")
# All that a capability can be, from https://developer.hashicorp.com/vault/docs/concepts/policies#capabilities
# (read 2026-11-21); what is not needed at a path is too much there.


def check(session: Session, shelf: Shelf, paths: Sequence[str]) -> list[Finding]:
    """Look at everything that a rotation of these paths will need; writes nothing."""
    try:
        found = session.lookup()
    except StoreError as error:
        return [_failed("login", error)]
    findings = [_login(found), _clock(found)]
    try:
        shelf.kv.ensure_version_2()
        of_mount = shelf.kv.config()
    except StoreError as error:
        return [*findings, _failed(shelf.places.mount, error)]
    findings += _mount(shelf.places.mount, of_mount)
    for path in paths:
        try:
            findings += _path(shelf, path, of_mount or {})
        except StoreError as error:
            findings.append(_failed(path, error))
    return [*findings, *_beyond(shelf, paths)]


def _mount(mount: str, config: Mapping[str, Any] | None) -> Iterator[Finding]:
    if config is None:
        detail = "read is missing: how many versions the mount keeps, and for how long, cannot be told"
        yield Finding(f"{mount}/config", ok=False, detail=detail, todo=_POLICY)
        return
    # keyturn names it in every write; it is others who are held to it.
    cas = ", where every write names the version before it" if config.get("cas_required") else ""
    yield Finding(mount, ok=True, detail=f"a KV mount of version 2{cas}")
    if _ends_by_itself(config):
        detail = "the mount deletes versions after a time, the current ones, too"
        yield Finding(
            mount, ok=False, detail=detail, todo=f"vault write {mount}/config delete_version_after=0s"
        )


def _beyond(shelf: Shelf, paths: Sequence[str]) -> Iterator[Finding]:
    """Name what the login may do where keyturn has nothing to do."""
    mount, stranger = shelf.places.mount, f"kt{token_hex(8)}"
    config = f"{mount}/config"
    shown = {where: where for where in (config, *_OTHERS)}
    if all("/" in path for path in paths):
        # Where keys stand in folders, whatever else is on the mount is not keyturn's.
        shown |= {f"{mount}/{kind}/{stranger}": f"{mount}/{kind}/*" for kind in _KINDS}
    try:
        held = shelf.kv.capabilities(list(shown)) or {}
    except StoreError:
        return  # the findings before tell
    for where, has in held.items():
        more = sorted(has - {"deny"} - ({"read"} if where == config else set()))
        if more and "root" not in has:
            yield Finding(shown[where], ok=False, detail=f"{', '.join(more)} is too much", todo=_TOO_MUCH)


def _failed(subject: str, error: StoreError) -> Finding:
    return Finding(subject, ok=False, detail=error.what, todo=error.todo)


def _login(found: Answer) -> Finding:
    if found.status != 200:
        return Finding("login", ok=False, detail="the login may not look itself up", todo=_POLICY)
    data = found.data
    ttl, policies = seconds(data.get("ttl")) or 0.0, data.get("policies")
    policies = policies if isinstance(policies, list) else []
    if "root" in policies:
        todo = "Log in with infra/vault/rotator.hcl; a root token is for setting a server up."
        return Finding("login", ok=False, detail="a root token, which may do everything", todo=todo)
    renewable = "renewable" if data.get("renewable") else "not renewable"
    detail = f"{', '.join(map(str, policies))}; {f'{ttl:.0f} s left' if ttl else 'no end'}, {renewable}"
    if 0 < (seconds(data.get("creation_ttl")) or 0) < _SHORT_LEASE_SECONDS:
        return Finding("login", ok=False, detail=detail, todo="Give the role a token_ttl of an hour or so.")
    return Finding("login", ok=True, detail=detail)


def _clock(found: Answer) -> Finding:
    try:
        ahead = time.time() - parsedate_to_datetime(found.date).timestamp()
    except (ValueError, OverflowError):
        return Finding("clock", ok=True, detail="the server does not tell its time")
    ok = abs(ahead) <= _CLOCK_SECONDS
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    return Finding("clock", ok=ok, detail=detail, todo="" if ok else "Let both follow a time server.")


def _path(shelf: Shelf, path: str, of_mount: Mapping[str, Any]) -> Iterator[Finding]:
    needed = _needed(shelf, path)
    held = shelf.kv.capabilities(list(needed))
    if held is None:
        yield Finding(path, ok=False, detail="the login may not ask for its capabilities", todo=_POLICY)
    else:
        yield from _rights(path, needed, held)
    current = shelf.current(path)
    slots = [f"{Slot.CURRENT} {current.version}"] if current.version else []
    if current.version and current.meta is None:
        slots = [f"{Slot.CURRENT} holds a secret that keyturn did not write"]
    shelf.pending(path)
    yield Finding(path, ok=True, detail=", ".join(slots) or "nothing is stored yet")
    where = shelf.places.current(path)
    yield from _settings(
        path, f"-mount={shelf.places.mount} {where}", shelf.kv.metadata(where) or {}, of_mount
    )


def _needed(shelf: Shelf, path: str) -> Mapping[str, frozenset[str]]:
    mount, current = shelf.places.mount, shelf.places.current(path)
    pending = shelf.places.pending(path)
    data, update, read = frozenset({"create", "read", "update"}), frozenset({"update"}), frozenset({"read"})
    return {
        f"{mount}/data/{current}": data,
        f"{mount}/data/{pending}": data,
        f"{mount}/destroy/{current}": update,
        f"{mount}/destroy/{pending}": update,
        f"{mount}/metadata/{current}": read,
        f"{mount}/metadata/{pending}": frozenset(),
        f"{mount}/delete/{current}": frozenset(),
        f"{mount}/undelete/{current}": frozenset(),
        f"{mount}/delete/{pending}": frozenset(),
        f"{mount}/undelete/{pending}": frozenset(),
        "auth/token/renew-self": update,
    }


def _rights(
    path: str, needed: Mapping[str, frozenset[str]], held: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    well = True
    for where, needs in needed.items():
        has = held[where] - {"deny"}
        if "root" in has:
            continue  # the root token is a finding of its own
        missing, more = sorted(needs - has), sorted(has - needs)
        if missing:
            yield Finding(where, ok=False, detail=f"{', '.join(missing)} is missing", todo=_POLICY)
        # Vault's default policy gives every login more on its own token than is needed.
        if more and not where.startswith("auth/"):
            yield Finding(where, ok=False, detail=f"{', '.join(more)} is too much", todo=_TOO_MUCH)
        well = well and not missing
    if well:
        yield Finding(path, ok=True, detail="every right that a rotation needs is there")


def _settings(
    path: str, place: str, of_path: Mapping[str, Any], of_mount: Mapping[str, Any]
) -> Iterator[Finding]:
    """Name settings that would lose a key.

    Args:
        path: of the credential.
        place: the same, as the server's command line takes it.
        of_path: the metadata there.
        of_mount: the configuration of the mount.
    """
    # The server keeps as many as the larger of the two says, and ten where both say nothing.
    most = max(_count(of_path), _count(of_mount))
    if 0 < most < _FEWEST_VERSIONS:
        detail = f"only {most} versions are kept: the previous key may be gone before its grace is over"
        yield Finding(path, ok=False, detail=detail, todo=f"vault kv metadata put -max-versions=10 {place}")
    if _ends_by_itself(of_path) and not _never_ends(of_mount):
        detail = "the server deletes versions after a time, the current one, too"
        todo = f"vault kv metadata put -delete-version-after=0s {place}"
        yield Finding(path, ok=False, detail=detail, todo=todo)


def _count(settings: Mapping[str, Any]) -> int:
    most = settings.get("max_versions")
    return most if isinstance(most, int) else 0


def _ends_by_itself(settings: Mapping[str, Any]) -> bool:
    return not _never_ends(settings) and str(settings.get("delete_version_after") or "0s") != "0s"


def _never_ends(settings: Mapping[str, Any]) -> bool:
    # A negative time at the mount puts those of the paths out of force.
    return str(settings.get("delete_version_after") or "").startswith("-")
