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
    PROOF_HEADER,
    Acknowledgement,
    BadSignatureError,
    WebhookNotice,
    check_proof,
    check_signature,
    sign,
)
from keyturn.consumers import doubts
from keyturn.consumers.opened import key_of
from keyturn.domain.errors import ConsumerError, ConsumerFault, KeyturnError
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.ports.consumer import ReadKey
from keyturn.ports.store import Finding

# The service is there and asks to be told later: the notice is sent again, as after an unknown outcome.
_LATER = frozenset({408, 425, 429})
_UNDO_NOTHING = "Notices are idempotent; it is sent again."
_UNCONFIRMED = "The consumer stays unconfirmed."
_TODO = "Build it with keyturn.client.webhook.sign_ack; answer 202 while there is none."
#: The detail of what a service says that shows no proof of the key: it was told, and no more is known.
UNPROVED = (
    f"it acknowledged without {PROOF_HEADER}: nothing shows that it holds the new key (docs/bots.md has the"
    " header, and sign_ack(..., secret=...) writes it)"
)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    signature: str | None
    proof: str | None
    body: bytes


class HttpConsumer:
    """Posts signed notices, and takes signed acknowledgements.

    Who acknowledges shows with a second signature that it holds the new key; see `confirmations`.

    Args:
        name: of the consumer.
        url: that takes the POST.
        key: gives the shared key; called when it is needed.
        timeout: seconds for a call as a whole.
        read_current: opens the credential's current slot.
    """

    can_probe = False

    def __init__(
        self, name: str, url: str, key: Callable[[], str], *, timeout: float, read_current: ReadKey
    ) -> None:
        self._name = name
        self._url = URL(url)
        self._key = key
        self._timeout = timeout
        self._read_current = read_current

    async def notify(self, notice: Notice) -> None:
        """Post the notice; see the port. An acknowledgement in the answer is asked for again later."""
        self._accepted(await self._post(notice, query=False))

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Ask whether the service moved; see the port.

        One that knows the shared key alone was told, and proves nothing of the new key.
        """
        said = await self._asked(notice)
        if said is None:
            return []
        ack, answer = said
        now = datetime.now(UTC)
        grade, detail = Evidence.TIMED, UNPROVED
        if answer.proof is not None:
            await self._hold_to_proof(notice, answer, now)
            grade, detail = Evidence.ACK, ack.detail
        return [Confirmation(self._name, notice.rotation_id, ack.fingerprint, grade, now, detail=detail)]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Ask the service, which tells them with its acknowledgement; see the port.

        The shared key is enough for that: no stranger has it, and what is told only holds a revoke.
        """
        said = await self._asked(notice)
        return [call.about(notice) for call in said[0].refusals] if said is not None else []

    async def _asked(self, notice: Notice) -> tuple[Acknowledgement, _Answer] | None:
        """Ask how far the service is; None while it does not acknowledge."""
        answer = self._accepted(await self._post(notice, query=True))
        if answer.status != 200:
            return None
        ack = self._acknowledgement(answer)
        if why := doubts.of_another(notice, ack.credential, ack.consumer, ack.notice_id, ack.fingerprint):
            raise self._discounted(f"{why}.")
        return ack, answer

    async def _hold_to_proof(self, notice: Notice, answer: _Answer, now: datetime) -> None:
        """Hold an acknowledgement against the new key, and against the time of its notice.

        Raises:
            ConsumerError: `UNAUTHENTICATED`: it does not count; `UNREACHABLE`: the key cannot be read.
        """
        key = await key_of(
            notice,
            self._read_current,
            now="The acknowledgement could not be checked; it is asked for again.",
            otherwise=ConsumerFault.UNREACHABLE,
        )
        try:
            at = check_proof(answer.body, answer.proof, key.material.reveal()["secret"])
        except BadSignatureError as error:
            raise self._discounted(error.what) from None
        if why := doubts.of_another_time(notice, at, now):
            raise self._discounted(f"{why}.")

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
                found = response.headers
                return _Answer(
                    response.status, found.get(HEADER), found.get(PROOF_HEADER), await _bounded(response)
                )
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
        raise self._discounted(problem) from None

    def _discounted(self, why: str) -> ConsumerError:
        why = why.removesuffix(".")
        return doubts.discounted("acknowledgement", self._name, why, now=_UNCONFIRMED, todo=_TODO)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    try:
        body = Body(WEBHOOK_LIMIT, response.headers.get("Content-Encoding", ""))
        async for chunk in response.content.iter_any():
            body.feed(chunk)
        return body.whole()
    except BodyError:
        response.close()
    raise aiohttp.ClientPayloadError("the answer is too long, or cannot be unpacked")
