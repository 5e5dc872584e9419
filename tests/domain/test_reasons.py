"""A secret in a sentence is told from what people write into reasons: tickets, commits, addresses."""

from __future__ import annotations

import pytest

from keyturn.domain.inventory_secrets import sentence_holds_secret
from keyturn.simulator import SimBybit, SimDeribit, SimOkx

_SENTENCES = ("{}", "leaked {}", "secret={}", "the key ({}) leaked.", 'he posted "{}", then left')


@pytest.mark.parametrize("venue", [SimBybit, SimOkx, SimDeribit])
@pytest.mark.parametrize("sentence", _SENTENCES)
def test_a_secret_of_an_exchange_is_seen_inside_a_sentence(
    venue: type[SimBybit | SimOkx | SimDeribit], sentence: str
) -> None:
    made = venue()
    seen = [sentence_holds_secret(sentence.format(made.new_secret())) for _ in range(500)]
    # One in some hundreds is drawn without a digit, and could be a name.
    assert sum(seen) >= 490


@pytest.mark.parametrize(
    "word",
    [
        "pVQwQ1m2GnphVJLmMbqeuLM1hAiOuM",
        "0123456789ABCDEF0123456789ABCDEF",
        "bm90LWEt/cmVhbC1zZWNyZXQt+MSBub3QtYS1yZWFs==",
        "nRtC9_2kQd-0xVbT7yLm4ZsPa1WfGh8JcU3eKoXi5Bq",
        "b59oSDyJ61Wi0q3TuA",
        "6fd0b6a3c1e74a52b1d9e7f0a2c48d13",
        "AGE-SECRET-KEY-1QQQQ",
    ],
)
def test_a_word_that_is_drawn_is_seen(word: str) -> None:
    assert sentence_holds_secret(f"leaked: {word}, see the log")


@pytest.mark.parametrize(
    "reason",
    [
        "quarterly rotation",
        "laptop of Anne-Marie stolen on 2026-11-21T08:33:20Z",
        "OPS-2026-11-21-0042 and CHG0012345678901, INC-20261121T084242Z",
        "ticket 4f66ad9e-6b2e-4a0b-9c1d-0a1b2c3d4e5f",
        "the old key went out with commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "commit 9fceb02d0ae5, image sha256:" + "0a1b2c3d" * 8,
        "see https://git.example/desk/bots/commit/9fceb02d0ae598e95dc970b74767f19372d61af8?diff=1",
        "see https://docs.example/document/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit#gid=0",
        "pod mm-bybit-7d9f8b6c5d-x2x4z was open to others",
        "/opt/Bots/mm1/venv2/bin/RestartTheBotNow was readable",
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:bots/mm-bybit-AbC123",
        "TradingBotMarketMaker02Service moved to ip-10-0-12-7.eu-central-1.compute.internal",
        "Umstellung wegen Schlüsselverwaltungsrichtlinie 2026, Kündigungsschutzklageverfahren",
        "asked for by alice.o'brien+keys@trading-desk.example.com",
        "keyturn-0.1.0rc1+build20261121 said so",
        "account 123456789012345678, order 20261121084242000123",
    ],
)
def test_what_people_write_into_reasons_passes(reason: str) -> None:
    assert not sentence_holds_secret(reason)
