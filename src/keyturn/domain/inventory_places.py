"""The rules about names and places: references, paths, time zones, consumers."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from keyturn.domain.evidence import Evidence
from keyturn.domain.inventory import (
    OWN_FIELDS,
    AgeFilesStore,
    AwsParameterStore,
    AwsSecretsManagerStore,
    FileConsumer,
    FormatEntry,
    StoreAddress,
    StoreEntry,
    VaultKv2Store,
)
from keyturn.domain.inventory_book import Book, refuse, warn
from keyturn.domain.inventory_findings import Finding, choose_from, listed
from keyturn.domain.inventory_references import secret_refs
from keyturn.domain.inventory_secrets import REFERENCES_ONLY, Path, looks_random


def references_lead_somewhere(book: Book) -> Iterator[Finding]:
    """What an entry names is there."""
    for path, section, name in _references(book):
        if not book.knows(section, name):
            yield refuse(path, f"no {name} among {section}", choose_from(book.names(section), name))
    for path, name, entry in book.credentials():
        if book.store(entry) is None:
            yield refuse(
                (*path, "store"), "is missing, and there is no default", "write `store:`, or `defaults.store`"
            )
        for index, consumer in enumerate(entry.consumers):
            if consumer in entry.consumers[:index]:
                yield refuse(("credentials", name, "consumers", index), "named twice", "write it once")


def _references(book: Book) -> Iterator[tuple[Path, str, str]]:
    """Give every reference: its place, the section it points to, the name."""
    inventory = book.inventory
    for name, account in inventory.accounts.items():
        yield ("accounts", name, "manager", "store"), "stores", account.manager.store
    for path, _, entry in book.credentials():
        yield (*path, "account"), "accounts", entry.account
        if entry.store:
            yield (*path, "store"), "stores", entry.store
        if entry.policy:
            yield (*path, "policy"), "policies", entry.policy
        for index, consumer in enumerate(entry.consumers):
            yield (*path, "consumers", index), "consumers", consumer
        for index, mirror in enumerate(entry.mirrors):
            yield (*path, "mirrors", index, "store"), "stores", mirror.store
    if inventory.defaults.store:
        yield ("defaults", "store"), "stores", inventory.defaults.store
    if inventory.defaults.policy:
        yield ("defaults", "policy"), "policies", inventory.defaults.policy


def secret_refs_name_one_place(book: Book) -> Iterator[Finding]:
    """A reference to a secret names one place, and is not the secret itself."""
    for path, ref in secret_refs(book.inventory):
        given = {field: value for field, value in ref if value is not None}
        if len(given) != 1:
            wrong = "names no place" if not given else f"names {len(given)} places"
            yield refuse(path, wrong, "write one of {env: NAME}, {file: PATH} or {keyring: NAME}")
        for field, value in given.items():
            if looks_random(value):
                yield refuse((*path, field), "this looks like the secret itself", REFERENCES_ONLY)
    for name, consumer in book.inventory.consumers.items():
        if isinstance(consumer, FileConsumer):
            for field, value in consumer.fields.items():
                if looks_random(value):
                    yield refuse(
                        ("consumers", name, "fields", field),
                        "this looks like a secret",
                        "write the name that the field has in the file, such as apiSecret",
                    )


def one_path_one_secret(book: Book) -> Iterator[Finding]:
    """No two credentials share a place, nor a credential and a manager key, nor managers of two venues."""
    taken: dict[str, tuple[str, object]] = {}
    pages: dict[str, Path] = {}
    stores = {name: _place_of(book, store) for name, store in book.inventory.stores.items()}
    # Managers first: of the two, the credential is the one to move.
    for name, account in book.inventory.accounts.items():
        place = _address(stores, account.manager.store, account.manager.path)
        owner = (f"the manager key of {name}", (account.exchange, account.environment))
        if taken.setdefault(place, owner)[1] != owner[1]:
            yield refuse(
                ("accounts", name, "manager", "path"),
                f"{taken[place][0]} is there, which is another venue's",
                "write a path of its own",
            )
        pages |= _page(book, stores, account.manager, ("accounts", name, "manager", "path"))
    for at, name, address, entry in _places(book):
        what = f"a mirror of {name}" if "mirrors" in at else f"the key of {name}"
        for path in (address.path, *_apart(address.path, entry)):
            place = _address(stores, address.store, path)
            if place in taken and path == address.path:
                yield refuse((*at, "path"), f"{taken[place][0]} is there", "write a path of its own")
            elif place in taken:
                there = f"{taken[place][0]} is at {path}"
                yield refuse((*at, "format"), there, "write other names in its `fields`")
            taken.setdefault(place, (what, name))
        pages |= _page(book, stores, address, (*at, "path"))
    for page, where in pages.items():
        if page in taken:
            there = f"{taken[page][0]} is where Parameter Store keeps its page (this path and `.keyturn`)"
            yield refuse(where, there, "write another path for one of the two")


def _places(book: Book) -> Iterator[tuple[Path, str, StoreAddress, FormatEntry]]:
    """Give every place of a credential: where it is written, the credential, the place, its format."""
    for path, name, entry in book.credentials():
        if store := book.store(entry):
            yield path, name, StoreAddress(store=store, path=entry.path), entry.format
            for index, mirror in enumerate(entry.mirrors):
                yield (*path, "mirrors", index), name, mirror, mirror.format


def _apart(path: str, entry: FormatEntry) -> list[str]:
    """Give the paths of the secrets that hold one field each."""
    if entry.kind != "split":
        return []
    return [f"{path}/{name}" for name in dict.fromkeys(entry.fields.values()) or OWN_FIELDS]


def _page(book: Book, stores: Mapping[str, str], address: StoreAddress, at: Path) -> dict[str, Path]:
    """Give the place of the page that Parameter Store keeps beside a key, and where the key's is written."""
    beside = isinstance(book.inventory.stores.get(address.store), AwsParameterStore)
    return {_address(stores, address.store, f"{address.path}.keyturn"): at} if beside else {}


