"""For services that take keyturn's notices by HTTP: check the notice, sign the acknowledgement.

The scheme, for other languages: both directions carry the header

    Keyturn-Signature: t=<seconds since the epoch>,v1=<hex HMAC-SHA256>

over the bytes `<t>.<body>`, with the shared key. A message whose `t` is more than five minutes off is
refused; within them a repeated notice is harmless, for it says the same.

An acknowledgement carries a second header, in the same form and over the same bytes,

    Keyturn-Proof: t=<seconds since the epoch>,v1=<hex HMAC-SHA256>

whose key is `HMAC-SHA256(secret of the exchange's key, "keyturn webhook acknowledgement v1")`, as raw bytes;
the secret in UTF-8, without white space at its ends. Only who holds the new key can make it. Without it
keyturn knows that the notice arrived and no more, and the rotation waits. docs/bots.md has a worked example.

A receiver in full:

    async def hook(request):                                    # aiohttp; any framework does
        body = await request.read()
        notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
        if notice.consumer != "arb-bot":                        # its name in the inventory
            return web.Response(status=404)                     # a url that leads to the wrong bot
        if not my_bot.signed_call_worked_with(notice.fingerprint):
            return web.Response(status=202)                     # not yet; keyturn asks again
        body, headers = webhook.sign_ack(notice, KEY, secret=my_bot.secret_in_use)
        return web.Response(body=body, headers=headers)

`notice.query` is true when keyturn only asks how far the service is, which it does again before it
revokes the old key: calls that the new key was refused meanwhile go into `sign_ack(refusals=...)`. Refuse a
`BadSignatureError` with status 401.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keyturn.client.messages import Fingerprint, Name, NoticeMessage, RefusedCall
from keyturn.client.seal import sealing_key
from keyturn.domain.errors import KeyturnError
from keyturn.domain.evidence import MAX_REFUSALS, Notice

HEADER = "Keyturn-Signature"
#: Of the acknowledgement alone: shows that who gives it holds the new key.
PROOF_HEADER = "Keyturn-Proof"
#: Seconds that the clocks of the two machines may differ, and a message may be under way.
TOLERANCE = 300
_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")
_PURPOSE = "webhook acknowledgement"


class BadSignatureError(KeyturnError):
    """A message is not signed with the shared key, or too old, or not of the agreed form."""


class WebhookNotice(NoticeMessage):
    """A notice as it is posted. A key's fingerprint, never a key."""

    prefix: ClassVar[str] = "webhook"

    notice_id: str = Field(max_length=120)
    #: True: nothing new, keyturn asks whether the service has moved.
    query: bool = False

    @classmethod
    def about(cls, notice: Notice, *, query: bool) -> WebhookNotice:
        """Write down a notice for the wire."""
        plain = NoticeMessage.of(notice).model_dump()
        return cls(**plain, notice_id=notice.notice_id, query=query)


