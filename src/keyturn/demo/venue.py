"""`python -m keyturn.demo.venue`: one simulated exchange, its books read from stdin, so from no file.

Beside what `python -m keyturn.simulator` takes, each key has its number: Deribit deletes keys by number, so
an exchange that comes up again must give its keys the numbers that they had.
"""

from __future__ import annotations

import asyncio
import sys
import time

from pydantic import BaseModel, ConfigDict, SecretStr

from keyturn.simulator.core import SimExchange
from keyturn.simulator.seed import Seed, SeedAccount, build
from keyturn.simulator.server import serve


class BookedKey(BaseModel):
    """A key of the demo as the exchange has it in its books."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    owner: str
    number: int | None
    key_ref: str
    secret: SecretStr
    passphrase: SecretStr | None = None
    rights: list[str]
    addresses: list[str]
    label: str = ""


class Books(BaseModel):
    """What one exchange starts with."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    exchange: str
    port: int
    accounts: list[SeedAccount]
    keys: list[BookedKey]


def open_venue(books: Books) -> SimExchange:
    """Make the exchange with its accounts and keys; it does not serve yet."""
    sim = build(books.exchange, Seed(accounts=books.accounts), port=books.port)
    for key in sorted(books.keys, key=lambda each: each.number or 0):
        if key.number is not None:
            sim.accounts[key.owner].next_number = key.number
        sim.add_key(
            key.owner,
            key.rights,
            ips=key.addresses,
            label=key.label,
            key_ref=key.key_ref,
            secret=key.secret.get_secret_value(),
            passphrase=None if key.passphrase is None else key.passphrase.get_secret_value(),
        )
    # Above every number that was given before: no exchange uses one twice.
    for account in sim.accounts.values():
        account.next_number = max(account.next_number, int(time.time()))
    return sim


def main() -> int:
    """Read the books, serve until told to stop, and return the exit status."""
    sim = open_venue(Books.model_validate_json(sys.stdin.buffer.readline()))
    asyncio.run(serve(sim, with_parent=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
