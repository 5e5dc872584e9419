"""`python -m keyturn.demo.bot`: a bot that trades without a pause while its key is turned.

What keyturn asks of it is the one line with `attach`. The rest is a bot: it looks at its open orders and
places one now and then, some twenty signed calls a second, and says on stdout, a line of JSON a few times
a second, how they went. It ends when its stdin does: with the demo, however that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import ccxt

import keyturn.client

# Twenty calls a second, each bot; two threads share them.
_PAUSE_SECONDS = 0.05
# Every tenth call places an order: what must be neither lost nor made twice.
_ORDER_EVERY = 10
_TOLD_EVERY_SECONDS = 0.2
_PRICE = 50_000
_AMOUNT = {"deribit": 10.0}


@dataclass
class Count:
    """What the bot itself counts."""

    #: Fingerprint of the key that the bot was on -> calls that worked.
    worked: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failed: int = 0
    #: The first thing that went wrong: the kind of error, for its text may quote a request.
    trouble: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, fingerprint: str, error: Exception | None = None) -> None:
        """Count one call."""
        with self.lock:
            if error is None:
                self.worked[fingerprint] += 1
                return
            self.trouble = self.trouble or type(error).__name__
            if isinstance(error, ccxt.NetworkError):
                self.failed += 1
            else:
                self.refused += 1

    def line(self, fingerprint: str) -> str:
        """Give the report."""
        with self.lock:
            return json.dumps(
                {
                    "on": fingerprint,
                    "worked": self.worked,
                    "refused": self.refused,
                    "failed": self.failed,
                    "trouble": self.trouble,
                }
            )


class Bot:
    """A ccxt exchange object on the current key, and the loop that uses it."""

    def __init__(self, given: argparse.Namespace) -> None:
        package = import_module("ccxt.async_support") if given.style == "async" else ccxt
        self.exchange: Any = getattr(package, given.exchange)({"enableRateLimit": False, "timeout": 20_000})
        self.exchange.urls["api"] = dict.fromkeys(self.exchange.urls["api"], given.url)
        self.symbol, self.amount = given.symbol, _AMOUNT.get(given.exchange, 0.01)
        self.threads = 2 if given.style == "threads" else 1
        self.count, self.stop = Count(), threading.Event()
        self._given = given
        self._attached: keyturn.client.Attachment | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that the bot is on."""
        return self._attached.fingerprint if self._attached else ""

    def attach(self) -> None:
        """Do all that keyturn asks of a bot."""
        self._attached = keyturn.client.attach(
            self.exchange, self._given.credential, bundle=self._given.bundle
        )

    def call(self, number: int) -> Any:
        """Make one signed call: of an async exchange, give what is to be awaited."""
        if number % _ORDER_EVERY:
            return self.exchange.fetch_open_orders(self.symbol)
        return self.exchange.create_order(self.symbol, "limit", "buy", self.amount, _PRICE)

    def trade(self) -> None:
        """Call until told to stop."""
        for number in range(1, sys.maxsize):
            if self.stop.wait(_PAUSE_SECONDS * self.threads):
                return
            on, error = self.fingerprint, None
            try:
                self.call(number)
            except ccxt.BaseError as e:
                error = e
            self.count.note(on, error)

    async def trade_async(self) -> None:
        """Call until told to stop, without a thread."""
        self.attach()
        for number in range(1, sys.maxsize):
            await asyncio.sleep(_PAUSE_SECONDS)
            if self.stop.is_set():
                break
            on, error = self.fingerprint, None
            try:
                await self.call(number)
            except ccxt.BaseError as e:
                error = e
            self.count.note(on, error)
        self.detach()
        await self.exchange.close()

    def detach(self) -> None:
        """Stop looking for another key."""
        if self._attached:
            self._attached.detach()

    def tell(self) -> None:
        """Say how it goes, until told to stop."""
        while not self.stop.wait(_TOLD_EVERY_SECONDS):
            self.say()

    def say(self) -> None:
        """Say how it went so far."""
        sys.stdout.write(self.count.line(self.fingerprint) + "\n")
        sys.stdout.flush()

    def listen(self) -> None:
        """Wait for the end of stdin: the demo is over, or gone."""
        sys.stdin.read()
        self.stop.set()


def run(bot: Bot, style: str) -> None:
    """Let the bot trade in its style until its stdin ends."""
    for service in (bot.listen, bot.tell):
        threading.Thread(target=service, daemon=True).start()
    if style == "async":
        asyncio.run(bot.trade_async())
    else:
        bot.attach()
        bot.exchange.load_markets()
        threads = [threading.Thread(target=bot.trade) for _ in range(bot.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bot.detach()
    # Once more, so that the demo has every call.
    time.sleep(_TOLD_EVERY_SECONDS)
    bot.say()


def main() -> int:
    """Read the arguments, trade, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m keyturn.demo.bot", description="A bot of the demo.")
    for option in ("--exchange", "--url", "--bundle", "--credential", "--symbol", "--style"):
        parser.add_argument(option, required=True)
    given = parser.parse_args()
    run(Bot(given), given.style)
    return 0


if __name__ == "__main__":
    sys.exit(main())
