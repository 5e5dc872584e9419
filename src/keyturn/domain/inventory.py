"""The inventory: what is rotated, where it lives, who uses it. The models of `keyturn.yaml`.

References only: the models have no field that takes a secret. Rules that need more than one entry
(dangling references, shared paths, permissions against the venue's manifest) are in
`inventory_rules`; reading a file with line numbers is in `inventory_text`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from keyturn.domain.difference import normal_names
from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory_stores import (
    OWN_FIELDS,
    SINGLE_FIELDS,
    AgeFilesStore,
    AwsParameterStore,
    AwsSecretsManagerStore,
    FormatEntry,
    MirrorAddress,
    StoreAddress,
    StoreEntry,
    VaultAppRole,
    VaultAuth,
    VaultAws,
    VaultJwt,
    VaultKubernetes,
    VaultKv2Store,
    VaultToken,
)
from keyturn.domain.inventory_types import (
    CLOCK_PATTERN,
    FIELD_PATTERN,
    GROUP_PATTERN,
    NAME_PATTERN,
    PATH_PATTERN,
    PROXY_PATTERN,
    URL_PATTERN,
    USER_PATTERN,
    BaseUrl,
    Clock,
    Duration,
    Entry,
    Group,
    Name,
    NoticeUrl,
    ProxyUrl,
    Reason,
    Recipient,
    SecretRef,
    StorePath,
    Text,
    declared_ip,
    declared_ips,
    format_duration,
    parse_clock,
    parse_duration,
)
from keyturn.domain.keys import Permission

__all__ = [
    "CLOCK_PATTERN",
    "FIELD_PATTERN",
    "GROUP_PATTERN",
    "NAME_PATTERN",
    "OWN_FIELDS",
    "PATH_PATTERN",
    "PROXY_PATTERN",
    "SINGLE_FIELDS",
    "URL_PATTERN",
    "USER_PATTERN",
    "AccountEntry",
    "AgeFilesStore",
    "AwsParameterStore",
    "AwsSecretsManagerStore",
    "ClientConsumer",
    "Clock",
    "ConsumerEntry",
    "CredentialEntry",
    "Day",
    "Defaults",
    "Duration",
    "Entry",
    "FileConsumer",
    "FormatEntry",
    "Inventory",
    "JournalEntry",
    "MirrorAddress",
    "Name",
    "PolicyEntry",
    "Reason",
    "SecretRef",
    "StoreAddress",
    "StoreEntry",
    "StorePath",
    "Text",
    "VaultAppRole",
    "VaultAuth",
    "VaultAws",
    "VaultJwt",
    "VaultKubernetes",
    "VaultKv2Store",
    "VaultToken",
    "WebhookConsumer",
    "Window",
    "declared_ip",
    "declared_ips",
    "format_duration",
    "parse_clock",
    "parse_duration",
]


class AccountEntry(Entry):
    """An account at an exchange, with the manager key that mints and revokes for it."""

    exchange: Name = Field(description="The venue's code; `keyturn doctor` lists those that are known.")
    manager: StoreAddress = Field(description="Where the manager key lives.")
    environment: Literal["live", "testnet"] = Field(
        "live", description="`testnet` goes to the venue's sandbox, where it has one."
    )
    site: Name | None = Field(
        None,
        description="Which of the venue's sites the account is at, such as eea; its main one if left out.",
    )
    url: BaseUrl | None = Field(
        None, description="Another base URL of the API, a proxy's or a test's; it goes before `site`."
    )
    egress_proxy: ProxyUrl | None = Field(None, description="HTTP proxy for calls with the manager key.")
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
    accepts: frozenset[Text] = Field(
        frozenset(),
        description="Rights that the venue gives to new keys by itself, in its words, and this key may have.",
    )
    accept_loss: Annotated[frozenset[Text], AfterValidator(normal_names)] = Field(
        frozenset(),
        description="Rights and addresses of the living key that the next one need not have, as"
        " `keyturn plan` shows them.",
    )
    accept_loss_reason: Reason | None = Field(None, description="Needed for `accept_loss`.")
    store: Name | None = Field(None, description="One of `stores`. Default: `defaults.store`.")
    path: StorePath = Field(description="Where in the store, such as bots/mm-bybit.")
    format: FormatEntry = Field(
        SINGLE_FIELDS, description="How the stored key looks to the program that reads it."
    )
    mirrors: tuple[MirrorAddress, ...] = Field(
        (),
        description="Further places that get each new version after its promotion, before the old key dies.",
    )
    consumers: tuple[Name, ...] = Field((), description="Those of `consumers` that use the key.")
    policy: Name | None = Field(None, description="One of `policies`. Default: `defaults.policy`.")
    egress_proxy: ProxyUrl | None = Field(
        None,
        description="HTTP proxy whose address is on the key's IP list; keyturn tries the key through it.",
    )
    no_ip_allowlist_reason: Reason | None = Field(None, description="Needed without `ip_allowlist`.")
    withdraw_reason: Reason | None = Field(None, description="Needed for the permission `withdraw`.")


_OWED = "What the consumer owes before the old key dies: `ack`, its own report, or `timed`, grace alone."

_RECIPIENT = (
    "The bot's own age recipient (age1...): `age_files` are encrypted for it, too, so that it reads its"
    " current key and nothing else. `keyturn client-bundle` makes one."
)


class ClientConsumer(Entry):
    """A bot that runs `keyturn.client`."""

    kind: Literal["client"]
    evidence: Evidence = Field(Evidence.ACK, description=_OWED)
    mailbox: Text = Field("mailbox", description="Folder for notices and acknowledgements.")
    recipient: Recipient | None = Field(None, description=_RECIPIENT)
    group: Group | None = Field(
        None,
        description="Group of keyturn's user and the bot's, where they are two: it may use the mailbox, and"
        " see the encrypted files of the bot's key.",
    )


class WebhookConsumer(Entry):
    """A service that is told by HTTP."""

    kind: Literal["webhook"]
    evidence: Evidence = Field(Evidence.ACK, description=_OWED)
    url: NoticeUrl = Field(description="Takes the notice as a POST; https, unless it is on this machine.")
    hmac_key: SecretRef = Field(description="Signs the notice and the acknowledgement.")
    timeout: Duration = timedelta(seconds=10)
    recipient: Recipient | None = Field(None, description=_RECIPIENT)


class FileConsumer(Entry):
    """A file that is rendered and, if need be, a process that is told."""

    kind: Literal["file"]
    evidence: Evidence = Field(Evidence.TIMED, description=_OWED)
    path: Text = Field(description="The file to write, relative to the inventory.")
    format: Literal["json", "env", "freqtrade"] = Field(
        "json",
        description="`freqtrade`: the key goes into its config.json; all else in the file is kept.",
    )
    fields: dict[str, Annotated[str, Field(pattern=FIELD_PATTERN)]] = Field(
        default_factory=lambda: {"api_key": "api_key", "secret": "secret", "passphrase": "passphrase"},
        description="keyturn's field -> the name in the file.",
    )
    mode: str = Field("0600", pattern=r"^0?[0-7]{3}$", description="Permissions of the file, in quotes.")
    owner: str | None = Field(
        None,
        pattern=USER_PATTERN,
        description="User of this machine that the file is given to, and that its folder, a link to it and"
        " `pid_file` may belong to, beside root and keyturn's own user.",
    )
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
        description="`sqlite:///FILE` (relative to the inventory), or"
        " `postgresql+psycopg://USER@HOST/DB?sslmode=verify-full`; on this machine without sslmode.",
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

    def prober_of(self, credential: str) -> str | None:
        """Give the consumer that tries a new key of this credential, which works from its address alone."""
        entry = self.credentials[credential]
        if not entry.ip_allowlist or entry.egress_proxy:
            return None
        known = ((name, self.consumers.get(name)) for name in entry.consumers)
        return next((name for name, found in known if found and found.kind == "client"), None)

    def policy_of(self, credential: str) -> PolicyEntry:
        """Give the policy of a credential, defaults applied."""
        name = self.credentials[credential].policy or self.defaults.policy
        return self.policies[name] if name else PolicyEntry()
