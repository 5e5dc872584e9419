"""Makes one signed call from where the bot stands, beside the bot's own calls and not in their way."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from keyturn.client.hooked import FIELDS
from keyturn.client.link import Link
from keyturn.client.refusal import CannotSignError, fault_of
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.material import SecretMaterial

#: Faults that say nothing about the key.
PASSING = frozenset(
    {
        ExchangeFault.RATE_LIMITED,
        ExchangeFault.VENUE_DOWN,
        ExchangeFault.OUTCOME_UNKNOWN,
        ExchangeFault.CLOCK_SKEW,
        ExchangeFault.BARRED_REGION,
    }
)

# ccxt logs every request at DEBUG, headers included, and OKX's passphrase is one. What the bot's own calls
# log is the bot's affair; ours log nothing. This logger belongs to no tree and is off.
_SILENCE = logging.Logger("ccxt")  # noqa: LOG001 - on purpose outside the tree
_SILENCE.disabled = True


def twin_of(link: Link, material: SecretMaterial) -> Any:
    """Copy the exchange object, unhooked and with other values, so that calls take the bot's own way out.

    The copy shares the connections (their adapters and proxies) and an async one the rate limiter; what
    it remembers (cookies, last answers, markets) is its own.
    """
    exchange = link.exchange
    if link.is_async:
        exchange.open()
    twin = link.plain_copy()
    twin.options = {k: dict(v) if isinstance(v, dict) else v for k, v in exchange.options.items()}
    twin.verbose = False
    twin.logger = _SILENCE
    twin.enableLastHttpResponse = False
    if not link.is_async:
        twin.session = copy.copy(exchange.session)
        twin.session.cookies = copy.copy(exchange.session.cookies)
    values = material.reveal()
    for ours, theirs in FIELDS.items():
        if ours in values:
            setattr(twin, theirs, values[ours])
    twin.sign = _signing(twin.sign)
    return twin


def _signing(sign: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a key that cannot sign (a PEM that was cut off) from whatever else ends a call."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        # Each library has errors of its own, and some quote the key.
        with suppress(Exception):
            return sign(*args, **kwargs)
        raise CannotSignError

    return guarded


def try_key(link: Link, material: SecretMaterial, method: str) -> Future[ExchangeFault | None] | None:
    """Call `method` with this material. Returns at once.

    Returns:
        What will hold None if the call worked, else the fault; None while an async exchange's loop
        does not run.
    """
    if link.is_async:
        loop = link.loop
        return asyncio.run_coroutine_threadsafe(_try_async(link, material, method), loop) if loop else None
    future: Future[ExchangeFault | None] = Future()

    def run() -> None:
        try:
            getattr(twin_of(link, material), method)()
        except BaseException as error:  # noqa: BLE001 - every failure of the call is the answer
            future.set_result(fault_of(error, link.exchange))
        else:
            future.set_result(None)

    threading.Thread(target=run, name="keyturn-trial", daemon=True).start()
    return future


async def _try_async(link: Link, material: SecretMaterial, method: str) -> ExchangeFault | None:
    twin = twin_of(link, material)
    try:
        await getattr(twin, method)()
    except Exception as error:  # noqa: BLE001 - every failure of the call is the answer
        return fault_of(error, link.exchange)
    finally:
        # The connections are the bot's: the copy must neither close them nor complain about them.
        twin.session = twin.socks_proxy_sessions = twin.tcp_connector = None
    return None
