"""The inventory: what is rotated, where it lives, who uses it. The models of `keyturn.yaml`.

References only: the models have no field that takes a secret. Rules that need more than one entry
(dangling references, shared paths, permissions against the venue's manifest) are in
`inventory_rules`; reading a file with line numbers is in `inventory_text`.
"""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Literal

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


def parse_duration(value: object) -> object:
    """Read `90d`, `24h`, `1h30m`, `45s`.

    Raises:
        ValueError: the text is not a duration.
    """
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError("write a duration with its unit, such as 60d, 24h, 30m or 45s")
    if not _DURATION.match(value):
        raise ValueError("write a duration with its unit, such as 60d, 24h, 30m or 45s")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in _PART.findall(value)))


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
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
StorePath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=500, description="Why, in a sentence.")]


class Entry(BaseModel):
    """Base of every entry: unknown fields are refused, and errors never quote the input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretRef(Entry):
    """Where a secret is to be found at run time. Exactly one of the fields."""

    file: str | None = Field(None, description="A file that holds it, relative to the inventory.")
    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="An environment variable.")
    keyring: str | None = Field(None, description="An entry of the OS keyring, under the service `keyturn`.")


class AgeFilesStore(Entry):
    """Files encrypted with age, on this machine."""

    kind: Literal["age_files"]
    path: str = Field(description="Folder, relative to the inventory.")
    key: SecretRef


StoreEntry = AgeFilesStore


class StoreAddress(Entry):
    """A path in a named store."""

    store: Name
    path: StorePath


class AccountEntry(Entry):
    """An account at an exchange, with the manager key that mints and revokes for it."""

    exchange: Name = Field(description="The venue's code; `keyturn doctor` lists those that are known.")
    manager: StoreAddress = Field(description="Where the manager key lives.")
    environment: Literal["live", "testnet"] = "live"
    url: str | None = Field(None, pattern=r"^https?://[^@\s]+$", description="Another base URL of the API.")
    egress_proxy: str | None = Field(
        None, pattern=r"^https?://[^@\s]+$", description="HTTP proxy for calls with the manager key."
    )
    timeout: Duration = Field(timedelta(seconds=10), description="How long to wait for an answer.")


class CredentialEntry(Entry):
    """One managed secret: exchange, account, role."""

    account: Name
    subaccount: str | None = Field(None, min_length=1, description="In the venue's own form.")
    permissions: Annotated[frozenset[Permission], Field(min_length=1)]
    ip_allowlist: Annotated[frozenset[str], AfterValidator(lambda v: normal_ips(list(v)))] = frozenset()
    store: Name | None = Field(None, description="Default: `defaults.store`.")
    path: StorePath
    consumers: tuple[Name, ...] = ()
    policy: Name | None = Field(None, description="Default: `defaults.policy`.")
    egress_proxy: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="HTTP proxy whose address is on the key's IP list; keyturn tries the key through it.",
    )
    no_ip_allowlist_reason: Reason | None = None
    withdraw_reason: Reason | None = None


class ClientConsumer(Entry):
    """A bot that runs `keyturn.client`."""

    kind: Literal["client"]
    evidence: Evidence = Evidence.ACK
    mailbox: str = Field("mailbox", description="Folder for notices and acknowledgements.")


class WebhookConsumer(Entry):
    """A service that is told by HTTP."""

    kind: Literal["webhook"]
    evidence: Evidence = Evidence.ACK
    url: str = Field(pattern=r"^https?://[^@\s]+$")
    hmac_key: SecretRef = Field(description="Signs the notice and the acknowledgement.")
    timeout: Duration = timedelta(seconds=10)


class FileConsumer(Entry):
    """A file that is rendered and, if need be, a process that is told."""

    kind: Literal["file"]
    evidence: Evidence = Evidence.TIMED
    path: str = Field(description="The file to write, relative to the inventory.")
    format: Literal["json", "env"] = "json"
    fields: dict[str, str] = Field(
        default_factory=lambda: {"api_key": "api_key", "secret": "secret", "passphrase": "passphrase"},
        description="keyturn's field -> the name in the file.",
    )
    mode: str = Field("0600", pattern=r"^0?[0-7]{3}$")
    run: tuple[str, ...] = Field((), description="A command, as a list of arguments; never a shell.")
    signal: str | None = Field(None, pattern=r"^SIG[A-Z0-9]+$|^[A-Z0-9]+$")
    pid_file: str | None = None
    confirm: tuple[str, ...] = Field(
        (), description="A command that prints the fingerprint of the key that the consumer runs on."
    )
    timeout: Duration = timedelta(seconds=30)


ConsumerEntry = Annotated[ClientConsumer | WebhookConsumer | FileConsumer, Field(discriminator="kind")]


class Window(Entry):
    """When rotations may begin. A preference: the deadline wins."""

    days: frozenset[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = frozenset(
        ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    )
    start: time
    end: time
    timezone: str = Field("UTC", description="An IANA name, such as Europe/Zurich.")


class PolicyEntry(Entry):
    """How often, with which grace, and what is owed before the old key dies."""

    rotate_every: Duration = timedelta(days=60)
    outside_30_90_reason: Reason | None = Field(
        None, description="Needed for an interval outside 30-90 days."
    )
    grace: Duration = Field(timedelta(hours=24), description="Both keys live this long after the cut-over.")
    confirm_within: Duration = Field(
        timedelta(hours=2), description="A consumer that has not confirmed by then parks the rotation."
    )
    window: Window | None = None


class Defaults(Entry):
    """What an entry takes when it says nothing."""

    store: Name | None = None
    policy: Name | None = None


class JournalEntry(Entry):
    """Where the journal is."""

    url: str = Field(
        "sqlite:///keyturn-journal.db",
        description="`sqlite:///FILE` (relative to the inventory) or `postgresql+psycopg://USER@HOST/DB`.",
    )
    password: SecretRef | None = None


class Inventory(Entry):
    """The whole of `keyturn.yaml`."""

    version: Literal[1]
    journal: JournalEntry = JournalEntry()
    stores: dict[Name, StoreEntry]
    accounts: dict[Name, AccountEntry]
    credentials: dict[Name, CredentialEntry] = Field(default_factory=dict)
    consumers: dict[Name, ConsumerEntry] = Field(default_factory=dict)
    policies: dict[Name, PolicyEntry] = Field(default_factory=dict)
    defaults: Defaults = Defaults()

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
