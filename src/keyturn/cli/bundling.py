"""What `keyturn client-bundle` writes: settings of one bot, and the identity or policy that is its own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import ask, bot_policies
from keyturn.client.bundle import IDENTITY, SETTINGS, BundledCredential, BundleSettings
from keyturn.client.files import write_atomic
from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.inventory import (
    AgeFilesStore,
    ClientConsumer,
    SecretRef,
    StoreEntry,
    VaultKv2Store,
    VaultToken,
)
from keyturn.files import make_folder, read_file

if TYPE_CHECKING:
    from keyturn.settings import LoadedInventory

_CA = "ca.pem"
#: One for each store that a server keeps; whoever looks after that server applies it.
_POLICY = "policy-{store}.{form}"
# All authorities that a system trusts have a quarter of this.
_MOST_CA_BYTES = 1 << 20
#: What gives a bot its Vault token where the inventory says nothing of how bots log in.
_TOKEN = "KEYTURN_VAULT_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for."""

    consumer: str
    folder: Path
    new_identity: bool = False
    recipient: str | None = None
    #: As they are on the bot's host; None: as here.
    store_path: str | None = None
    mailbox: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    files: list[str]
    #: Of the bot; None where no store is of age files.
    recipient: str | None
    notes: list[str] = field(default_factory=list)

    def steps(self, loaded: LoadedInventory, order: Order, *, changes: bool) -> list[str]:
        """Give what is left to do, in its order."""
        names = [n for n, e in loaded.inventory.credentials.items() if order.consumer in e.consumers]
        steps = []
        if changes:
            steps.append(f"write the line above into {loaded.path.name}, then: keyturn check")
        if self.recipient is not None:
            steps.append(f"keyturn store reseal {' '.join(names)}")
        steps.append(f"rsync -a {order.folder}/ BOTHOST:{order.folder.name}/")
        if IDENTITY in self.files:
            steps.append(f"rm {order.folder / IDENTITY}   # once it is there: the bot alone needs it")
        elif self.recipient is not None:
            steps.append(
                f"there: put the identity of this recipient beside the settings, as {IDENTITY} (0600)"
            )
        call = f'keyturn.client.attach(exchange, "{names[0]}", bundle="{order.folder.name}")'
        return [*steps, f"in the bot: {call}"]


def settings(loaded: LoadedInventory, order: Order) -> BundleSettings:
    """Gather what the bot needs to know, and nothing of anybody else's."""
    inventory, consumer = loaded.inventory, loaded.inventory.consumers[order.consumer]
    credentials: dict[str, BundledCredential] = {}
    stores: dict[str, StoreEntry] = {}
    for name, entry in inventory.credentials.items():
        if order.consumer not in entry.consumers:
            continue
        address = inventory.store_of(name)
        credentials[name] = BundledCredential(
            store=address.store,
            path=address.path,
            exchange=inventory.accounts[entry.account].exchange,
            format=entry.format,
        )
        stores[address.store] = _for_the_bot(inventory.stores[address.store], loaded.base, order)
    mailbox = None
    if isinstance(consumer, ClientConsumer):
        mailbox = order.mailbox or str((loaded.base / consumer.mailbox).absolute())
    return BundleSettings(consumer=order.consumer, mailbox=mailbox, stores=stores, credentials=credentials)


def _for_the_bot(entry: StoreEntry, base: Path, order: Order) -> StoreEntry:
    """Give a store's entry without what is keyturn's own: identity, login, role, profile."""
    if isinstance(entry, AgeFilesStore):
        path = order.store_path or str((base / entry.path).absolute())
        return entry.model_copy(update={"path": path, "key": SecretRef(file=IDENTITY)})
    if isinstance(entry, VaultKv2Store):
        own = entry.consumer_auth or VaultToken(method="token", token=SecretRef(env=_TOKEN))
        ca = _CA if entry.ca_file else None
        return entry.model_copy(update={"auth": own, "consumer_auth": None, "ca_file": ca})
    nothing = {"profile": None, "assume_role": None, "external_id": None, "kms_key_id": None}
    return entry.model_copy(update=nothing)


