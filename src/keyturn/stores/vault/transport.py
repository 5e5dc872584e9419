"""One call to the server: addresses in their order, bounded retries, redirects to listed hosts only.

It stands in the place of hvac's adapter, so that hvac's own logins go the same way. hvac follows
redirects with the token to any host, has no retries, and its documented ones leave out POST, which every
KV write is (seen with hvac 2.4.0 on the wire, 2026-11-21). It talks through urllib3 as hvac does, without
the layer of requests between them: that costs as much as the call.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import urllib3
from hvac.adapters import Adapter
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util.ssl_match_hostname import CertificateError

from keyturn.bodies import BodyError, read_json, seconds
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.machine import proxy_for, usable_proxy
from keyturn.stores.bounded import read_within
from keyturn.stores.unprinted import unprinted
from keyturn.stores.vault.faults import FOREIGN, misconfigured, off_the_list, silent

#: Calls in flight at most; as many connections are kept open.
LANES = 32
# Sends of one call, addresses and redirects included: about four seconds of patience in all. Longer waits
# are the engine's, which comes back later. Of more addresses each is tried, with room for a redirect.
_SENDS = 6
_PAUSES = (0.05, 0.2, 0.6, 1.2, 2.0)
# A server that asks for a longer pause than this is left alone until the engine comes back.
_LONGEST_PAUSE = 5.0
# 412, 472 and 473 are what Vault's replicas say who lag behind or only stand by; all three before any work.
# https://developer.hashicorp.com/vault/api-docs#http-status-codes (read 2026-11-21)
_NOT_TAKEN = frozenset({412, 429, 472, 473})
# From here on, and with a balancer's 408, the request may have been carried out before it was said: each
# balancer has numbers of its own up there.
_UNCLEAR_FROM, _TIMED_OUT = 500, 408
# One of them is in each body that comes with 200, be it null.
_IN_EVERY_ANSWER = frozenset({"data", "auth"})
# Any other error of TLS is a connection that broke, before the request, in it or in its answer.
_REFUSED_CERTIFICATE = (ssl.SSLCertVerificationError, CertificateError)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said in the end."""

    status: int
    body: Mapping[str, Any]
    #: Whether an earlier send of the same call may have been carried out.
    lost: bool = False
    date: str = ""

    @property
    def errors(self) -> str:
        """The server's own words, for comparing; never shown."""
        errors = self.body.get("errors")
        return " ".join(map(str, errors)) if isinstance(errors, list) else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """The `data` of the answer; empty where it is no object."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True, slots=True)
class _Failure:
    """A send without an answer that counts."""

    reason: str
    may_be_done: bool
    next_address: bool = True
    pause: float | None = None


class ListedAdapter(Adapter):  # type: ignore[misc]  # hvac has no types
    """hvac's adapter for a list of addresses. Safe for many threads; holds no token.

    Args:
        name: of the store, for messages.
        addresses: base URLs; the token is sent to no other.
        ca_file: CA bundle; None for the system's.
        timeout: seconds to wait for a connection, again for an answer, and again for the whole of it.
        pause: how to wait; a test needs no patience.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        *,
        namespace: str | None = None,
        ca_file: str | None = None,
        timeout: float = 10.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(base_uri=addresses[0], namespace=namespace, allow_redirects=False)
        self._name = name
        self._origins = [_origin(address) for address in addresses]
        self._bases = [address.rstrip("/") for address in addresses]
        self._timeout = timeout
        self._lines = [_line(name, address, ca_file, timeout) for address in addresses]
        self.preferred = 0
        self.pause = pause

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for line in self._lines:
            line.clear()
        super().close()

    def get_login_token(self, response: Answer) -> str:
        """Give the token of a login; part of hvac's interface."""
        return str(response.body["auth"]["client_token"])

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,
        **kwargs: Any,
    ) -> Answer:
        """Make a call for hvac; answers of every status are given back, as `call` does."""
        return self.call(method, url, body=kwargs.get("json"), params=kwargs.get("params"))

    def call(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        changes: bool = False,
    ) -> Answer:
        """Make a call, as often as it may be made.

        Args:
            method: the HTTP verb.
            url: path from `/v1/` on, with nothing in it to normalise.
            token: to be shown to the server.
            body: sent as JSON.
            params: of the query.
            changes: whether it matters that a send without an answer may have been carried out.

        Raises:
            StoreError: `UNAVAILABLE`, `MISCONFIGURED`; `OUTCOME_UNKNOWN` for a call that changes something.
        """
        lost, failure = False, _Failure("no address", may_be_done=False)
        for number in range(max(_SENDS, len(self._bases) + 1)):
            at = self.preferred
            outcome = self._send(at, method, url, token, body, params)
            if isinstance(outcome, Answer):
                return Answer(outcome.status, outcome.body, lost and changes, outcome.date)
            failure = outcome
            lost = lost or failure.may_be_done
            if failure.next_address:
                self.leave(at)
            if not self._wait(number, failure):
                break
        raise silent(self._name, failure.reason, may_be_done=lost and changes)

    def leave(self, at: int) -> None:
        """Prefer the next address, if this one is still preferred."""
        if self.preferred == at:
            self.preferred = (at + 1) % len(self._bases)

    def _wait(self, number: int, failure: _Failure) -> bool:
        """Pause before the next send; False when there should be none."""
        if failure.pause is not None:
            if failure.pause > _LONGEST_PAUSE:
                return False
            self.pause(failure.pause)
        elif number >= len(self._bases) - 1:
            # Each address is tried once before anybody waits; a sealed cluster stays sealed for longer.
            if failure.reason == _SEALED:
                return False
            if number < len(_PAUSES):
                self.pause(_PAUSES[number])
        return True

    def _send(
        self,
        at: int,
        method: str,
        url: str,
        token: str | None,
        body: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
    ) -> Answer | _Failure:
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        where = f"{self._bases[at]}{url}?{urlencode(params)}" if params else self._bases[at] + url
        try:
            response = self._lines[at].urlopen(
                method.upper(),
                where,
                body=content,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            content = read_within(response, self._timeout)
        except BodyError:
            return _FOREIGN
        except HTTPError as error:
            outcome = self._broken(error, self._origins[at])
        else:
            return self._judge(response, content)
        # Outside of the handler: what goes up from here has no context in which a token could stand.
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def _broken(self, error: HTTPError, origin: str) -> _Failure | StoreError:
        if isinstance(error, SSLError) and any(isinstance(a, _REFUSED_CERTIFICATE) for a in error.args):
            return misconfigured(
                f"The store {self._name} does not prove with its certificate that it is {origin}.",
                "Point `ca_file` of the store at the CA that signed it; see the address and the dates.",
            )
        if isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError):
            return _Failure(f"{origin} takes no connection", may_be_done=False)
        slow = isinstance(error, ReadTimeoutError)
        return _Failure("no answer in time" if slow else "the connection broke", may_be_done=True)

    def _judge(self, response: urllib3.BaseHTTPResponse, content: bytes) -> Answer | _Failure:
        status = response.status
        if status in _REDIRECTS:
            return self._redirected(response.headers.get("Location", ""))
        answer = Answer(status, _json(content), date=response.headers.get("Date", ""))
        if status in _NOT_TAKEN:
            # A busy server is as busy at its other address; the others have a leader that answers.
            return _Failure(
                f"HTTP {status}", may_be_done=False, next_address=status != 429, pause=_retry_after(response)
            )
        if status == 503 and "sealed" in answer.errors.lower():
            return _Failure(_SEALED, may_be_done=False)
        if status == 500 and "no space left" in answer.errors.lower():
            raise StoreError(
                StoreFault.NO_SPACE,
                f"The server of the store {self._name} has no space left.",
                now="Nothing was written.",
                todo="Make room for the server's storage.",
            )
        if status >= _UNCLEAR_FROM or status == _TIMED_OUT:
            return _Failure(f"HTTP {status}", may_be_done=True, pause=_retry_after(response))
        # The active node says "Upgrading from", one that waits for it "to upgrade from".
        if status == 400 and "from non-versioned" in answer.errors.lower():
            return _Failure("the mount is being upgraded", may_be_done=False, next_address=False)
        if status == 200 and not answer.body.keys() & _IN_EVERY_ANSWER:
            # A proxy's page, or half of an answer: who knows what the server did.
            return _FOREIGN
        if status == 404 and "data" not in answer.body and not isinstance(answer.body.get("errors"), list):
            # The server's own 404 has one of them. A proxy's must not be taken for an empty path.
            return _FOREIGN
        return answer

    def _redirected(self, location: str) -> _Failure:
        """Go on at the leader that a standby names, if the inventory names it, too."""
        host, origin = "", "nowhere"
        # A port or a host that can be none is a ValueError.
        with suppress(ValueError):
            host = urlsplit(location).hostname or ""
            origin = _origin(location) if host else self._origins[self.preferred]
        if origin not in self._origins:
            raise off_the_list(self._name, host if origin != "nowhere" else origin)
        self.preferred = self._origins.index(origin)
        return _Failure("redirected in a circle", may_be_done=False, next_address=False, pause=0.0)


