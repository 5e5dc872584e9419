from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from keyturn.client import webhook
from keyturn.client.webhook import BadSignatureError
from keyturn.consumers.webhook import HttpConsumer
from keyturn.domain.errors import ConsumerError, ConsumerFault, RefusedError
from keyturn.domain.evidence import Evidence, Notice, NoticeKind
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored

KEY = "not-a-real-hmac-key-1"
NOTICE = Notice(
    "mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1)
)


class Service:
    """Answers each request with `answer(request, body)`, and remembers all."""

    def __init__(self):
        self.answer = lambda request, body: web.Response(status=202)
        self.requests = []

    async def handle(self, request):
        body = await request.read()
        self.requests.append((request, body))
        answer = self.answer(request, body)
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture
async def service():
    service = Service()
    runner = web.ServerRunner(web.Server(service.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?tenant=1"
    yield service
    await runner.cleanup()


SECRET = "not-a-real-secret-1"


async def the_key():
    meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "7", None, meta), SecretMaterial("key-1", SECRET))


def consumer(service, key=KEY, timeout=5.0):
    return HttpConsumer("bot", service.url, lambda: key, timeout=timeout, read_current=the_key)


async def fault_of(call):
    with pytest.raises(ConsumerError) as caught:
        await call
    assert KEY not in caught.value.diagnostics()
    return caught.value.fault


async def test_a_receiver_in_ten_lines_takes_the_notice_and_confirms(service):
    running_on = "fp0"

    def hook(request, body):
        notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
        if notice.fingerprint != running_on:
            return web.Response(status=202)
        body, headers = webhook.sign_ack(notice, KEY, secret=SECRET, detail="order placed")
        return web.Response(body=body, headers=headers)

    service.answer = hook
    bot = consumer(service)
    await bot.notify(NOTICE)
    assert await bot.confirmations(NOTICE) == []
    running_on = "fp1"
    (proof,) = await bot.confirmations(NOTICE)
    assert (proof.consumer, proof.rotation_id, proof.fingerprint) == ("bot", "r1", "fp1")
    assert (proof.evidence, proof.detail) == (Evidence.ACK, "order placed")
    asked = [webhook.verify(b, r.headers[webhook.HEADER], KEY).query for r, b in service.requests]
    assert asked == [False, True, True]


async def test_an_acknowledgement_of_an_older_library_tells_no_refused_calls(service):
    def hook(request, body):
        notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
        body, headers = webhook.sign_ack(notice, KEY, secret=SECRET)
        assert b"refusals" not in body
        return web.Response(body=body, headers=headers)

    service.answer = hook
    assert await consumer(service).refusals(NOTICE) == []


async def test_the_signature_is_what_the_documentation_says(service):
    import hashlib
    import hmac

    await consumer(service).notify(NOTICE)
    ((request, body),) = service.requests
    stamp, digest = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", request.headers["Keyturn-Signature"]).groups()
    assert abs(int(stamp) - time.time()) < 5
    assert digest == hmac.new(KEY.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("age", [301, -301])
def test_an_old_or_future_message_is_refused(age):
    body = b"{}"
    header = webhook.sign(body, KEY, now=1_000_000)
    with pytest.raises(BadSignatureError, match="more than 300 s"):
        webhook.check_signature(body, header, KEY, now=1_000_000 + age)


@pytest.mark.parametrize(
    ("body", "header", "key"),
    [
        (b"{ }", None, KEY),
        (b"{}", "", KEY),
        (b"{}", "t=1,v1=zz", KEY),
        (b"{}", "t=1", KEY),
        (b"{ }", webhook.sign(b"{}", KEY), KEY),
        (b"{}", webhook.sign(b"{}", KEY), "another"),
        (b"{}", webhook.sign(b"{}", KEY).replace("t=1", "t=2"), KEY),
    ],
    # Of their own: the headers hold the time, and two workers must collect the same names.
    ids=["none", "empty", "no signature", "half", "other body", "other key", "other time"],
)
def test_a_message_that_is_not_rightly_signed_is_refused_without_quoting_it(body, header, key):
    with pytest.raises(BadSignatureError) as caught:
        webhook.verify(body, header, key)
    assert KEY not in caught.value.diagnostics()


def test_a_signed_message_that_is_no_notice_is_refused():
    body = b'{"format": 9}'
    with pytest.raises(BadSignatureError, match="no notice"):
        webhook.verify(body, webhook.sign(body, KEY), KEY)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (301, ConsumerFault.REFUSED),
        (307, ConsumerFault.REFUSED),
        (400, ConsumerFault.REFUSED),
        (401, ConsumerFault.REFUSED),
        (404, ConsumerFault.REFUSED),
        (429, ConsumerFault.OUTCOME_UNKNOWN),
        (500, ConsumerFault.OUTCOME_UNKNOWN),
        (503, ConsumerFault.OUTCOME_UNKNOWN),
    ],
)
async def test_a_status_says_refused_or_unknown(service, status, fault):
    service.answer = lambda request, body: web.Response(status=status, headers={"Location": service.url})
    assert await fault_of(consumer(service).notify(NOTICE)) is fault
    assert len(service.requests) == 1


