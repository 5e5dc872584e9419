"""The inventory that `keyturn init` writes: small, sound, and explained where one begins to change it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from keyturn.domain.manifest import DriverManifest

#: Everything that is secret or worth a backup, beside the inventory and out of version control.
DATA = "keyturn-data"
#: Where `keyturn up` keeps what it can make again: Prefect's database, logs.
RUNTIME = ".keyturn"
IDENTITY = f"{DATA}/age-identity.txt"
#: In the middle of the 30 to 90 days that are asked for.
ROTATE_DAYS = 60


StoreKind = Literal["age", "vault", "aws"]
#: What each kind of store is called in the inventory.
STORE_NAMES: dict[StoreKind, str] = {"age": "local", "vault": "vault", "aws": "aws"}
VAULT_SERVER, VAULT_MOUNT = "http://127.0.0.1:8200", "secret"
#: What is secret in a store's entry comes from here.
VAULT_TOKEN = "VAULT_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person chose; names have been checked."""

    manifest: DriverManifest | None
    account: str
    credential: str
    subaccount: str | None
    addresses: tuple[str, ...]
    testnet: bool
    permissions: tuple[str, ...] = ()
    #: Rights that the venue adds by itself.
    accepts: tuple[str, ...] = ()
    store: StoreKind = "age"
    #: The Vault server, or another endpoint of AWS; None: the usual one.
    server: str | None = None
    #: The KV mount in Vault, or the region of AWS; None: the usual one.
    place: str | None = None


def render(choices: Choices) -> str:
    """Write the inventory."""
    body = _filled(choices, choices.manifest) if choices.manifest else _EMPTY
    text = _HEAD + _STORES[choices.store](choices) + body + _FOOT
    return text.replace(_ANY_STORE, STORE_NAMES[choices.store])


#: Stands for the store's name until it is known.
_ANY_STORE = "<store>"

_HEAD = f"""\
# What keyturn rotates. `keyturn check` reads it and says what is wrong, by line;
# `keyturn schema` describes every field for editors. References only: no secret stands here.
version: 1

journal:
  url: sqlite:///{DATA}/journal.db

"""


def _age(_choices: Choices) -> str:
    return f"""\
stores:
  local:
    kind: age_files # encrypted files on this machine; the `age` tool reads them
    path: {DATA}/store
    key:
      file: {IDENTITY} # back it up: without it the store cannot be read

"""


def _vault(choices: Choices) -> str:
    return f"""\
# Policies, to be written before the first rotation (each file says how):
#   keyturn itself           infra/vault/rotator.hcl, for the folders bots and managers
#   each bot                 infra/vault/consumer.hcl: reads its own current key, and nothing else
#   a person who puts keys   infra/vault/intake.hcl: writes pending, reads nothing
stores:
  vault:
    kind: vault_kv2
    addresses: [{json.dumps(choices.server or VAULT_SERVER)}] # the token goes to no other host
    mount: {choices.place or VAULT_MOUNT} # a KV engine of version 2
    # namespace: desk # Vault Enterprise, OpenBao
    # ca_file: vault-ca.pem # if the server's certificate is by a CA of your own
    auth: # for what runs unattended: approle, kubernetes, jwt or aws
      method: token
      token: {{env: {VAULT_TOKEN}}} # the variable that holds it; no token stands here
    # consumer_auth: # how bots log in; a bot with KEYTURN_VAULT_TOKEN set uses that
    #   {{method: kubernetes, role: bots}}

"""


def _aws(choices: Choices) -> str:
    endpoint = f"    endpoint_url: {json.dumps(choices.server)}\n" if choices.server else ""
    return f"""\
# Policies, to be attached before the first rotation (infra/aws/README.md says how):
#   keyturn itself           infra/aws/rotator.json
#   each bot                 infra/aws/consumer.json: reads its own current key, and nothing else
#   a person who puts keys   infra/aws/intake.json
# Credentials come from boto3's own chain: a role, a profile, or the AWS_* variables.
stores:
  aws:
    kind: aws_secrets_manager # or aws_parameter_store
    region: {choices.place}
{endpoint}    prefix: keyturn/ # put before every path below
    # assume_role: arn:aws:iam::123456789012:role/keyturn
    # kms_key_id: alias/keyturn # default: the service's own key
    # replica_regions: [eu-west-1]

"""


_STORES = {"age": _age, "vault": _vault, "aws": _aws}

_EMPTY = """\
# Accounts at exchanges, each with a manager key that mints and revokes:
#   main:
#     exchange: bybit
#     manager: {store: <store>, path: managers/main}
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
  store: <store>
  policy: standard
"""


_OWN_IDENTITY = """\
    # recipient: age1... # the bot's own key and no more: keyturn client-bundle makes it, and says this line
"""


def _filled(choices: Choices, manifest: DriverManifest) -> str:
    sandbox = "    environment: testnet\n" if choices.testnet else ""
    subaccount = f"    subaccount: {json.dumps(choices.subaccount)}\n" if choices.subaccount else ""
    return f"""\
accounts:
  {choices.account}:
    exchange: {manifest.code}
{sandbox}    manager: # mints and revokes the keys below: keyturn put --manager {choices.account}
      store: <store>
      path: managers/{choices.account}

credentials:
  {choices.credential}:
    account: {choices.account}
{subaccount}    permissions: [{", ".join(choices.permissions)}] # exactly these, never more
{_accepts(choices.accepts)}{_addresses(choices.addresses)}    path: bots/{choices.credential}
    consumers: [{choices.credential}]

consumers:
  {choices.credential}: # the bot, with keyturn.client beside its ccxt exchange
    kind: client
    mailbox: {DATA}/mailbox
{_OWN_IDENTITY if choices.store == "age" else ""}"""


def _accepts(names: tuple[str, ...]) -> str:
    listed = ", ".join(names)
    return f"    accepts: [{listed}] # the exchange gives these by itself\n" if names else ""


def _addresses(addresses: tuple[str, ...]) -> str:
    if addresses:
        return f"    ip_allowlist: [{', '.join(map(json.dumps, addresses))}]\n"
    return (
        "    # ip_allowlist: [203.0.113.7] # the bot's address; then drop the next line\n"
        "    no_ip_allowlist_reason: keyturn init did not know the bot's address\n"
    )
