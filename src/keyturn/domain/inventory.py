"""The inventory: what is rotated, where it lives, who uses it. The models of `keyturn.yaml`.

References only: the models have no field that takes a secret. Rules that need more than one entry
(dangling references, shared paths, permissions against the venue's manifest) are in
`inventory_rules`; reading a file with line numbers is in `inventory_text`.
"""

from __future__ import annotations

import re
from datetime import time, timedelta
from functools import lru_cache
from ipaddress import ip_network
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from keyturn.domain.evidence import Evidence
from keyturn.domain.keys import Permission, normal_ips

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"^(?:\d+(?:\.\d+)?[smhdw])+$")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
#: One or more segments of plain characters: no `..`, no `%`, nothing that a store could normalise.
PATH_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$"
URL_PATTERN = r"^https?://[^@\s]+$"
CLOCK_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
#: What a program can have as a field or a variable; a pasted secret rarely fits.
FIELD_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
# Ten years: longer is a slip of the pen, and date arithmetic stays far from its limits.
_LONGEST = timedelta(days=3650)


def parse_duration(value: object) -> object:
    """Read `90d`, `24h`, `1h30m`, `45s`.

    Raises:
        ValueError: the text is not a duration, or one of more than ten years.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError("write a duration with its unit, such as 60d, 24h, 30m or 45s")
    seconds = sum(float(n) * _UNITS[u] for n, u in _PART.findall(value))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("write a duration of ten years at most, such as 60d")
    return timedelta(seconds=seconds)


def parse_clock(value: object) -> object:
    """Read `02:00`, a time of day without a zone.

    Raises:
        ValueError: the text is not a time of day.
    """
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not re.fullmatch(CLOCK_PATTERN, value):
        raise ValueError("write a time of day as 02:00 or 23:30")
    return time.fromisoformat(value)


@lru_cache(maxsize=4096)  # a fleet names the same few machines in every credential
def declared_ip(value: str) -> str:
    """Bring an entry of a credential's IP list into the form of `normal_ips`.

    Stricter than what exchanges report: `203.0.113.7/24` would open the key to 256 addresses
    where one was meant.

    Raises:
        ValueError: neither an address nor a network, or a network with host bits.
    """
    ip_network(value, strict=True)
    return next(iter(normal_ips([value])))


def declared_ips(values: frozenset[str]) -> frozenset[str]:
    """Bring the IP list of a credential into the form of `normal_ips`.

    Raises:
        ValueError: as of `declared_ip`.
    """
    return frozenset(map(declared_ip, values))


def format_duration(value: timedelta) -> str:
    """Write a duration the way the inventory does, in the largest units that fit."""
    rest, parts = value.total_seconds(), []
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, _UNITS[unit])
        if whole:
            parts.append(f"{int(whole)}{unit}")
    if rest or not parts:
        parts.append(f"{rest:g}s")
    return "".join(parts)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["60d", "24h", "30m"]}),
]
Clock = Annotated[
    time,
    BeforeValidator(parse_clock),
    PlainSerializer(lambda t: t.strftime("%H:%M"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": CLOCK_PATTERN, "examples": ["02:00"]}),
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Url = Annotated[str, Field(pattern=URL_PATTERN)]
StorePath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=500, description="Why, in a sentence.")]


class Entry(BaseModel):
    """Base of every entry: unknown fields are refused, and errors never quote the input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretRef(Entry):
    """Where a secret is to be found at run time. Exactly one of the fields."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: Text | None = Field(None, description="A file that holds it, relative to the inventory.")
    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="An environment variable.")
    keyring: Text | None = Field(None, description="An entry of the OS keyring, under the service `keyturn`.")


class AgeFilesStore(Entry):
    """Files encrypted with age, on this machine."""

    kind: Literal["age_files"]
    path: Text = Field(description="Folder, relative to the inventory.")
    key: SecretRef = Field(description="The age identity that opens the files.")


class VaultToken(Entry):
    """Log in with a token that somebody else looks after."""

    method: Literal["token"]
    token: SecretRef = Field(description="Where the token is.")


class VaultAppRole(Entry):
    """Log in with a role id and a secret id."""

    method: Literal["approle"]
    mount: str = Field("approle", pattern=PATH_PATTERN)
    role_id: str = Field(min_length=1, description="Public half of the AppRole.")
    secret_id: SecretRef = Field(description="Where its secret half is; may be for one use.")


class VaultKubernetes(Entry):
    """Log in with the pod's service account; its token file is read anew at each login."""

    method: Literal["kubernetes"]
    mount: str = Field("kubernetes", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    token_file: str = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/token", description="The pod's token."
    )


