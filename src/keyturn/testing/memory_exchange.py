"""The exchange fake: the whole port in memory, for tests of what stands on it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address, ip_network

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, Revocation
from keyturn.domain.manifest import Capabilities, Document, DriverManifest, IpRules, LabelRules
from keyturn.domain.material import SecretMaterial
from keyturn.ports.clock import Clock, SystemClock
from keyturn.ports.exchange import Caller, KeyHandle

# How far a caller's clock may be off, as at most venues.
_TOLERANCE_SECONDS = 30.0

#: A venue without a quirk: every permission there is, IP lists at creation, ten keys an account.
NEUTRAL = DriverManifest(
    code="memory",
    name="Memory",
    ccxt_id="none",
    subaccount="optional",
    capabilities=Capabilities(
        create="yes", list="yes", introspect="yes", edit="yes", revoke="yes", disable="no"
    ),
    label=LabelRules(max_length=32, separator="-", alphabet="[A-Za-z0-9_-]"),
    ip=IpRules(max_entries=20, networks=True, ipv6=True, set_at="creation"),
    permissions={permission: (permission.value,) for permission in Permission},
    manager_any_of=(Permission.MANAGE_KEYS,),
    max_keys=10,
    propagation_seconds=0.0,
    console_url="https://memory.invalid/keys",
    documents=(Document(title="This module", url="https://memory.invalid", read=date(2026, 11, 21)),),
)


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key as the exchange's books have it, without its secret."""

    key_ref: str
    handle: str
    subaccount: str | None
    label: str
    permissions: frozenset[Permission]
    ip_allowlist: frozenset[str]
    created_at: datetime
    #: Whether the API made it, and not a person.
    minted: bool


@dataclass(slots=True)
class _Row:
    key: LiveKey
    material: SecretMaterial
    #: The door knows the key from here, and until there.
    live_from: datetime
    live_until: datetime | None = None
    disabled: bool = False


@dataclass(slots=True)
class _Fault:
    method: str
    error: ExchangeError
    effect: bool
    times: int
    skip: int