def check_identity(loaded: LoadedInventory, order: Order, made: BundleSettings) -> None:
    """See that it is said whose identity opens the files, before anything is written.

    Raises:
        UsageError: it is not, or said twice, or in vain.
        RefusedError: the recipient is the store's own.
    """
    in_files = [name for name, entry in made.stores.items() if isinstance(entry, AgeFilesStore)]
    if not in_files:
        if order.new_identity or order.recipient:
            raise _usage(
                f"No key of {order.consumer} is in age files.",
                "Leave --new-identity and --recipient out: the bot logs in at its store.",
            )
        return
    if order.new_identity and order.recipient:
        raise _usage("An identity is either made here or by the bot's host.", "Give one of the two options.")
    declared = getattr(loaded.inventory.consumers[order.consumer], "recipient", None)
    if not (order.new_identity or order.recipient or declared):
        raise _usage(
            f"{order.consumer} has no age identity of its own yet.",
            "Let it be made in the bundle: --new-identity. Or make it on the bot's host (age-keygen -o"
            f" {IDENTITY}), and say what that prints: --recipient age1...",
        )
    if order.recipient:
        _check_recipient(order.recipient)
    for name in in_files:
        _refuse_own(loaded, name, order.recipient or declared or "")


def _check_recipient(text: str) -> None:
    from keyturn.domain.recipients import declared_recipient

    problem = ""
    try:
        declared_recipient(text)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise _usage(
            "--recipient is no age recipient that keyturn takes.", f"{problem[0].upper()}{problem[1:]}."
        )


def _refuse_own(loaded: LoadedInventory, store: str, recipient: str) -> None:
    from keyturn.stores.keys import resolve_secret
    from keyturn.stores.sealing import BadIdentityError, Sealer

    entry = loaded.inventory.stores[store]
    if not isinstance(entry, AgeFilesStore):
        return
    try:
        own = Sealer(resolve_secret(entry.key, loaded.base)).recipients
    except (KeyturnError, BadIdentityError):
        return  # a person may make bundles who may not open the store; doctor looks again
    if recipient in own:
        raise RefusedError(
            f"This is the recipient of the store {store}: with its identity a bot opens every key.",
            now="Nothing was written.",
            todo="Give the bot an identity of its own: --new-identity.",
        )


def write(loaded: LoadedInventory, order: Order, made: BundleSettings) -> Made:
    """Make the folder, or bring the settings in it up to date; an identity in it stays.

    Raises:
        RefusedError: --new-identity, and there is one.
        UsageError: the folder cannot be written, or holds something else.
    """
    folder, files = order.folder, [SETTINGS]
    declared = getattr(loaded.inventory.consumers[order.consumer], "recipient", None)
    in_files = any(isinstance(entry, AgeFilesStore) for entry in made.stores.values())
    recipient = (order.recipient or declared) if in_files else None
    _refuse_strange(folder)
    try:
        make_folder(folder)
        folder.chmod(0o700)
        write_atomic(folder / ".gitignore", b"# Nothing in here belongs in a repository.\n*\n")
        if order.new_identity:
            from keyturn.stores.keys import generate_identity

            recipient = generate_identity(folder / IDENTITY)
            files.append(IDENTITY)
        if ca := _ca_file(loaded, order.consumer):
            write_atomic(folder / _CA, read_file(ca, _MOST_CA_BYTES, links=True))
            files.append(_CA)
        policies = _policies(loaded, order, made)
        for old in _of_policies(folder):
            old.unlink()
        for name, text in policies.items():
            write_atomic(folder / name, text.encode())
            files.append(name)
        document = made.model_dump(mode="json", exclude_none=True)
        write_atomic(folder / SETTINGS, (json.dumps(document, indent=2) + "\n").encode())
    except OSError as error:
        raise _usage(
            f"{folder} cannot be written: {error.strerror or type(error).__name__}.",
            "Make room, or choose another folder with --to.",
        ) from None
    return Made(files, recipient, _notes(order, made))