class VaultJwt(Entry):
    """Log in with a JSON web token of another issuer."""

    method: Literal["jwt"]
    mount: str = Field("jwt", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    token: SecretRef = Field(description="Where the token is; read anew at each login.")


class VaultAws(Entry):
    """Log in with this machine's AWS identity."""

    method: Literal["aws"]
    mount: str = Field("aws", pattern=PATH_PATTERN)
    role: str = Field(min_length=1, description="The role in Vault.")
    region: str = Field("us-east-1", description="Region of the STS endpoint that is signed for.")
    header_value: str | None = Field(
        None, description="Value of `X-Vault-AWS-IAM-Server-ID`, if the mount asks for it."
    )


VaultAuth = Annotated[
    VaultToken | VaultAppRole | VaultKubernetes | VaultJwt | VaultAws, Field(discriminator="method")
]


class VaultKv2Store(Entry):
    """HashiCorp Vault or OpenBao, a KV mount of version 2."""

    kind: Literal["vault_kv2"]
    addresses: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Base URLs, tried in this order; the token is sent to no other host."
    )
    mount: str = Field("secret", pattern=PATH_PATTERN, description="The KV mount.")
    namespace: str | None = Field(None, description="Vault Enterprise or OpenBao namespace.")
    auth: VaultAuth = Field(description="How keyturn logs in.")
    ca_file: str | None = Field(None, description="CA bundle (PEM), relative to the inventory.")
    pending_prefix: str = Field(
        "keyturn/pending", pattern=PATH_PATTERN, description="Where pending versions live, on the same mount."
    )
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class AwsAccess(Entry):
    """How a store reaches AWS. Credentials come from boto3's own chain."""

    region: str = Field(description="AWS region.")
    endpoint_url: str | None = Field(
        None, pattern=r"^https?://[^@\s]+$", description="Another endpoint: a VPC endpoint, or an emulator."
    )
    profile: str | None = Field(None, description="A profile of the AWS configuration.")
    assume_role: str | None = Field(
        None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$", description="Role to assume."
    )
    external_id: str | None = Field(
        None, description="For the assumed role, where its trust policy asks for one."
    )
    kms_key_id: str | None = Field(
        None, description="KMS key for what is written; default: the service's own."
    )
    prefix: str = Field("", description="Put before every path.")
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class AwsSecretsManagerStore(AwsAccess):
    """AWS Secrets Manager."""

    kind: Literal["aws_secrets_manager"]
    replica_regions: tuple[str, ...] = Field((), description="Regions that must have the new version, too.")


class AwsParameterStore(AwsAccess):
    """AWS Systems Manager Parameter Store, SecureString parameters."""

    kind: Literal["aws_parameter_store"]


StoreEntry = Annotated[
    AgeFilesStore | VaultKv2Store | AwsSecretsManagerStore | AwsParameterStore, Field(discriminator="kind")
]


class StoreAddress(Entry):
    """A path in a named store."""

    store: Name = Field(description="One of `stores`.")
    path: StorePath = Field(description="Where in the store, such as managers/bybit.")


class AccountEntry(Entry):
    """An account at an exchange, with the manager key that mints and revokes for it."""

    exchange: Name = Field(description="The venue's code; `keyturn doctor` lists those that are known.")
    manager: StoreAddress = Field(description="Where the manager key lives.")
    environment: Literal["live", "testnet"] = Field(
        "live", description="`testnet` goes to the venue's sandbox, where it has one."
    )
    url: Url | None = Field(None, description="Another base URL of the API.")
    egress_proxy: Url | None = Field(None, description="HTTP proxy for calls with the manager key.")
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class CredentialEntry(Entry):
    """One managed secret: exchange, account, role."""

    account: Name = Field(description="One of `accounts`.")
    subaccount: Text | None = Field(
        None, description="In the venue's own form, in quotes where that is a number."
    )
    permissions: Annotated[frozenset[Permission], Field(min_length=1)] = Field(
        description="Exactly what the key may do; a key that can do more is revoked again."
    )
    ip_allowlist: Annotated[frozenset[str], AfterValidator(declared_ips)] = Field(
        frozenset(), description="Addresses from which the key works: those of the bot's machines."
    )
    store: Name | None = Field(None, description="One of `stores`. Default: `defaults.store`.")
    path: StorePath = Field(description="Where in the store, such as bots/mm-bybit.")
    mirrors: tuple[StoreAddress, ...] = Field(
        (),
        description="Further places that get each new version after its promotion, before the old key dies.",
    )
    consumers: tuple[Name, ...] = Field((), description="Those of `consumers` that use the key.")
    policy: Name | None = Field(None, description="One of `policies`. Default: `defaults.policy`.")
    egress_proxy: Url | None = Field(
        None,
        description="HTTP proxy whose address is on the key's IP list; keyturn tries the key through it.",
    )
    no_ip_allowlist_reason: Reason | None = Field(None, description="Needed without `ip_allowlist`.")
    withdraw_reason: Reason | None = Field(None, description="Needed for the permission `withdraw`.")


_OWED = "What the consumer owes before the old key dies: `ack`, its own report, or `timed`, grace alone."


class ClientConsumer(Entry):
    """A bot that runs `keyturn.client`."""

    kind: Literal["client"]
    evidence: Evidence = Field(Evidence.ACK, description=_OWED)
    mailbox: Text = Field("mailbox", description="Folder for notices and acknowledgements.")


