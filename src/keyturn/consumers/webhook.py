"""A service that is told by HTTP. The wire format is `keyturn.client.webhook`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from pydantic import ValidationError
from yarl import URL

from keyturn.bodies import WEBHOOK_LIMIT, Body, BodyError
from keyturn.client.webhook import (
    HEADER,
    Acknowledgement,
    BadSignatureError,
    WebhookNotice,
    check_signature,
    sign,
)
from keyturn.domain.errors import ConsumerError, ConsumerFault, KeyturnError
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.ports.store import Finding

# The service is there and asks to be told later: the notice is sent again, as after an unknown outcome.
_LATER = frozenset({408, 425, 429})
_UNDO_NOTHING = "Notices are idempotent; it is sent again."


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    signature: str | None
    body: bytes


class HttpConsumer:
    """Posts signed notices, and takes signed acknowledgements.

    Args:
        name: of the consumer.
        url: that takes the POST.
        key: gives the shared key; called when it is needed.
        timeout: seconds for a call as a whole.
    """

    can_probe = False

    def __init__(self, name: str, url: str, key: Callable[[], str], *, timeout: float) -> None:
        self._name = name
        self._url = URL(url)
        self._key = key
        self._timeout = timeout

    async def notify(self, notice: Notice) -> None:
        """Post the notice; see the port. An acknowledgement in the answer is asked for again later."""
        self._accepted(await self._post(notice, query=False))

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Ask whether the service moved; see the port."""
        ack = await self._asked(notice)
        if ack is None:
            return []
        return [
            Confirmation(
                self._name,
                notice.rotation_id,
                ack.fingerprint,
                Evidence.ACK,
                datetime.now(UTC),
                detail=ack.detail,
            )
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Ask the service, which tells them with its acknowledgement; see the port."""
        ack = await self._asked(notice)
        return [call.about(notice) for call in ack.refusals] if ack is not None else []

    async def _asked(self, notice: Notice) -> Acknowledgement | None:
        """Ask how far the service is; None while it has not acknowledged this very notice."""
        answer = self._accepted(await self._post(notice, query=True))
        if answer.status != 200:
            return None
        ack = self._acknowledgement(answer)
        given = (ack.credential, ack.consumer, ack.notice_id, ack.fingerprint)
        return ack if given == (notice.credential, self._name, notice.notice_id, notice.fingerprint) else None

    async def request_probe(self, request: ProbeRequest) -> None:
        """Refuse: there is no protocol for it; see the port."""
        raise ConsumerError(
            ConsumerFault.REFUSED,
            f"{self._name} is a webhook; it cannot try {request.credential}'s pending key.",
        )

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Give None; see the port."""
        return None

    async def check(self) -> Sequence[Finding]:
        """Look whether the key is there and the address takes connections; nothing is sent."""
        subject = f"consumer {self._name}: {self._url.origin()}"
        try:
            self._secret()
        except ConsumerError as error:
            return [Finding(subject, ok=False, detail=error.what, todo=error.todo)]
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(self._url.raw_host, self._url.port)
        except (OSError, TimeoutError) as error:
            todo = "Start the service, or correct its url."
            return [Finding(subject, ok=False, detail=f"no connection ({type(error).__name__})", todo=todo)]
        writer.close()
        return [Finding(subject, ok=True, detail="takes connections")]

    async def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    def _secret(self) -> str:
        try:
            return self._key()
        except KeyturnError as error:
            raise ConsumerError(
                ConsumerFault.MISCONFIGURED, f"The hmac_key of {self._name}: {error.what}", todo=error.todo
            ) from None

    async def _post(self, notice: Notice, *, query: bool) -> _Answer:
        body = WebhookNotice.about(notice, query=query).model_dump_json().encode()
        headers = {"Content-Type": "application/json", HEADER: sign(body, self._secret())}
        try:
            # A session a call: no connection that the other side may just have closed, no cookie, and
            # (trust_env is off) no proxy from the environment.
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=self._timeout), auto_decompress=False
                ) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return _Answer(response.status, response.headers.get(HEADER), await _bounded(response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ConsumerError(
                ConsumerFault.UNREACHABLE,
                f"{self._name} at {self._url.origin()} takes no connection ({type(error).__name__}).",
                now="It was not told.",
                todo="Start the service, or correct its url.",
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConsumerError(
                ConsumerFault.OUTCOME_UNKNOWN,
                f"{self._name} at {self._url.origin()} gave no whole answer ({type(error).__name__}).",
                now=_UNDO_NOTHING,
            ) from None

    def _accepted(self, answer: _Answer) -> _Answer:
        if 200 <= answer.status < 300:
            return answer
        if answer.status >= 500 or answer.status in _LATER:
            raise ConsumerError(
                ConsumerFault.OUTCOME_UNKNOWN,
                f"{self._name} answered with HTTP status {answer.status}.",
                now=_UNDO_NOTHING,
            )
        moved = 300 <= answer.status < 400
        raise ConsumerError(
            ConsumerFault.REFUSED,
            f"{self._name} answered with HTTP status {answer.status}.",
            now="It did not take the notice.",
            todo="Put the final address into url: redirects are not followed."
            if moved
            else "See that both sides have the same hmac_key and clocks, and what the service logs.",
        )

    def _acknowledgement(self, answer: _Answer) -> Acknowledgement:
        try:
            check_signature(answer.body, answer.signature, self._secret())
            return Acknowledgement.model_validate_json(answer.body)
        except BadSignatureError as error:
            problem = error.what
        except ValidationError:
            problem = "It is signed, and no acknowledgement."
        raise ConsumerError(
            ConsumerFault.REFUSED,
            f"The acknowledgement of {self._name} does not count: {problem}",
            now="The consumer stays unconfirmed.",
            todo="Build it with keyturn.client.webhook.sign_ack; answer 202 while there is none.",
        ) from None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    try:
        body = Body(WEBHOOK_LIMIT, response.headers.get("Content-Encoding", ""))
        async for chunk in response.content.iter_any():
            body.feed(chunk)
        return body.whole()
    except BodyError:
        response.close()
    raise aiohttp.ClientPayloadError("the answer is too long, or cannot be unpacked")