def _policies(loaded: LoadedInventory, order: Order, made: BundleSettings) -> Mapping[str, str]:
    """Give the policy of the bot at each server that it reads from, by the name of its file."""
    found = {}
    for store, entry in made.stores.items():
        places = [
            bot_policies.Place(known.path, tries=loaded.inventory.prober_of(name) == order.consumer)
            for name, known in made.credentials.items()
            if known.store == store
        ]
        # As keyturn has it: the bot's own entry says nothing of roles and keys of AWS.
        if text := bot_policies.policy(loaded.inventory.stores[store], places):
            found[_policy_file(store, entry)] = text
    return found


def _policy_file(store: str, entry: StoreEntry) -> str:
    return _POLICY.format(store=store, form="hcl" if isinstance(entry, VaultKv2Store) else "json")


def _of_policies(folder: Path) -> list[Path]:
    return [file for form in ("hcl", "json") for file in folder.glob(_POLICY.format(store="*", form=form))]


def _refuse_strange(folder: Path) -> None:
    ours = {SETTINGS, IDENTITY, _CA, ".gitignore", *(file.name for file in _of_policies(folder))}
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise _usage(f"{folder} is there and is no folder.", "Choose another name with --to.")
    if folder.is_dir() and (strange := sorted(p.name for p in folder.iterdir() if p.name not in ours)):
        raise _usage(
            f"{folder} holds {strange[0]}, which is of no bundle.", "Choose a folder of its own with --to."
        )


def _ca_file(loaded: LoadedInventory, consumer: str) -> Path | None:
    inventory = loaded.inventory
    for name, entry in inventory.credentials.items():
        store = inventory.stores[inventory.store_of(name).store]
        if consumer in entry.consumers and isinstance(store, VaultKv2Store) and store.ca_file:
            return loaded.base / store.ca_file
    return None


def _notes(order: Order, made: BundleSettings) -> list[str]:
    """Say what the bot's host must be given besides: rights at a server, or the files themselves."""
    return [_note(name, entry, order, made) for name, entry in made.stores.items()]


def _note(store: str, entry: StoreEntry, order: Order, made: BundleSettings) -> str:
    paths = ", ".join(known.path for known in made.credentials.values() if known.store == store)
    policy = order.folder / _policy_file(store, entry)
    if isinstance(entry, AgeFilesStore):
        mailbox = f"{made.mailbox}/{order.consumer}" if made.mailbox else ""
        writes = f", and writes to {mailbox}" if mailbox else ""
        return (
            f"The bot reads {paths} below {entry.path}{writes}. On another host these are the same folders,"
            " mounted, or kept alike by rsync: see docs/bots.md."
        )
    if isinstance(entry, VaultKv2Store):
        refs = [ref for _, ref in entry.auth if isinstance(ref, SecretRef)]
        files = "".join(f" Bring it {ref.file}, beside {SETTINGS}." for ref in refs if ref.file)
        given = f"with {refs[0].env} set" if refs and refs[0].env else f"by {entry.auth.method}"
        there = f" -namespace={entry.namespace}" if entry.namespace else ""
        return (
            f"The bot logs in to Vault {given}.{files} Give that login the policy for {paths} alone, made by:"
            f" vault policy write{there} bot-{order.consumer} {shlex.quote(str(policy))}"
        )
    return (
        "The bot takes the AWS credentials of its own machine: let its role have the policy for"
        f" {paths} alone: aws iam put-role-policy --role-name ROLE --policy-name keyturn-{order.consumer}"
        f" --policy-document {shlex.quote(f'file://{policy}')}"
    )


def _usage(what: str, todo: str) -> ask.UsageError:
    return ask.UsageError(what, now="Nothing was written.", todo=todo)