class WebhookConsumer(Entry):
    """A service that is told by HTTP."""

    kind: Literal["webhook"]
    evidence: Evidence = Field(Evidence.ACK, description=_OWED)
    url: Url = Field(description="Takes the notice as a POST; https, unless it is on this machine.")
    hmac_key: SecretRef = Field(description="Signs the notice and the acknowledgement.")
    timeout: Duration = timedelta(seconds=10)


class FileConsumer(Entry):
    """A file that is rendered and, if need be, a process that is told."""

    kind: Literal["file"]
    evidence: Evidence = Field(Evidence.TIMED, description=_OWED)
    path: Text = Field(description="The file to write, relative to the inventory.")
    format: Literal["json", "env"] = "json"
    fields: dict[str, Annotated[str, Field(pattern=FIELD_PATTERN)]] = Field(
        default_factory=lambda: {"api_key": "api_key", "secret": "secret", "passphrase": "passphrase"},
        description="keyturn's field -> the name in the file.",
    )
    mode: str = Field("0600", pattern=r"^0?[0-7]{3}$", description="Permissions of the file, in quotes.")
    run: tuple[str, ...] = Field((), description="A command, as a list of arguments; never a shell.")
    signal: str | None = Field(
        None, pattern=r"^(SIG)?[A-Z0-9]+$", description="Sent to the process of `pid_file`, such as SIGHUP."
    )
    pid_file: Text | None = Field(None, description="Holds the process id that gets `signal`.")
    confirm: tuple[str, ...] = Field(
        (), description="A command that prints the fingerprint of the key that the consumer runs on."
    )
    timeout: Duration = timedelta(seconds=30)


ConsumerEntry = Annotated[ClientConsumer | WebhookConsumer | FileConsumer, Field(discriminator="kind")]


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Window(Entry):
    """When rotations may begin. A preference: the deadline wins."""

    days: frozenset[Day] = Field(frozenset(get_args(Day)), description="Days on which the window opens.")
    start: Clock = Field(description="Local time at which the window opens.")
    end: Clock = Field(description="Local time at which it closes; before `start`: on the next day.")
    timezone: str = Field("UTC", description="An IANA name, such as Europe/Zurich.")


class PolicyEntry(Entry):
    """How often, with which grace, and what is owed before the old key dies."""

    rotate_every: Duration = Field(timedelta(days=60), description="From one key to the next: 30 to 90 days.")
    outside_30_90_reason: Reason | None = Field(
        None, description="Needed for an interval outside 30-90 days."
    )
    grace: Duration = Field(timedelta(hours=24), description="Both keys live this long after the cut-over.")
    confirm_within: Duration = Field(
        timedelta(hours=2), description="A consumer that has not confirmed by then parks the rotation."
    )
    window: Window | None = Field(None, description="When rotations may begin; the deadline wins.")


class Defaults(Entry):
    """What an entry takes when it says nothing."""

    store: Name | None = Field(None, description="The store of credentials that name none.")
    policy: Name | None = Field(None, description="The policy of credentials that name none.")


class JournalEntry(Entry):
    """Where the journal is."""

    url: str = Field(
        "sqlite:///keyturn-journal.db",
        description="`sqlite:///FILE` (relative to the inventory) or `postgresql+psycopg://USER@HOST/DB`.",
    )
    password: SecretRef | None = Field(None, description="Of the PostgreSQL user.")


class Inventory(Entry):
    """The whole of `keyturn.yaml`."""

    version: Literal[1] = Field(description="Of this format.")
    journal: JournalEntry = Field(JournalEntry(), description="The record of every rotation.")
    stores: dict[Name, StoreEntry] = Field(description="Where secrets live, by name.")
    accounts: dict[Name, AccountEntry] = Field(description="Accounts at exchanges, by name.")
    credentials: dict[Name, CredentialEntry] = Field(
        default_factory=dict, description="The keys that are rotated, by name."
    )
    consumers: dict[Name, ConsumerEntry] = Field(
        default_factory=dict, description="The bots and services that use the keys, by name."
    )
    policies: dict[Name, PolicyEntry] = Field(default_factory=dict, description="How often and how, by name.")
    defaults: Defaults = Field(Defaults(), description="What an entry takes when it says nothing.")

    def store_of(self, credential: str) -> StoreAddress:
        """Give the store and path of a credential, defaults applied.

        Raises:
            KeyError: no such credential, or neither it nor the defaults name a store.
        """
        entry = self.credentials[credential]
        store = entry.store or self.defaults.store
        if store is None:
            raise KeyError(credential)
        return StoreAddress(store=store, path=entry.path)

    def policy_of(self, credential: str) -> PolicyEntry:
        """Give the policy of a credential, defaults applied."""
        name = self.credentials[credential].policy or self.defaults.policy
        return self.policies[name] if name else PolicyEntry()
