"""Every consumer against the contract of its port."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from aiohttp import web

from keyturn.client import webhook
from keyturn.client.mailbox import AckMessage, Mailbox, ProbeReportMessage, RefusalsMessage, RefusedCall
from keyturn.consumers.catalog import build
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory import ClientConsumer, FileConsumer, SecretRef, WebhookConsumer
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.testing.consumer_contract import (
    CREDENTIAL,
    FINGERPRINT,
    REFUSED,
    ConsumerContract,
    ConsumerSubject,
)
from keyturn.testing.memory_consumer import MemoryConsumer

KEY = "not-a-real-hmac-key-1"


async def no_key():
    return None


async def the_key():
    meta = KeyMeta("bybit", "main", "key-1", FINGERPRINT, None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "1", None, meta), SecretMaterial("key-1", "not-a-real-secret-1"))


def a_refused_call():
    return RefusedCall(call=REFUSED, fault=ExchangeFault.MISSING_PERMISSION, at=datetime.now(UTC))


async def nothing(notice):
    pass


class TestMemory(ConsumerContract):
    @pytest.fixture
    async def subject(self):
        consumer = MemoryConsumer("bot", polls=None, can_probe=True)
        consumer.probe_result = None

        async def move(notice):
            consumer.polls = 0

        async def report(request):
            consumer.probe_result = ""

        async def refuse(notice):
            consumer.refused = [REFUSED]

        return ConsumerSubject(consumer, "bot", move, report=report, refuse=refuse)


class TestMemoryWithTimedEvidence(ConsumerContract):
    @pytest.fixture
    async def subject(self):
        return ConsumerSubject(
            MemoryConsumer("bot", evidence=Evidence.TIMED), "bot", nothing, evidence=Evidence.TIMED
        )


class TestClient(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path):
        entry = ClientConsumer(kind="client", mailbox="mail")
        consumer = build("bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=no_key)
        box = Mailbox(tmp_path / "mail" / "bot")

        async def move(notice):
            (told,) = box.notices(CREDENTIAL)
            box.put(
                AckMessage(
                    credential=told.credential,
                    consumer="bot",
                    rotation_id=told.rotation_id,
                    fingerprint=told.fingerprint,
                    kind=told.kind,
                    at=datetime.now(UTC),
                    call="GET balance",
                )
            )

        async def report(request):
            (asked,) = box.probes(CREDENTIAL)
            box.put(
                ProbeReportMessage(
                    credential=asked.credential,
                    consumer="bot",
                    rotation_id=asked.rotation_id,
                    fingerprint=asked.fingerprint,
                    attempt=asked.attempt,
                    at=datetime.now(UTC),
                )
            )

        async def refuse(notice):
            (told,) = box.notices(CREDENTIAL)
            box.put(RefusalsMessage.about(told, (a_refused_call(),)))

        return ConsumerSubject(consumer, "bot", move, report=report, refuse=refuse)


class TestWebhook(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOOK_KEY", KEY)
        moved: set[str] = set()
        refused = []

        async def hook(request):
            body = await request.read()
            notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
            if notice.notice_id not in moved:
                return web.Response(status=202)
            body, headers = webhook.sign_ack(notice, KEY, refusals=refused)
            return web.Response(body=body, headers=headers)

        server = web.ServerRunner(web.Server(hook))
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", 0).start()
        entry = WebhookConsumer(
            kind="webhook",
            url=f"http://127.0.0.1:{server.addresses[0][1]}/hook",
            hmac_key=SecretRef(env="HOOK_KEY"),
        )
        consumer = build("bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=no_key)

        async def move(notice):
            moved.add(notice.notice_id)

        async def refuse(notice):
            refused.append(a_refused_call())

        # The service acknowledges the key that it runs on; asked about another one, it has nothing to say.
        original = webhook.sign_ack

        def for_its_key(notice, key, **options):
            plain = notice.model_copy(update={"fingerprint": FINGERPRINT})
            return original(plain, key, **options)

        monkeypatch.setattr(webhook, "sign_ack", for_its_key)
        yield ConsumerSubject(consumer, "bot", move, refuse=refuse)
        await server.cleanup()


class TestFile(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path):
        entry = FileConsumer(kind="file", path="key.json")
        consumer = build("bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key)
        return ConsumerSubject(consumer, "bot", nothing, evidence=Evidence.TIMED)


class TestFileThatConfirms(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path):
        entry = FileConsumer(
            kind="file",
            path="key.json",
            fields={"api_key": "key", "secret": "secret", "fingerprint": "print"},
            run=("/bin/sh", "-c", "true"),
            confirm=("/bin/cat", "running-on"),
        )
        consumer = build("bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key)
        (tmp_path / "running-on").write_text("fp-of-old\n")

        async def move(notice):
            loaded = json.loads((tmp_path / "key.json").read_text())
            (tmp_path / "running-on").write_text(loaded["print"] + "\n")

        return ConsumerSubject(consumer, "bot", move)