def _address(stores: Mapping[str, str], store: str, path: str) -> str:
    place = stores.get(store)
    return f"{store}:{path}" if place is None else f"{place}/{path}".casefold()


def _place_of(book: Book, entry: StoreEntry) -> str:
    """Name where a store really writes, so that two names for one place can be told."""
    match entry:
        case AgeFilesStore():
            # macOS keeps `Bots` and `bots` in one folder.
            return book.real_path(entry.path).casefold()
        case VaultKv2Store():
            namespace = (entry.namespace or "").strip("/")
            return f"{min(map(_normal_url, entry.addresses))}/{namespace}/{entry.mount}"
        case AwsSecretsManagerStore() | AwsParameterStore():
            owner = f"{_normal_url(entry.endpoint_url or '')}:{entry.assume_role or entry.profile or ''}"
            return f"{entry.kind}:{entry.region}:{owner}:{entry.prefix}"


def _normal_url(url: str) -> str:
    """Write a URL in one way: no default port, no last slash, the host in small letters."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}" if parts.hostname else url


def stores_have_folders_of_their_own(book: Book) -> Iterator[Finding]:
    """Two stores on one folder would write each other's files, with two keys."""
    taken: dict[str, str] = {}
    for name, store in book.inventory.stores.items():
        folder = _place_of(book, store)
        if folder in taken:
            where = "path" if isinstance(store, AgeFilesStore) else "kind"
            yield refuse(
                ("stores", name, where),
                f"{taken[folder]} has this folder"
                if where == "path"
                else f"{taken[folder]} is the same place",
                "write another, or use that store",
            )
        taken.setdefault(folder, name)


def windows_can_open(book: Book) -> Iterator[Finding]:
    """A window has days, a length, and a time zone that this machine knows."""
    for name, policy in book.inventory.policies.items():
        if (window := policy.window) is None:
            continue
        path = ("policies", name, "window")
        if not window.days:
            yield refuse((*path, "days"), "no day: the window never opens", "write days: [sat, sun]")
        if window.start == window.end:
            yield refuse(
                (*path, "end"), "the same as start", "write another time, or no window for the whole day"
            )
        if (hint := _zone_hint(window.timezone)) is not None:
            yield refuse((*path, "timezone"), "no such time zone on this machine", hint)


