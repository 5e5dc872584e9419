"""Nobody but the holder of a key confirms it, or holds its rotation up: the attacks, carried out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from keyturn.client import webhook
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import AckMessage, ProbeReportMessage, RefusalsMessage, RefusedCall
from keyturn.client.seal import CLOCK_ALLOWANCE, seal
from keyturn.client.sealed import Sealed
from keyturn.consumers.client import MailboxConsumer
from keyturn.consumers.webhook import HttpConsumer
from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeFault
from keyturn.domain.evidence import Evidence, Notice, NoticeKind, ProbeRequest
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Mode, Park, Rotation, State
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

SECOND = timedelta(seconds=1)


@dataclass
class Town:
    """A rotation of which the consumer is reached through a folder that a stranger can write to."""

    fake: FakeWorld
    engine: Engine
    box: Mailbox
    rotation: Rotation

    async def until(self, *states: State) -> Rotation:
        """Move on, and let time pass, until one of these states."""
        for _ in range(200):
            if self.rotation.state in states or not self.rotation.is_open:
                return self.rotation
            progress = await self.engine.step(self.rotation.id)
            self.rotation = progress.rotation
            if progress.rest and progress.rest.until:
                self.fake.clock.travel_to(progress.rest.until)
        raise AssertionError(f"it stays {self.rotation}")

    async def key(self, slot: Slot = Slot.CURRENT) -> SecretMaterial:
        """Open a slot, as only keyturn and the bot can."""
        stored = await self.fake.store.read(PATH, slot)
        assert stored is not None
        return stored.material

    def ack(self, **changes: Any) -> AckMessage:
        """Write what the bot would say of the notice that it has."""
        told = self.box.notices(NAME)[-1]
        ack = AckMessage(
            credential=told.credential,
            consumer=told.consumer,
            rotation_id=told.rotation_id,
            fingerprint=told.fingerprint,
            kind=told.kind,
            at=self.fake.clock.now(),
            call="GET balance",
        )
        return ack.model_copy(update=changes)

    def leave(self, ack: AckMessage, key: SecretMaterial | None, name: str = "") -> None:
        """Put an acknowledgement where that of the notice belongs, sealed with this key or not at all."""
        text = ack.model_dump_json()
        content = Sealed.with_key(key, "ack", text).model_dump_json() if key else text
        (self.box.folder / (name or self.ack().file_name)).write_text(content)

    async def is_refused(self, *words: str) -> None:
        """See that the rotation parks with both keys alive, and says why."""
        rotation = await self.until(State.PARKED)
        assert (rotation.state, rotation.parked) == (State.PARKED, Park.UNCONFIRMED), rotation
        assert list(await self.fake.journal.confirmations(rotation.id)) == []
        assert {rotation.old_ref, rotation.new_ref} <= set(self.fake.exchange.truth())
        for word in words:
            assert word in rotation.parked_why
        assert f"keyturn confirm {NAME} --consumer bot" in rotation.parked_todo


async def begun(fake: FakeWorld, folder: Path) -> Town:
    """Put a mailbox between keyturn and the bot, and begin a rotation."""

    def read(slot: Slot) -> Any:
        return lambda: fake.store.read(PATH, slot)

    fake.bot = MailboxConsumer(  # type: ignore[assignment]
        "bot",
        NAME,
        folder,
        read_current=read(Slot.CURRENT),
        read_pending=read(Slot.PENDING),
        now=fake.clock.now,
    )
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="an attack")
    return Town(fake, engine, Mailbox(folder / "bot"), opened)


@pytest.fixture
async def town(tmp_path: Path) -> Town:
    fake = FakeWorld(confirm_within="10m", grace="10m", judging=False)
    await fake.prepare()
    made = await begun(fake, tmp_path / "mail")
    await made.until(State.CUTTING_OVER)
    return made


async def test_the_holder_of_the_new_key_confirms_and_the_old_key_dies(town: Town):
    town.leave(town.ack(), await town.key())
    rotation = await town.until()
    assert rotation.state is State.COMPLETED
    assert rotation.old_ref not in town.fake.exchange.truth()
    (proof,) = await town.fake.journal.confirmations(rotation.id)
    assert proof.evidence is Evidence.ACK


async def test_a_stranger_in_the_mailbox_confirms_nothing_and_an_old_library_is_told_to_be_upgraded(
    town: Town,
):
    town.leave(town.ack(), None)
    await town.is_refused("does not count", "too old")
    assert "Upgrade keyturn where the bot runs" in town.rotation.parked_todo


async def test_a_stranger_who_makes_a_seal_up_confirms_nothing(town: Town):
    town.leave(town.ack(), SecretMaterial("key-9", "not-a-real-guess"))
    await town.is_refused("not sealed with the key that it is about")


async def test_the_holder_of_the_old_key_does_not_confirm_the_new_one(town: Town):
    town.leave(town.ack(), await town.key(Slot.PREVIOUS))
    await town.is_refused("not sealed with the key that it is about")


async def test_a_seal_is_bound_to_every_character_of_what_it_seals(town: Town):
    key = await town.key()
    text = town.ack().model_dump_json()
    mark = Sealed.with_key(key, "ack", text).seal
    changed = Sealed(message=text.replace("GET balance", "GET orders"), seal=mark)
    (town.box.folder / town.ack().file_name).write_text(changed.model_dump_json())
    await town.is_refused("not sealed with the key that it is about")


async def test_the_seal_of_a_report_of_another_kind_is_none_of_an_acknowledgement(town: Town):
    text = town.ack().model_dump_json()
    content = Sealed.with_key(await town.key(), "refusals", text).model_dump_json()
    (town.box.folder / town.ack().file_name).write_text(content)
    await town.is_refused("not sealed with the key that it is about")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"credential": "other"}, "another credential"),
        ({"consumer": "other"}, "another consumer"),
        ({"rotation_id": "r0000000009"}, "another notice"),
        ({"kind": NoticeKind.ROLLED_BACK}, "another notice"),
        ({"fingerprint": "fpother1"}, "another key"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
async def test_an_acknowledgement_that_is_copied_from_elsewhere_confirms_nothing(town: Town, changes, word):
    town.leave(town.ack(**changes), await town.key())
    await town.is_refused(word)


async def test_an_acknowledgement_of_an_earlier_rotation_confirms_nothing_when_it_is_replayed(town: Town):
    town.leave(town.ack(), await town.key())
    kept = (town.box.folder / town.ack().file_name).read_bytes()
    await town.until()
    town.rotation = await town.engine.open(NAME, mode=Mode.MANUAL, reason="the next one")
    await town.until(State.CUTTING_OVER)
    (town.box.folder / town.ack().file_name).write_bytes(kept)
    await town.is_refused("another notice and another key")


async def test_an_acknowledgement_from_before_a_roll_back_confirms_nothing_and_the_bot_is_asked_anew(
    town: Town,
):
    # Somebody has put up a notice of a roll-back, long before there was one, and the bot has answered it.
    early = town.ack(kind=NoticeKind.ROLLED_BACK, fingerprint=town.rotation.old_fingerprint)
    old_key = await town.key(Slot.PREVIOUS)
    town.fake.clock.advance(300)
    town.rotation = await town.engine.rollback(NAME, "a test wants it")
    for _ in range(2):
        town.rotation = (await town.engine.step(town.rotation.id)).rotation
    assert town.rotation.noticed_at is not None
    town.leave(early, old_key, early.file_name)
    progress = await town.engine.step(town.rotation.id)
    assert progress.rotation.state is State.ROLLING_BACK
    assert "older than the notice" in progress.rotation.problem
    assert town.box.ack(early.subject) is None, "the bot could not know that it must answer again"
    town.leave(early.model_copy(update={"at": town.fake.clock.now()}), old_key, early.file_name)
    town.rotation = progress.rotation
    assert (await town.until()).state is State.ABORTED
    assert town.rotation.new_ref not in town.fake.exchange.truth()


@pytest.mark.parametrize("off", [-CLOCK_ALLOWANCE - SECOND, CLOCK_ALLOWANCE + SECOND])
async def test_an_acknowledgement_whose_time_cannot_be_is_refused(town: Town, off: timedelta):
    told = town.rotation.promoted_at if off < timedelta(0) else town.fake.clock.now()
    assert told is not None
    town.leave(town.ack(at=told + off), await town.key())
    progress = await town.engine.step(town.rotation.id)
    assert progress.rotation.state is State.CUTTING_OVER
    assert "60 s" in progress.rotation.problem


@pytest.mark.parametrize("off", [-CLOCK_ALLOWANCE + SECOND, CLOCK_ALLOWANCE - SECOND])
async def test_clocks_that_differ_a_little_hold_nobody_up(town: Town, off: timedelta):
    town.leave(town.ack(at=town.fake.clock.now() + off), await town.key())
    assert (await town.engine.step(town.rotation.id)).rotation.state is State.GRACE


async def test_what_is_longer_than_any_acknowledgement_is_not_read(town: Town):
    key = await town.key()
    content = Sealed.with_key(key, "ack", town.ack().model_dump_json()).model_dump_json()
    (town.box.folder / town.ack().file_name).write_text(content + " " * 40_000)
    await town.is_refused()


async def test_no_text_shows_a_seal_or_a_secret(town: Town):
    key = await town.key()
    town.leave(town.ack(credential="other"), key)
    content = (town.box.folder / town.ack().file_name).read_text()
    await town.is_refused()
    told = json.dumps([str(e.event) for e in await town.fake.journal.events(town.rotation.id)])
    for hidden in (json.loads(content)["seal"], key.reveal()["secret"]):
        assert hidden not in told
        assert hidden not in repr(Sealed.model_validate_json(content))


# -- calls that are refused ----------------------------------------------------------------


def a_report(town: Town) -> RefusalsMessage:
    call = RefusedCall(
        call="POST v5/order/create", fault=ExchangeFault.MISSING_PERMISSION, at=town.fake.clock.now()
    )
    return RefusalsMessage.about(town.box.notices(NAME)[-1], (call,))


async def test_a_stranger_parks_no_rotation_by_refused_calls_that_he_makes_up(town: Town):
    town.box.put(a_report(town))
    town.leave(town.ack(), await town.key())
    rotation = await town.until()
    assert rotation.state is State.COMPLETED
    notes = [e.event.data.get("note", "") for e in await town.fake.journal.events(rotation.id)]
    told = [note for note in notes if "report of refused calls of bot does not count" in note]
    assert len(told) == 1, "it is told, and told once"


async def test_a_report_that_appears_in_the_grace_is_told_by_the_sweep_and_holds_nothing(town: Town):
    town.leave(town.ack(), await town.key())
    await town.until(State.GRACE)
    town.box.put_sealed(a_report(town), SecretMaterial("key-9", "not-a-real-guess"))
    for _ in range(2):
        await sweep.sweep(town.engine)
    notes = [e.event.data.get("note", "") for e in await town.fake.journal.events(town.rotation.id)]
    assert sum("does not count" in note for note in notes) == 1
    town.rotation = await town.engine.get(town.rotation.id)
    assert town.rotation.state is State.GRACE
    assert (await town.until()).state is State.COMPLETED


@pytest.mark.parametrize("seen_before", [False, True])
async def test_a_report_that_a_stranger_writes_over_before_the_revoke_is_waited_for(
    town: Town, seen_before: bool
):
    town.leave(town.ack(), await town.key())
    await town.until(State.GRACE)
    key, notice = await town.key(), town.box.notices(NAME)[-1]
    town.box.put_sealed(a_report(town), SecretMaterial("key-9", "not-a-real-guess"))
    if seen_before:
        await sweep.sweep(town.engine)
    assert town.rotation.grace_until is not None
    town.fake.clock.travel_to(town.rotation.grace_until)
    for _ in range(2):
        progress = await town.engine.advance(town.rotation.id)
        assert progress.rotation.state is State.GRACE
        assert "does not count" in progress.rotation.problem
    assert progress.rest is not None
    assert progress.rest.until == town.fake.clock.now() + timedelta(seconds=60)
    # What the bot does at each of its looks.
    town.box.add_refusals(notice, [("GET v5/x", ExchangeFault.WRONG_IP, town.fake.clock.now())], key)
    town.fake.clock.advance(60)
    parked = (await town.engine.advance(town.rotation.id)).rotation
    assert parked.parked is Park.REFUSED_CALLS
    assert "GET v5/x" in parked.parked_why
    assert "revoke_key" not in [name for name, _ in town.fake.exchange.calls]


async def test_the_holder_of_the_key_parks_it_by_the_calls_that_it_is_refused(town: Town):
    town.box.put_sealed(a_report(town), await town.key())
    rotation = await town.until(State.PARKED)
    assert rotation.parked is Park.REFUSED_CALLS


async def test_the_bot_does_not_repeat_in_its_name_what_a_stranger_wrote(town: Town):
    key, notice = await town.key(), town.box.notices(NAME)[-1]
    town.box.put(a_report(town))
    town.box.add_refusals(notice, [("GET v5/other", ExchangeFault.WRONG_IP, town.fake.clock.now())], key)
    found = town.box.answer(RefusalsMessage, notice.subject)
    assert found is not None
    assert found.is_by(key)
    assert [call.call for call in found.message.calls] == ["GET v5/other"]


# -- the pending key -----------------------------------------------------------------------


async def test_a_stranger_does_not_pass_a_pending_key_that_the_bot_has_not_tried(tmp_path: Path):
    bot = "203.0.113.7"
    fake = FakeWorld(ips=(bot,), egress={"http://bot.invalid": bot}, confirm_within="60s", judging=False)
    await fake.prepare()
    town = await begun(fake, tmp_path / "mail")
    for _ in range(20):
        town.rotation = (await town.engine.step(town.rotation.id)).rotation
        if town.rotation.probe_by is not None:
            break
    (asked,) = town.box.probes(NAME)
    report = ProbeReportMessage.on(asked, None, fake.clock.now())
    for sealed_with in (None, await town.key(Slot.CURRENT)):
        if sealed_with is None:
            town.box.put(report)
        else:
            town.box.put_sealed(report, sealed_with)
        progress = await town.engine.step(town.rotation.id)
        assert progress.rotation.state is State.STAGED
        assert town.box.report(asked.rotation_id, asked.attempt) is None, "the bot tries and reports itself"
        assert progress.rest is not None
        assert progress.rest.until is not None
        fake.clock.travel_to(progress.rest.until)
    town.box.put_sealed(report, await town.key(Slot.PENDING))
    town.rotation = await town.engine.get(town.rotation.id)
    assert (await town.until(State.VERIFIED)).state is State.VERIFIED


# -- webhooks ------------------------------------------------------------------------------

SHARED, NEW, OLD = "not-a-real-hmac-key-1", "not-a-real-secret-1", "not-a-real-secret-0"
NOTICE = Notice(
    "mm", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1),
    issued_at=datetime.now(UTC),
)  # fmt: skip


class Proxy:
    """Stands between keyturn and a service, and answers what it likes."""

    def __init__(self) -> None:
        self.answer: tuple[bytes, dict[str, str]] = (b"", {})
        self.asked: list[bytes] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(await request.read())
        body, headers = self.answer
        return web.Response(body=body, headers=headers)


@pytest.fixture
async def proxy():
    made = Proxy()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


def hook(proxy) -> HttpConsumer:
    async def the_key() -> Stored:
        meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
        return Stored(SlotInfo(Slot.CURRENT, "7", None, meta), SecretMaterial("key-1", NEW))

    return HttpConsumer("bot", proxy.url, lambda: SHARED, timeout=5, read_current=the_key)


def acked(notice: Notice, secret: str, age: float = 0.0) -> tuple[bytes, dict[str, str]]:
    """Give the answer of a service, signed some seconds ago."""
    body, headers = webhook.sign_ack(webhook.WebhookNotice.about(notice, query=True), SHARED, secret=secret)
    then = datetime.now(UTC).timestamp() - age
    headers[webhook.HEADER] = webhook.sign(body, SHARED, now=then)
    headers[webhook.PROOF_HEADER] = webhook.prove(body, secret, now=then)
    return body, headers


async def refusal_of(consumer: HttpConsumer, notice: Notice) -> str:
    with pytest.raises(ConsumerError) as caught:
        await consumer.confirmations(notice)
    assert caught.value.fault is ConsumerFault.UNAUTHENTICATED
    text = caught.value.diagnostics()
    assert not any(secret in text for secret in (SHARED, NEW, OLD))
    return caught.value.what


async def test_a_service_that_holds_the_new_key_confirms_it(proxy):
    proxy.answer = acked(NOTICE, NEW)
    (proof,) = await hook(proxy).confirmations(NOTICE)
    assert proof.evidence is Evidence.ACK


async def test_an_acknowledgement_that_a_proxy_replays_does_not_count(proxy):
    notice = replace(NOTICE, issued_at=datetime.now(UTC))
    proxy.answer = acked(replace(notice, rotation_id="r0"), NEW)
    assert "another notice" in await refusal_of(hook(proxy), notice)
    proxy.answer = acked(notice, NEW, age=webhook.TOLERANCE + 5)
    assert "300 s ago" in await refusal_of(hook(proxy), notice)
    proxy.answer = acked(notice, NEW, age=90)
    assert "older than the notice" in await refusal_of(hook(proxy), notice)


async def test_the_old_key_does_not_acknowledge_the_new_one_at_a_webhook_either(proxy):
    proxy.answer = acked(NOTICE, OLD)
    assert "does not hold that key" in await refusal_of(hook(proxy), NOTICE)


@pytest.mark.parametrize("consumer", [{"consumer": "other"}, {"credential": "other"}, {"fingerprint": "fp0"}])
async def test_an_acknowledgement_of_somebody_else_does_not_count_at_a_webhook(proxy, consumer):
    proxy.answer = acked(replace(NOTICE, **consumer), NEW)
    assert "another" in await refusal_of(hook(proxy), NOTICE)


async def test_who_knows_the_shared_key_alone_was_told_and_has_proved_nothing(proxy):
    body, headers = acked(NOTICE, NEW)
    del headers[webhook.PROOF_HEADER]
    proxy.answer = (body, headers)
    (proof,) = await hook(proxy).confirmations(NOTICE)
    assert proof.evidence is Evidence.TIMED
    assert webhook.PROOF_HEADER in proof.detail


async def test_a_proof_does_not_stand_in_for_the_shared_key(proxy):
    body, headers = acked(NOTICE, NEW)
    headers[webhook.HEADER] = webhook.sign(body, "another", now=datetime.now(UTC).timestamp())
    proxy.answer = (body, headers)
    assert "shared key" in await refusal_of(hook(proxy), NOTICE)


def test_seals_are_what_the_documentation_says():
    import hashlib
    import hmac

    # The worked example of docs/bots.md, which a service in another language is held to.
    body = (
        b'{"credential":"mm-bybit","consumer":"arb-bot","notice_id":"r1-promoted",'
        b'"fingerprint":"ye2sznjg","signed_call":true}'
    )
    key = hmac.digest(b"not-a-real-secret-1", b"keyturn webhook acknowledgement v1", hashlib.sha256)
    digest = hmac.new(key, b"1764370800." + body, hashlib.sha256).hexdigest()
    assert webhook.prove(body, "not-a-real-secret-1\n", now=1764370800) == f"t=1764370800,v1={digest}"
    text = Path(__file__).parents[2].joinpath("docs/bots.md").read_text(encoding="utf-8")
    assert body.decode() in text
    assert digest in text
    assert key.hex() in text
    mark = seal("not-a-real-secret-1", "mailbox ack", b"{}")
    again = hmac.digest(b"not-a-real-secret-1", b"keyturn mailbox ack v1", hashlib.sha256)
    assert mark == hmac.new(again, b"{}", hashlib.sha256).hexdigest()


async def test_a_probe_is_held_to_its_key_at_the_consumer_too(tmp_path: Path):
    current, pending = SecretMaterial("key-0", OLD), SecretMaterial("key-1", NEW)

    async def read_current() -> Stored:
        meta = KeyMeta("bybit", "main", "key-0", "fp0", None, datetime.now(UTC))
        return Stored(SlotInfo(Slot.CURRENT, "6", None, meta), current)

    async def read_pending() -> Stored:
        meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
        return Stored(SlotInfo(Slot.PENDING, "7", None, meta), pending)

    consumer = MailboxConsumer("bot", "mm", tmp_path, read_current=read_current, read_pending=read_pending)
    request, box = ProbeRequest("mm", "bot", "r1", 1, "fp1", "7"), Mailbox(tmp_path / "bot")
    await consumer.request_probe(request)
    (asked,) = box.probes("mm")
    box.put_sealed(ProbeReportMessage.on(asked, ExchangeFault.WRONG_IP, datetime.now(UTC)), current)
    with pytest.raises(ConsumerError, match="report on the pending key of bot does not count"):
        await consumer.probe_report(request)
    box.put_sealed(ProbeReportMessage.on(asked, ExchangeFault.WRONG_IP, datetime.now(UTC)), pending)
    report = await consumer.probe_report(request)
    assert report is not None
    assert report.fault == ExchangeFault.WRONG_IP
