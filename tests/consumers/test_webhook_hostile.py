"""Whatever answers in a webhook's place confirms nothing, and takes neither memory nor time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.consumers.webhook import HttpConsumer
from keyturn.domain.errors import ConsumerError
from keyturn.domain.evidence import Notice, NoticeKind
from tests.hostile import ODD, Reply, answering, bomb, peak_memory

NOTICE = Notice(
    "mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1)
)


async def no_key() -> None:
    return None


def consumer(url: str, timeout: float = 5.0) -> HttpConsumer:
    return HttpConsumer("bot", url, lambda: "not-a-real-hmac-key-1", timeout=timeout, read_current=no_key)


@pytest.mark.parametrize("odd", ODD)
async def test_an_answer_that_is_no_acknowledgement_confirms_nothing(odd):
    async with answering(ODD[odd]) as url:
        with pytest.raises(ConsumerError) as caught:
            await consumer(url).confirmations(NOTICE)
    assert caught.value.diagnostics().replace("\n", "").isprintable()


async def test_three_hundred_megabytes_from_a_small_body_take_no_memory():
    reply = bomb()
    before = peak_memory()
    async with answering(reply) as url:
        with pytest.raises(ConsumerError):
            await consumer(url).confirmations(NOTICE)
    assert peak_memory() - before < 50 << 20


async def test_a_body_that_trickles_ends_with_the_time_out():
    async with answering(Reply(b"{", endless=b" ", pace=0.05)) as url, asyncio.timeout(5):
        with pytest.raises(ConsumerError):
            await consumer(url, timeout=0.5).confirmations(NOTICE)