_SEALED = "it is sealed"
_FOREIGN = _Failure(FOREIGN, may_be_done=True)


def _line(name: str, address: str, ca_file: str | None, timeout: float) -> urllib3.PoolManager:
    """Open the connections to an address; the environment's proxy is looked up once, here.

    Raises:
        StoreError: `MISCONFIGURED`, the proxy is none that can be used.
    """
    settings: dict[str, Any] = {
        "maxsize": LANES,
        "timeout": urllib3.Timeout(connect=timeout, read=timeout),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": ca_file,
    }
    proxy = proxy_for(address)
    if proxy is None:
        return unprinted(urllib3.PoolManager(**settings))
    if not usable_proxy(proxy):
        raise misconfigured(
            f"The environment names a proxy for the store {name} that is no HTTP proxy.",
            f"Set {urlsplit(address).scheme}_proxy to http://HOST:PORT, or name the server in no_proxy.",
        )
    login = urlsplit(proxy)
    if login.username:
        user = f"{unquote(login.username)}:{unquote(login.password or '')}"
        settings["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=user)
    return unprinted(urllib3.ProxyManager(proxy, **settings))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _json(content: bytes) -> Mapping[str, Any]:
    if not content:
        return {}
    try:
        body = read_json(content)
    except BodyError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    if (given := seconds(text)) is not None:
        return given
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
