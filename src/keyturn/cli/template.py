"""The inventory that `keyturn init` writes: small, sound, and explained where one begins to change it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from keyturn.domain.keys import TRADING, Permission
from keyturn.domain.manifest import DriverManifest

#: Everything that is secret or worth a backup, beside the inventory and out of version control.
DATA = "keyturn-data"
#: Where `keyturn up` keeps what it can make again: Prefect's database, logs.
RUNTIME = ".keyturn"
IDENTITY = f"{DATA}/age-identity.txt"
#: In the middle of the 30 to 90 days that are asked for.
ROTATE_DAYS = 60


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person chose; names have been checked."""

    manifest: DriverManifest | None
    account: str
    credential: str
    subaccount: str | None
    addresses: tuple[str, ...]
    testnet: bool


def render(choices: Choices) -> str:
    """Write the inventory."""
    return _HEAD + (_filled(choices, choices.manifest) if choices.manifest else _EMPTY) + _FOOT


_HEAD = f"""\
# What keyturn rotates. `keyturn check` reads it and says what is wrong, by line;
# `keyturn schema` describes every field for editors. References only: no secret stands here.
version: 1

journal:
  url: sqlite:///{DATA}/journal.db

stores:
  local:
    kind: age_files # encrypted files on this machine; the `age` tool reads them
    path: {DATA}/store
    key:
      file: {IDENTITY} # back it up: without it the store cannot be read

"""

_EMPTY = """\
# Accounts at exchanges, each with a manager key that mints and revokes:
#   main:
#     exchange: bybit
#     manager: {store: local, path: managers/main}
accounts: {}

# The keys that are rotated:
#   mm-bybit:
#     account: main
#     subaccount: "104270393"
#     permissions: [read, trade_spot]
#     ip_allowlist: [203.0.113.7]
#     path: bots/mm-bybit
#     consumers: [mm-bybit]
credentials: {}

# The bots and services that use them:
#   mm-bybit: {kind: client, mailbox: keyturn-data/mailbox}
consumers: {}
"""

_FOOT = f"""
policies:
  standard:
    rotate_every: {ROTATE_DAYS}d # 30 to 90 days
    grace: 24h # both keys live this long after the cut-over
    confirm_within: 2h # a bot that has not confirmed by then parks the rotation
    # window: {{days: [tue, wed, thu], start: "09:00", end: "16:00", timezone: Europe/Zurich}}

defaults:
  store: local
  policy: standard
"""


def _filled(choices: Choices, manifest: DriverManifest) -> str:
    sandbox = "    environment: testnet\n" if choices.testnet else ""
    subaccount = f"    subaccount: {json.dumps(choices.subaccount)}\n" if choices.subaccount else ""
    return f"""\
accounts:
  {choices.account}:
    exchange: {manifest.code}
{sandbox}    manager: # mints and revokes the keys below: keyturn put --manager {choices.account}
      store: local
      path: managers/{choices.account}

credentials:
  {choices.credential}:
    account: {choices.account}
{subaccount}    permissions: [{", ".join(_permissions(manifest))}] # exactly these, never more
{_addresses(choices.addresses)}    path: bots/{choices.credential}
    consumers: [{choices.credential}]

consumers:
  {choices.credential}: # the bot, with keyturn.client beside its ccxt exchange
    kind: client
    mailbox: {DATA}/mailbox
"""


def _permissions(manifest: DriverManifest) -> list[str]:
    trading = [str(p) for p in manifest.permissions if p in TRADING]
    return [str(Permission.READ), *trading[:1]]


def _addresses(addresses: tuple[str, ...]) -> str:
    if addresses:
        return f"    ip_allowlist: [{', '.join(map(json.dumps, addresses))}]\n"
    return (
        "    # ip_allowlist: [203.0.113.7] # the bot's address; then drop the next line\n"
        "    no_ip_allowlist_reason: keyturn init did not know the bot's address\n"
    )