class MemoryExchange:
    """An `ExchangeDriver` whose exchange is this object.

    Every method gives the event loop one turn before it acts, so that concurrent callers interleave.

    Args:
        manifest: the venue's rules, which are kept.
        clock: judges propagation and expiry.
        address: where calls without an egress proxy come from.
        egress: the address behind each egress proxy, by its URL.
        max_keys: keys that each (sub-)account may hold, in place of the manifest's.
        propagation_seconds: how long a new key is unknown and a revoked one still good, at the door; the
            books are up to date at once.
    """

    def __init__(
        self,
        manifest: DriverManifest = NEUTRAL,
        *,
        clock: Clock | None = None,
        address: str = "127.0.0.1",
        egress: Mapping[str, str] | None = None,
        max_keys: int | None = None,
        propagation_seconds: float = 0.0,
    ) -> None:
        self._manifest = manifest
        self._clock = clock or SystemClock()
        self._rows: dict[str, _Row] = {}
        self._books: list[list[LiveKey]] = []
        self._faults: list[_Fault] = []
        self._stale: list[int] = []
        self._number = 0
        self.address = address
        self.egress = dict(egress or {})
        self.max_keys = manifest.max_keys if max_keys is None else max_keys
        self.propagation_seconds = propagation_seconds
        #: Rights that each key made by the API gets on top; whether the exchange tells so.
        self.adds, self.tells_adds = frozenset[str](), False
        #: Seconds by which the exchange's clock is ahead of ours.
        self.clock_offset = 0.0
        #: Whether the door says of a refused key if it is unknown; Deribit's does not.
        self.tells_apart = True
        #: Every call: the method, and the key that signed it.
        self.calls: list[tuple[str, str]] = []

    # -- by hand, as a person in the web console, and as an honest witness -------------------------

    def add_key(
        self,
        permissions: Iterable[Permission],
        *,
        subaccount: str | None = None,
        ips: Iterable[str] = (),
        label: str = "",
    ) -> MintedKey:
        """Create a key as a person would; it is good at once."""
        spec = KeySpec(label, frozenset(permissions), frozenset(ips), subaccount)
        return self._mint(spec, spec.ip_allowlist, minted=False, lag=0.0)

    def kill_key(self, key_ref: str) -> None:
        """Delete a key as a person would, at once."""
        self._bury(self._rows[key_ref], lag=0.0)

    def disable_key(self, key_ref: str) -> None:
        """Switch a key off as a person would: it stays in the books, and can come back."""
        self._rows[key_ref].disabled = True

    def truth(self, subaccount: str | None = None) -> Mapping[str, LiveKey]:
        """Give the keys in the books of an account, by key ref, oldest first."""
        return {key.key_ref: key for key in self._listed() if key.subaccount == subaccount}

    def accepts(self, material: SecretMaterial) -> bool:
        """Tell whether the door lets this key in, from an allowed address."""
        row = self._rows.get(material.key_ref)
        return row is not None and self._is_live(row) and row.material == material and not row.disabled

    def fail(
        self,
        method: str,
        fault: ExchangeFault,
        *,
        effect: bool = False,
        times: int = 1,
        skip: int = 0,
        retry_after: float | None = None,
        unexplained: bool = False,
    ) -> None:
        """Let coming calls of a method fail.

        Args:
            method: a method of the port.
            fault: what the caller is told.
            effect: whether the call does its work all the same.
            times: how many calls fail.
            skip: how many calls go well first.
            retry_after: seconds that the caller is asked to wait.
            unexplained: whether the answer is one that no table explains.
        """
        error = _no(fault, "a test ordered it", retry_after)
        error.unexplained = unexplained
        self._faults.append(_Fault(method, error, effect, times, skip))

    def serve_stale_list(self, changes: int = 1, times: int = 1) -> None:
        """Let the next listings show the books as they were before the last so many changes."""
        self._stale += [changes] * times

    # -- the port ----------------------------------------------------------------------------------

    @property
    def manifest(self) -> DriverManifest:
        """The venue's manifest."""
        return self._manifest

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the manifest's words."""
        if unknown := self._manifest.unsupported(permissions):
            raise _no(ExchangeFault.NOT_SUPPORTED, f"there is no right for {', '.join(sorted(unknown))}")
        return self._manifest.grants_for(permissions)

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Tell the calling key about itself; see the port."""
        injected = await self._begin("introspect", caller)
        key = self._enter(caller).key
        self._end(injected)
        facts = self._facts(key)
        # Where addresses come after the creation, only a manager's list tells them, as at Deribit.
        return replace(facts, ip_allowlist=None) if self._manifest.ip.set_at == "after" else facts

    async def private_read(self, caller: Caller) -> None:
        """Let the key in and do nothing; see the port."""
        injected = await self._begin("private_read", caller)
        self._enter(caller)
        self._end(injected)

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List the keys of an account; see the port."""
        injected = await self._begin("list_keys", manager)
        self._enter_manager(manager)
        self._end(injected)
        listed = self._listed()
        if self._stale:
            listed = self._books[-min(self._stale.pop(0), len(self._books))] if self._books else listed
        return [self._facts(key) for key in listed if key.subaccount == subaccount]

    async def await_turn(self) -> None:
        """Go on at once: this venue has no rates."""
        await asyncio.sleep(0)

    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Create a key; see the port."""
        injected = await self._begin("create_key", manager)
        self._enter_manager(manager)
        self._check(spec)
        if self.max_keys is not None and len(self.truth(spec.subaccount)) >= self.max_keys:
            raise _no(ExchangeFault.KEY_QUOTA, "the account has as many keys as it may have")
        ips = spec.ip_allowlist if self._manifest.ip.set_at == "creation" else frozenset[str]()
        minted = self._mint(spec, ips, minted=True, lag=self.propagation_seconds)
        self._end(injected)
        return minted

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Change a key; see the port."""
        injected = await self._begin("edit_key", manager)
        self._enter_manager(manager)
        self._check(spec)
        row = self._find(key)
        if row is None:
            raise _no(ExchangeFault.REJECTED, "there is no such key")
        self._remember()
        row.key = replace(
            row.key, label=spec.label, permissions=spec.permissions, ip_allowlist=spec.ip_allowlist
        )
        self._end(injected)

    async def revoke_key(self, manager: Caller, key: KeyHandle) -> Revocation:
        """Delete a key; see the port."""
        injected = await self._begin("revoke_key", manager)
        self._enter_manager(manager)
        row = self._find(key)
        if row is not None:
            self._bury(row, lag=self.propagation_seconds)
        self._end(injected)
        return Revocation.ALREADY_ABSENT if row is None else Revocation.REVOKED

    async def server_time(self) -> datetime:
        """Tell the exchange's time."""
        self._end(await self._begin("server_time", None))
        return self._clock.now() + timedelta(seconds=self.clock_offset)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    # -- faults ------------------------------------------------------------------------------------

    async def _begin(self, method: str, caller: Caller | None) -> ExchangeError | None:
        """Count a call; raise the fault that keeps it from its effect, or give the one that follows it."""
        await asyncio.sleep(0)
        self.calls.append((method, caller.material.key_ref if caller else ""))
        for injected in self._faults:
            if injected.method != method:
                continue
            if injected.skip:
                injected.skip -= 1
                continue
            injected.times -= 1
            if not injected.times:
                self._faults.remove(injected)
            if injected.effect:
                return injected.error
            raise injected.error.with_traceback(None)
        return None

    @staticmethod
    def _end(injected: ExchangeError | None) -> None:
        if injected is not None:
            raise injected

    # -- the door ----------------------------------------------------------------------------------

    def _enter(self, caller: Caller) -> _Row:
        if abs(self.clock_offset) > _TOLERANCE_SECONDS:
            raise _no(ExchangeFault.CLOCK_SKEW, f"this machine's clock is {abs(self.clock_offset):.1f} s off")
        if not caller.material.reveal()["secret"].isascii():
            raise _no(ExchangeFault.CANNOT_SIGN, "the stored secret cannot sign")
        row = self._rows.get(caller.material.key_ref)
        unclear = None if self.tells_apart else ExchangeFault.UNCLEAR_REFUSAL
        if row is None or not self._is_live(row):
            raise _no(unclear or ExchangeFault.UNKNOWN_KEY, "it does not know the key")
        if row.material != caller.material or row.disabled:
            raise _no(unclear or ExchangeFault.KEY_REFUSED, "it refuses the key")
        address = self.egress[caller.egress_proxy] if caller.egress_proxy else self.address
        allowed = row.key.ip_allowlist
        if allowed and not any(ip_address(address) in ip_network(entry) for entry in allowed):
            raise _no(ExchangeFault.WRONG_IP, "the call came from an address that the key's list lacks")
        return row

    def _enter_manager(self, manager: Caller) -> None:
        key, rules = self._enter(manager).key, self._manifest
        if key.subaccount is not None or not key.permissions & set(rules.manager_any_of):
            raise _no(ExchangeFault.MISSING_PERMISSION, "the key may not manage keys")
        if rules.manager_needs_ip and not key.ip_allowlist:
            raise _no(ExchangeFault.MISSING_PERMISSION, "only a key that is bound to addresses may do it")

    def _check(self, spec: KeySpec) -> None:
        self.grants_for(spec.permissions)
        rules = self._manifest
        if not rules.label.fits(spec.label):
            raise _no(ExchangeFault.REJECTED, "the label does not fit")
        if len(spec.ip_allowlist) > rules.ip.max_entries:
            raise _no(ExchangeFault.REJECTED, "too many addresses")
        wanted = {"required": spec.subaccount is not None, "none": spec.subaccount is None}
        if not wanted.get(rules.subaccount, True):
            raise _no(ExchangeFault.REJECTED, f"a sub-account is {rules.subaccount}")

    def _is_live(self, row: _Row) -> bool:
        now, expires = self._clock.now(), self._expiry(row.key)
        ended = row.live_until is not None and now >= row.live_until
        return now >= row.live_from and not ended and not (expires and now >= expires)

    def _expiry(self, key: LiveKey) -> datetime | None:
        days = self._manifest.expiry_days_without_ip
        return None if days is None or key.ip_allowlist else key.created_at + timedelta(days=days)

    # -- the books ---------------------------------------------------------------------------------

    def _listed(self) -> list[LiveKey]:
        return [row.key for row in self._rows.values() if row.live_until is None]

    def _find(self, handle: KeyHandle) -> _Row | None:
        row = self._rows.get(handle.key_ref)
        here = row is not None and row.live_until is None and row.key.subaccount == handle.subaccount
        return row if here else None

    def _facts(self, key: LiveKey) -> KeyFacts:
        grants = self._manifest.grants_for(key.permissions) | (self.adds if key.minted else frozenset())
        return KeyFacts(
            key_ref=key.key_ref,
            grants=grants,
            permissions=key.permissions,
            ip_allowlist=key.ip_allowlist,
            label=key.label,
            account_uid=f"uid-{key.subaccount or 'main'}",
            parent_uid="uid-main" if key.subaccount else None,
            created_at=key.created_at,
            expires_at=self._expiry(key),
            added_here=self.adds if self.tells_adds else frozenset(),
            handle=key.handle,
        )

    def _mint(self, spec: KeySpec, ips: frozenset[str], *, minted: bool, lag: float) -> MintedKey:
        self._remember()
        self._number += 1
        now = self._clock.now().astimezone(UTC)
        passphrase = secrets.token_urlsafe(12) if self._manifest.needs_passphrase else None
        material = SecretMaterial(secrets.token_hex(8), secrets.token_hex(16), passphrase)
        key = LiveKey(
            key_ref=material.key_ref,
            handle=str(self._number),
            subaccount=spec.subaccount,
            label=spec.label,
            permissions=spec.permissions,
            ip_allowlist=ips,
            created_at=now,
            minted=minted,
        )
        self._rows[key.key_ref] = _Row(key, material, live_from=now + timedelta(seconds=lag))
        return MintedKey(material, key.key_ref, key.handle)

    def _bury(self, row: _Row, *, lag: float) -> None:
        self._remember()
        row.live_until = self._clock.now() + timedelta(seconds=lag)

    def _remember(self) -> None:
        """Keep the books as they are before a change, for listings that are out of date."""
        self._books.append(self._listed())


def _no(fault: ExchangeFault, words: str, retry_after: float | None = None) -> ExchangeError:
    unknown = fault is ExchangeFault.OUTCOME_UNKNOWN
    return ExchangeError(
        fault,
        f"Memory said no: {words}.",
        code=fault.value,
        retry_after=retry_after,
        now="Nobody knows yet whether it was done." if unknown else "Nothing was changed at the venue.",
        todo="Look again at the test that ordered it.",
    )