def _zone_hint(name: str) -> str | None:
    """Give what to write in place of a time zone; None for one that exists."""
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        known = zoneinfo.available_timezones()
        if not known:
            return "install the system's tzdata, or write UTC"
        nearest = choose_from(known, name)
        return nearest if " of: " not in nearest else "write an IANA name, such as Europe/Zurich or UTC"
    return None


def evidence_can_be_given(book: Book) -> Iterator[Finding]:
    """A consumer owes only proof that it has a way to give."""
    for name, consumer in book.inventory.consumers.items():
        path = ("consumers", name, "evidence")
        if consumer.evidence is Evidence.PERSON:
            yield refuse(path, "nobody owes a person's word", "write ack or timed; keyturn confirm gives it")
        elif consumer.evidence is Evidence.OBSERVED:
            yield refuse(
                path, f"a {consumer.kind} consumer cannot be observed at the venue", "write ack or timed"
            )
        elif (
            isinstance(consumer, FileConsumer) and consumer.evidence is Evidence.ACK and not consumer.confirm
        ):
            yield refuse(
                path,
                "a file cannot acknowledge",
                "write `confirm:` with a command that prints the fingerprint in use, or timed",
            )


def file_consumers_are_sound(book: Book) -> Iterator[Finding]:
    """A signal has a process to go to and exists; a file with secrets is not for everybody."""
    for name, consumer in book.inventory.consumers.items():
        if not isinstance(consumer, FileConsumer):
            continue
        path = ("consumers", name)
        if consumer.signal and not consumer.pid_file:
            yield refuse((*path, "signal"), "goes to no process", "write `pid_file:` beside it")
        if consumer.pid_file and not consumer.signal:
            yield refuse((*path, "pid_file"), "without a signal", "write `signal: SIGHUP` beside it")
        if consumer.format == "freqtrade" and "fields" in consumer.model_fields_set:
            yield refuse((*path, "fields"), "freqtrade has names of its own", "leave it out")
        known = {s.name for s in signal.Signals}
        if consumer.signal and f"SIG{consumer.signal.removeprefix('SIG')}" not in known:
            yield refuse((*path, "signal"), "no such signal", choose_from(known, consumer.signal))
        if int(consumer.mode, 8) & 0o007:
            yield refuse(
                (*path, "mode"), "lets everybody at the secret", 'write "0600", or "0640" for a group'
            )


def one_file_one_credential(book: Book) -> Iterator[Finding]:
    """A rendered file holds one key: a second credential would overwrite it."""
    users = _users(book)
    taken: dict[str, str] = {}
    for name, consumer in book.inventory.consumers.items():
        if not isinstance(consumer, FileConsumer):
            continue
        if len(users[name]) > 1:
            yield refuse(
                ("consumers", name, "path"),
                f"{listed(users[name])} would overwrite each other in it",
                "write a file consumer for each",
            )
        place = book.real_path(consumer.path).casefold()
        if place in taken:
            yield refuse(
                ("consumers", name, "path"), f"{taken[place]} writes this file", "write a path of its own"
            )
        taken.setdefault(place, name)


def keys_have_one_consumer_each(book: Book) -> Iterator[Finding]:
    """One bot, one key: who used a leaked key is then known, and only that bot restarts."""
    for path, name, entry in book.credentials():
        if len(entry.consumers) > 1:
            yield warn(
                (*path, "consumers"),
                f"{listed(entry.consumers)} share the key {name}",
                "write a credential for each, so that a leak has one source",
            )
        elif not entry.consumers:
            yield warn(
                (*path, "consumers"),
                f"nobody is told when {name} turns",
                "write who uses the key; until then grace is the only proof",
            )


def nothing_lies_unused(book: Book) -> Iterator[Finding]:
    """An entry that nobody names is a leftover, or a reference that was forgotten."""
    used: defaultdict[str, set[str]] = defaultdict(set)
    for _, section, name in _references(book):
        used[section].add(name)
    for section in ("stores", "accounts", "consumers", "policies"):
        for name in getattr(book.inventory, section):
            if name not in used[section]:
                yield warn((section, name), "nothing uses it", "name it where it belongs, or remove it")


def _users(book: Book) -> defaultdict[str, list[str]]:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for _, name, entry in book.credentials():
        for consumer in dict.fromkeys(entry.consumers):
            users[consumer].append(name)
    return users