class Acknowledgement(BaseModel):
    """The answer of a service that moved: a signed call with this key worked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    #: Whose word it is: consumers may share a key for signatures, and all of a credential get its notice.
    credential: Name
    consumer: Name
    notice_id: str = Field(max_length=120)
    fingerprint: Fingerprint
    signed_call: Literal[True]
    #: Anything that helps a person; no secret.
    detail: str = Field("", max_length=200)
    #: Calls that the exchange has refused to this key since; they hold the revoke of the key before.
    refusals: tuple[RefusedCall, ...] = Field((), max_length=MAX_REFUSALS)


def sign(body: bytes, key: str, *, now: float | None = None) -> str:
    """Give the header's value for a body.

    Args:
        body: exactly the bytes that are sent.
        key: the shared key.
        now: seconds since the epoch; None for the clock.
    """
    return _signed(body, key.encode(), now)


def check_signature(body: bytes, header: str | None, key: str, *, now: float | None = None) -> None:
    """Hold a message against its signature, in constant time.

    Raises:
        BadSignatureError: it does not fit; the text says which part, and quotes nothing.
    """
    _check(body, header, key.encode(), now, "The message", HEADER, "is not signed with the shared key")


def prove(body: bytes, secret: str, *, now: float | None = None) -> str:
    """Give the value of `Keyturn-Proof` for the body of an acknowledgement.

    Args:
        body: exactly the bytes that are sent.
        secret: of the exchange's key that is acknowledged.
        now: seconds since the epoch; None for the clock.
    """
    return _signed(body, sealing_key(secret, _PURPOSE), now)


def check_proof(body: bytes, header: str | None, secret: str, *, now: float | None = None) -> datetime:
    """Hold an acknowledgement against its proof, in constant time, and give the instant of the proof.

    Raises:
        BadSignatureError: it does not fit; the text says which part, and quotes nothing.
    """
    of_another = "is not by the key that it is about, so whoever gave it does not hold that key"
    moment = _check(body, header, sealing_key(secret, _PURPOSE), now, "Its proof", PROOF_HEADER, of_another)
    return datetime.fromtimestamp(moment, UTC)


def verify(body: bytes, header: str | None, key: str, *, now: float | None = None) -> WebhookNotice:
    """Check and read a notice.

    Args:
        body: the request's bytes, before any parsing.
        header: the value of `Keyturn-Signature`, None if the request has none.
        key: the shared key.
        now: seconds since the epoch; None for the clock.

    Raises:
        BadSignatureError: answer 401 and do nothing.
    """
    check_signature(body, header, key, now=now)
    try:
        return WebhookNotice.model_validate_json(body)
    except ValidationError:
        raise BadSignatureError(
            "The message is signed, and no notice that this version understands.",
            todo="Upgrade keyturn on the older of the two sides.",
        ) from None


def sign_ack(
    notice: WebhookNotice, key: str, *, secret: str, detail: str = "", refusals: Sequence[RefusedCall] = ()
) -> tuple[bytes, dict[str, str]]:
    """Write the acknowledgement. Call it only after a signed call with the new key came back well.

    Args:
        notice: what `verify` gave.
        key: the shared key.
        secret: of the exchange's new key, as the bot signs with it. It does not leave the process.
        detail: for people, up to 200 characters.
        refusals: calls that the exchange refuses to the key for its rights or its address, up to 32, with
            each answer from then on. They hold the revoke of the old key until a person decides.

    Returns:
        Body and headers of the answer, whose status is 200.
    """
    ack = Acknowledgement(
        credential=notice.credential,
        consumer=notice.consumer,
        notice_id=notice.notice_id,
        fingerprint=notice.fingerprint,
        signed_call=True,
        detail=detail,
        refusals=tuple(refusals),
    )
    # Left out where there are none: a keyturn that does not know them yet refuses a field more.
    body = ack.model_dump_json(exclude=None if ack.refusals else {"refusals"}).encode()
    headers = {HEADER: sign(body, key), PROOF_HEADER: prove(body, secret)}
    return body, {"Content-Type": "application/json", **headers}


def _signed(body: bytes, key: bytes, now: float | None) -> str:
    moment = int(time.time() if now is None else now)
    return f"t={moment},v1={_digest(moment, body, key)}"


def _check(
    body: bytes, header: str | None, key: bytes, now: float | None, what: str, name: str, wrong: str
) -> int:
    match = _HEADER.fullmatch(header or "")
    if match is None:
        raise BadSignatureError(f"{what} has no {name} header of the form t=...,v1=....")
    moment = int(match[1])
    if not hmac.compare_digest(match[2], _digest(moment, body, key)):
        raise BadSignatureError(f"{what} {wrong}.")
    if abs((time.time() if now is None else now) - moment) > TOLERANCE:
        raise BadSignatureError(f"{what} was signed more than {TOLERANCE} s ago, or in the future.")
    return moment


def _digest(moment: int, body: bytes, key: bytes) -> str:
    return hmac.new(key, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
