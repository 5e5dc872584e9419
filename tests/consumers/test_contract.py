"""Every consumer against the contract of its port."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from keyturn.client import webhook
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import AckMessage, ProbeReportMessage, RefusalsMessage, RefusedCall
from keyturn.consumers.catalog import build
from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory import ClientConsumer, FileConsumer, SecretRef, WebhookConsumer
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.testing.consumer_contract import (
    CREDENTIAL,
    FINGERPRINT,
    OLD_SECRET,
    OTHER,
    REFUSED,
    SECRET,
    ConsumerContract,
    ConsumerSubject,
    Forgery,
)
from keyturn.testing.memory_consumer import MemoryConsumer

KEY = "not-a-real-hmac-key-1"
HOUR = timedelta(hours=1)


async def no_key():
    return None


def stored(print_=FINGERPRINT, secret=SECRET):
    meta = KeyMeta("bybit", "main", "key-1", print_, None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "1", None, meta), SecretMaterial("key-1", secret))


async def the_key():
    return stored()


OLD_KEY = SecretMaterial("key-0", OLD_SECRET)


def a_refused_call():
    return RefusedCall(call=REFUSED, fault=ExchangeFault.MISSING_PERMISSION, at=datetime.now(UTC))


async def nothing(notice):
    pass


def forged(ack, forgery):
    """Give what a forged acknowledgement says, and by which key it is sealed; None: by none."""
    changes = {
        Forgery.OLDER: {"at": datetime.now(UTC) - HOUR},
        Forgery.FUTURE: {"at": datetime.now(UTC) + HOUR},
        Forgery.OTHER_CREDENTIAL: {"credential": "other"},
        Forgery.OTHER_CONSUMER: {"consumer": "other"},
        Forgery.OTHER_NOTICE: {"rotation_id": "r0000000009"},
        Forgery.OTHER_KEY: {"fingerprint": OTHER},
    }
    material = {Forgery.UNSEALED: None, Forgery.BY_OLD_KEY: OLD_KEY}
    return ack.model_copy(update=changes.get(forgery, {})), material.get(forgery, stored().material)


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

        async def forge(notice, forgery=Forgery.BY_OLD_KEY):
            consumer.forged = f"it is {forgery}"

        return ConsumerSubject(
            consumer,
            "bot",
            move,
            report=report,
            refuse=refuse,
            forge=forge,
            forge_refusal=forge,
            forgeries=frozenset(Forgery),
        )


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
        consumer = build(
            "bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key, read_pending=the_key
        )
        box = Mailbox(tmp_path / "mail" / "bot")

        def ack():
            (told,) = box.notices(CREDENTIAL)
            return AckMessage(
                credential=told.credential,
                consumer="bot",
                rotation_id=told.rotation_id,
                fingerprint=told.fingerprint,
                kind=told.kind,
                at=datetime.now(UTC),
                call="GET balance",
            )

        async def move(notice):
            box.put_sealed(ack(), stored().material)

        async def report(request):
            (asked,) = box.probes(CREDENTIAL)
            box.put_sealed(ProbeReportMessage.on(asked, None, datetime.now(UTC)), stored().material)

        async def refuse(notice):
            (told,) = box.notices(CREDENTIAL)
            box.add_refusals(told, [(REFUSED, a_refused_call().fault, datetime.now(UTC))], stored().material)

        async def forge(notice, forgery):
            said, material = forged(ack(), forgery)
            if material is None:
                box.put(said)
            else:
                box.put_sealed(said, material)
            # What a stranger writes has the name that he likes.
            (box.folder / said.file_name).rename(box.folder / ack().file_name)

        async def forge_refusal(notice):
            (told,) = box.notices(CREDENTIAL)
            box.put(RefusalsMessage.about(told, (a_refused_call(),)))

        return ConsumerSubject(
            consumer,
            "bot",
            move,
            report=report,
            refuse=refuse,
            forge=forge,
            forge_refusal=forge_refusal,
            forgeries=frozenset(Forgery) - {Forgery.READS_OUR_FILE},
        )


def acknowledged(notice, forgery, refused):
    """The answer of a service that runs on the key of the notice, or one that is forged in some way."""
    # Asked about another key, it says the same.
    said = notice.model_copy(update={"fingerprint": FINGERPRINT})
    changes = {
        Forgery.OTHER_CREDENTIAL: {"credential": "other"},
        Forgery.OTHER_CONSUMER: {"consumer": "other"},
        Forgery.OTHER_NOTICE: {"notice_id": "r0000000009-promoted"},
        Forgery.OTHER_KEY: {"fingerprint": OTHER},
    }
    said = said.model_copy(update=changes.get(forgery, {}))
    secret = OLD_SECRET if forgery is Forgery.BY_OLD_KEY else SECRET
    body, headers = webhook.sign_ack(said, KEY, secret=secret, refusals=refused)
    age = {Forgery.OLDER: -3600, Forgery.FUTURE: 3600}.get(forgery, 0)
    if age:
        headers[webhook.PROOF_HEADER] = webhook.prove(body, SECRET, now=time.time() + age)
    if forgery is Forgery.UNSEALED:
        del headers[webhook.PROOF_HEADER]
    return web.Response(body=body, headers=headers)


class TestWebhook(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOOK_KEY", KEY)
        moved: set[str] = set()
        refused = []
        forgery = None

        async def hook(request):
            body = await request.read()
            notice = webhook.verify(body, request.headers.get(webhook.HEADER), KEY)
            return (
                acknowledged(notice, forgery, refused)
                if notice.notice_id in moved
                else web.Response(status=202)
            )

        server = web.ServerRunner(web.Server(hook))
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", 0).start()
        entry = WebhookConsumer(
            kind="webhook",
            url=f"http://127.0.0.1:{server.addresses[0][1]}/hook",
            hmac_key=SecretRef(env="HOOK_KEY"),
        )
        consumer = build(
            "bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key, read_pending=no_key
        )

        async def move(notice):
            moved.add(notice.notice_id)

        async def refuse(notice):
            refused.append(a_refused_call())

        async def forge(notice, kind):
            nonlocal forgery
            forgery = kind
            moved.add(notice.notice_id)

        yield ConsumerSubject(
            consumer,
            "bot",
            move,
            refuse=refuse,
            forge=forge,
            forgeries=frozenset(Forgery) - {Forgery.READS_OUR_FILE},
        )
        await server.cleanup()


class TestFile(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path):
        entry = FileConsumer(kind="file", path="key.json")
        consumer = build(
            "bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key, read_pending=no_key
        )
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
        consumer = build(
            "bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key, read_pending=no_key
        )
        (tmp_path / "running-on").write_text("fp-of-old\n")

        async def move(notice):
            loaded = json.loads((tmp_path / "key.json").read_text())
            (tmp_path / "running-on").write_text(loaded["print"] + "\n")

        return ConsumerSubject(consumer, "bot", move)


class TestFileWhoseConfirmReadsIt(ConsumerContract):
    @pytest.fixture
    async def subject(self, tmp_path):
        entry = FileConsumer(
            kind="file",
            path="key.env",
            format="env",
            fields={"api_key": "KEY", "secret": "SECRET", "fingerprint": "PRINT"},
            confirm=("sed", "-n", "s/^PRINT=//p", "key.env"),
        )
        consumer = build(
            "bot", entry, credential=CREDENTIAL, base=tmp_path, read_current=the_key, read_pending=no_key
        )

        async def forge(notice, forgery):
            pass

        return ConsumerSubject(
            consumer,
            "bot",
            nothing,
            evidence=Evidence.TIMED,
            forge=forge,
            forgeries=frozenset({Forgery.READS_OUR_FILE}),
        )
