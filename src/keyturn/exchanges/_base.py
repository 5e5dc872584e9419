"""What the drivers that stand on ccxt share: one call, judged."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeVar

from keyturn.bodies import UNREADABLE, seconds
from keyturn.domain.errors import KEY_FAULTS, ExchangeError, ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, Revocation
from keyturn.domain.manifest import DriverManifest
from keyturn.exchanges._bans import Ban, Bans
from keyturn.exchanges._client import Answer, CannotSignError, Client, Endpoint, Quiet, UnansweredError
from keyturn.exchanges._errors import INCOMPLETE, PAGES, ErrorTable, Refusal, Row, exchange_error
from keyturn.exchanges._fields import mapping
from keyturn.ports.exchange import Caller, KeyHandle

T = TypeVar("T")

_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500
_BARRED = 403
_HELD = "it was not asked, for it bars the address that calls of this account come from."
_PAUSED = "it was not asked, for it asked for fewer calls of this account and said for how long."
# A shorter pause is over before another call comes; venues count some limits by the second.
_SHORTEST_PAUSE = 1.0
_PEM = "-----BEGIN "
# Begins the code of an answer that is not in the venue's own form.
_HTTP = "HTTP "
# What grants comes with success: a gateway may show an earlier answer beside an error of its own.
_GRANTED = range(200, 300)
# Faults after which "there is no such key" is worth a look: venues word it in codes that stand for much else.
_MAYBE_ABSENT = frozenset({ExchangeFault.REJECTED, *KEY_FAULTS})


class CcxtDriver(ABC):
    """A venue that ccxt signs for; see `ExchangeDriver` for what each method promises.

    Args:
        manifest: the venue's `driver.toml`.
        url: another base URL of the API.
        environment: `testnet` takes the venue's own test environment.
        timeout: seconds to wait for an answer.
        rate_limit: keep to the venue's documented rates.
    """

    errors: ClassVar[ErrorTable]
    #: The call that creates a key.
    create: ClassVar[Endpoint]
    #: Codes that say, beyond doubt, that the key to revoke is not there.
    absent_codes: ClassVar[frozenset[str]] = frozenset()
    #: How ccxt is quieted; a venue may add to it.
    mixin: ClassVar[type[Quiet]] = Quiet

    def __init__(
        self,
        manifest: DriverManifest,
        *,
        url: str | None = None,
        environment: Literal["live", "testnet"] = "live",
        timeout: float = 10.0,
        rate_limit: bool = True,
    ) -> None:
        self._manifest = manifest
        #: By egress proxy: another address is barred, or not, by itself.
        self._bans: dict[str | None, Bans] = {}
        self._client = Client(
            manifest.ccxt_id,
            self.mixin,
            url=url,
            testnet=environment == "testnet",
            timeout=timeout,
            rate_limit=rate_limit,
        )

    @property
    def manifest(self) -> DriverManifest:
        """The venue's manifest."""
        return self._manifest

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the venue's words for exactly these permissions.

        Raises:
            ExchangeError: `NOT_SUPPORTED`, the venue has no word for one of them.
        """
        unknown = self._manifest.unsupported(permissions)
        if unknown:
            raise self._refused(
                "grant these permissions",
                ExchangeFault.NOT_SUPPORTED,
                f"it has no right for {', '.join(sorted(unknown))}.",
                todo="Take the permission out of the inventory.",
            )
        return self._manifest.grants_for(permissions)

    # -- the port ------------------------------------------------------------------------------

    @abstractmethod
    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask the venue what the calling key is and may do."""

    @abstractmethod
    async def private_read(self, caller: Caller) -> None:
        """Read the balance."""

    @abstractmethod
    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List all keys of the (sub-)account."""

    async def await_turn(self) -> None:
        """Wait until the venue's documented rate lets a create leave at once."""
        await self._client.await_turn(self.create)

    @abstractmethod
    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Make the venue create a key."""

    @abstractmethod
    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give an existing key the permissions, addresses and label of `spec`."""

    async def revoke_key(self, manager: Caller, key: KeyHandle) -> Revocation:
        """Make the venue delete a key. A key that is not there counts as done."""
        try:
            await self._revoke(manager, key)
        except ExchangeError as error:
            if error.code in self.absent_codes:
                return Revocation.ALREADY_ABSENT
            maybe = error.fault in _MAYBE_ABSENT or self._is_unlisted(error)
            if maybe and not await self._is_listed(manager, key):
                return Revocation.ALREADY_ABSENT
            raise
        return Revocation.REVOKED

    @abstractmethod
    async def server_time(self) -> datetime:
        """Ask the venue's clock, without a key."""

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    # -- what a venue says ---------------------------------------------------------------------

    @abstractmethod
    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        """Make the venue delete a key, or raise."""

    async def _judge(self, endpoint: Endpoint, row: Row, refusal: Refusal, caller: Caller | None) -> Row:
        """Tell apart what the venue does not, where one code stands for several faults."""
        return row

    # -- one call ------------------------------------------------------------------------------

    async def _ask(
        self,
        endpoint: Endpoint,
        read: Callable[[Any], T],
        params: Mapping[str, Any] | None = None,
        caller: Caller | None = None,
        within: float | None = None,
    ) -> T:
        """Make one call and give what `read` makes of the answer's body, which grants.

        The only place where an answer is read: whatever it holds ends in a value or in an `ExchangeError`.

        Args:
            endpoint: what to call.
            read: reads the body.
            params: of the call.
            caller: who signs.
            within: seconds in which the call must leave; its turn was taken before.

        Raises:
            ExchangeError: as the port says.
        """
        body = await self._call(endpoint, params, caller, within)
        try:
            return read(body)
        except UNREADABLE:
            pass
        # Outside of the handler: the error may quote what it could not read.
        raise self._failed(endpoint, INCOMPLETE)

    async def _call(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Any] | None,
        caller: Caller | None,
        within: float | None = None,
    ) -> Mapping[str, Any]:
        """Make one call and give the answer's body, which grants.

        Raises:
            ExchangeError: as the port says; `BARRED_REGION` unasked, while an earlier call's ban lasts.
        """
        if caller is not None:
            self._require_sendable(endpoint, caller)
        bans = self._bans.setdefault(caller.egress_proxy if caller else None, Bans(self._is_ban))
        asked_at = time.monotonic()

        async def call() -> Mapping[str, Any]:
            left = within if within is None else within - (time.monotonic() - asked_at)
            return await self._leave(endpoint, params, caller, left)

        return await bans.send(call, lambda ban: self._held(endpoint, ban))

    async def _leave(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Any] | None,
        caller: Caller | None,
        within: float | None,
    ) -> Mapping[str, Any]:
        """Send a call and judge its answer."""
        failure = None
        try:
            answer = await self._client.send(endpoint, params or {}, caller, within)
        except UnansweredError as error:
            failure = self._failed(endpoint, Row(error.fault, f"{error.reason}.", error.todo))
        except CannotSignError:
            words = "the stored secret cannot sign a call (cut off, or of another kind)."
            failure = self._refused(endpoint.action, ExchangeFault.CANNOT_SIGN, words)
        if failure is not None:
            raise failure
        body, refusal = self._read(endpoint, answer)
        if refusal is None:
            return body
        row = self.errors.judge(refusal, changes=endpoint.changes)
        row = await self._judge(endpoint, row, refusal, caller)
        if answer.status >= _FIRST_SERVER_ERROR and endpoint.changes:
            # Something behind the gateway failed, perhaps after the effect.
            row = Row(ExchangeFault.OUTCOME_UNKNOWN, row.words)
        # A call without a key bears no time; and the call that asks for the time is one.
        if row.fault is ExchangeFault.CLOCK_SKEW and caller is not None:
            row = await self._skew(row, refusal)
        raise self._failed(endpoint, row, refusal.code, refusal.retry_after)

    def _require_sendable(self, endpoint: Endpoint, caller: Caller) -> None:
        if not _is_sendable(caller):
            words = "what is stored is empty, or holds a line end or another character that no key has."
            raise self._refused(endpoint.action, ExchangeFault.CANNOT_SIGN, words)

    def _read(self, endpoint: Endpoint, answer: Answer) -> tuple[Mapping[str, Any], Refusal | None]:
        """Read an answer, or raise when it is not in the venue's own form."""
        try:
            body = mapping(answer.body)
            refusal = self.errors.refusal(body, answer.headers)
            if refusal is not None or answer.status in _GRANTED:
                return body, refusal
        except UNREADABLE:
            pass
        row = self.errors.status.get(answer.status) or PAGES.get(answer.status)
        if row is None:
            row = Row(ExchangeFault.OUTCOME_UNKNOWN, "what answered was not its API.")
        elif endpoint.changes and answer.status != _TOO_MANY_REQUESTS:
            # Whoever put a page in the answer's place may have let the request pass.
            row = replace(row, fault=ExchangeFault.OUTCOME_UNKNOWN)
        # Retry-After's other form, a date, is of no use with a wrong clock.
        pause = seconds(answer.headers.get("retry-after"))
        raise self._failed(endpoint, row, f"{_HTTP}{answer.status}", pause)

    async def _skew(self, row: Row, refusal: Refusal) -> Row:
        """Add by how much the clock is off."""
        there = refusal.server_time
        if there is None:
            try:
                there = await self.server_time()
            except ExchangeError:
                return row
        ahead = (datetime.now(UTC) - there).total_seconds()
        side = "ahead of" if ahead > 0 else "behind"
        return Row(row.fault, f"this machine's clock is {abs(ahead):.1f} s {side} the venue's.")

    def _is_unlisted(self, error: ExchangeError) -> bool:
        """Tell whether the venue answered in its own form, with a code that no row has."""
        code = error.code
        return bool(code) and not code.startswith(_HTTP) and self.errors.find(code, "") is None

    async def _is_listed(self, manager: Caller, key: KeyHandle) -> bool:
        listed = await self.list_keys(manager, key.subaccount)
        return any(facts.key_ref == key.key_ref for facts in listed)

    def _is_ban(self, error: ExchangeError) -> bool:
        """Tell whether an error says that the venue bars the address, whatever else it leaves open, or for
        how long it wants no calls.
        """
        if error.fault is ExchangeFault.RATE_LIMITED:
            return (error.retry_after or 0.0) >= _SHORTEST_PAUSE
        pages = {**PAGES, **self.errors.status}
        codes = {f"{_HTTP}{n}" for n, row in pages.items() if row.fault is ExchangeFault.BARRED_REGION}
        return error.fault is ExchangeFault.BARRED_REGION or error.code in codes

    def _held(self, endpoint: Endpoint, ban: Ban) -> ExchangeError:
        """Build the error for a call that does not leave, for another one was told to stay away."""
        limited = ban.fault is ExchangeFault.RATE_LIMITED
        page, words = (_TOO_MANY_REQUESTS, _PAUSED) if limited else (_BARRED, _HELD)
        row = replace(PAGES[page], words=words, pause=ban.seconds)
        return self._failed(endpoint, row, ban.code)

    # -- saying no -----------------------------------------------------------------------------

    def _failed(
        self, endpoint: Endpoint, row: Row, code: str = "", retry_after: float | None = None
    ) -> ExchangeError:
        return exchange_error(
            self._manifest,
            endpoint.action,
            row,
            changes=endpoint.changes,
            code=code,
            retry_after=retry_after,
        )

    def _refused(self, action: str, fault: ExchangeFault, words: str, todo: str = "") -> ExchangeError:
        """Build the error for something that was not even asked of the venue."""
        return exchange_error(self._manifest, action, Row(fault, words, todo), changes=False)

    def _check(self, action: str, spec: KeySpec) -> None:
        """Refuse, before anything is sent, what the venue's rules forbid.

        Raises:
            ExchangeError: `REJECTED` or `NOT_SUPPORTED`.
        """
        rules = self._manifest
        problem = ""
        if rules.subaccount == "none" and spec.subaccount:
            problem = "a manager key manages the keys of its own account only, and a sub-account is named."
        elif not rules.label.fits(spec.label):
            problem = f"the label does not fit its rules (at most {rules.label.max_length} characters)."
        elif len(spec.ip_allowlist) > rules.ip.max_entries:
            problem = f"a key takes at most {rules.ip.max_entries} addresses."
        elif not rules.ip.networks and any("/" in entry for entry in spec.ip_allowlist):
            problem = "a key takes single addresses only, no networks."
        elif not rules.ip.ipv6 and any(":" in entry for entry in spec.ip_allowlist):
            problem = "a key takes IPv4 addresses only."
        if problem:
            raise self._refused(action, ExchangeFault.REJECTED, problem, "Correct the inventory.")

    def _subaccount(self, action: str, subaccount: str | None) -> str:
        """Give the sub-account that the venue requires.

        Raises:
            ExchangeError: `REJECTED`, none is named.
        """
        if not subaccount:
            raise self._refused(
                action,
                ExchangeFault.REJECTED,
                "its API manages the keys of sub-accounts only, and none is named.",
                "Name the sub-account in the inventory.",
            )
        return subaccount


def _is_sendable(caller: Caller) -> bool:
    """Tell whether key and passphrase can travel in headers, and whether the secret is one that signs."""
    values = caller.material.reveal()
    key, secret, passphrase = values["api_key"], values["secret"], values.get("passphrase", "")
    # A private key in PEM has lines. Any other secret with one signs, and the venue refuses the signature.
    signs = secret.startswith(_PEM) or _is_plain(secret)
    return bool(key and secret) and _is_plain(key + passphrase) and signs


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