async def test_a_service_that_is_not_there_is_unreachable(service):
    service.url = "http://127.0.0.1:1/hook"
    assert await fault_of(consumer(service).notify(NOTICE)) is ConsumerFault.UNREACHABLE
    (finding,) = await consumer(service).check()
    assert not finding.ok


async def test_a_notice_that_was_sent_and_not_answered_is_of_unknown_outcome(service):
    async def slow(request, body):
        await asyncio.sleep(3)
        return web.Response()

    service.answer = slow
    assert await fault_of(consumer(service, timeout=0.3).notify(NOTICE)) is ConsumerFault.OUTCOME_UNKNOWN

    def cut(request, body):
        request.transport.abort()
        return web.Response()

    service.answer = cut
    assert await fault_of(consumer(service).notify(NOTICE)) is ConsumerFault.OUTCOME_UNKNOWN


async def test_an_endless_answer_is_cut_off(service):
    service.answer = lambda request, body: web.Response(body=b" " * 1_000_000)
    assert await fault_of(consumer(service).notify(NOTICE)) is ConsumerFault.OUTCOME_UNKNOWN


async def test_no_proxy_of_the_environment_is_used(service, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    await consumer(service).notify(NOTICE)
    assert len(service.requests) == 1


def answering(sign_with=KEY, **changes):
    def answer(request, body):
        notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
        body, headers = webhook.sign_ack(notice.model_copy(update=changes), sign_with, secret=SECRET)
        return web.Response(body=body, headers=headers)

    return answer


async def test_an_acknowledgement_with_a_bad_signature_is_refused(service):
    service.answer = answering(sign_with="another")
    await consumer(service).notify(NOTICE)
    assert await fault_of(consumer(service).confirmations(NOTICE)) is ConsumerFault.UNAUTHENTICATED


async def test_an_answer_that_echoes_the_signed_notice_is_no_acknowledgement(service):
    service.answer = lambda request, body: web.Response(
        body=body, headers={webhook.HEADER: request.headers[webhook.HEADER]}
    )
    assert await fault_of(consumer(service).confirmations(NOTICE)) is ConsumerFault.UNAUTHENTICATED


async def test_an_unsigned_200_is_no_acknowledgement(service):
    service.answer = lambda request, body: web.Response(text="ok")
    assert await fault_of(consumer(service).confirmations(NOTICE)) is ConsumerFault.UNAUTHENTICATED


@pytest.mark.parametrize(
    "changes",
    [{"fingerprint": "fp0"}, {"notice_id": "r0-promoted"}, {"consumer": "other"}, {"credential": "other"}],
    ids=lambda changes: next(iter(changes)),
)
async def test_an_acknowledgement_of_another_key_notice_or_consumer_confirms_nothing(service, changes):
    service.answer = answering(**changes)
    assert await fault_of(consumer(service).confirmations(NOTICE)) is ConsumerFault.UNAUTHENTICATED


async def test_a_missing_hmac_key_is_a_matter_of_settings(service):
    def missing():
        raise RefusedError("The environment variable HOOK_KEY is not set.", todo="Set it.")

    bot = HttpConsumer("bot", service.url, missing, timeout=1, read_current=the_key)
    assert await fault_of(bot.notify(NOTICE)) is ConsumerFault.MISCONFIGURED
    assert service.requests == []
    (finding,) = await bot.check()
    assert (finding.ok, finding.todo) == (False, "Set it.")
