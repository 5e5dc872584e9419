"""The rules of an inventory, one small function each: read it as a policy.

Here is what a key may do, from where, and for how long. What names and places must hold
(references, paths, consumers) is in `inventory_places`, and what URLs must in `inventory_urls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from posixpath import normpath

from keyturn.domain import inventory_acceptance as acceptance
from keyturn.domain import inventory_commands as commands
from keyturn.domain import inventory_formats as formats
from keyturn.domain import inventory_places as places
from keyturn.domain import inventory_readers as readers
from keyturn.domain import inventory_urls as urls
from keyturn.domain.inventory import CredentialEntry, Inventory, format_duration
from keyturn.domain.inventory_book import SECTIONS, Book, refuse, warn
from keyturn.domain.inventory_findings import Finding, choose_from, listed
from keyturn.domain.inventory_secrets import Path
from keyturn.domain.keys import TRADING, Permission
from keyturn.domain.manifest import DriverManifest

__all__ = ["RULES", "SECTIONS", "check"]

Rule = Callable[[Book], Iterator[Finding]]

# A key older than 90 days has been in too many backups and laptops; one younger than 30 costs more
# restarts than it gives safety. Both are the project's brief, and a written reason overrides them.
SHORTEST = timedelta(days=30)
LONGEST = timedelta(days=90)
#: A network that wide is no list at all.
_WIDEST_V4, _WIDEST_V6 = 16, 48


def check(
    inventory: Inventory,
    manifests: Mapping[str, DriverManifest],
    declared: Mapping[str, frozenset[str] | None] | None = None,
    real_path: Callable[[str], str] = normpath,
) -> list[Finding]:
    """Hold an inventory to every rule.

    Args:
        inventory: the entries that are sound in themselves.
        manifests: the venues that are known, by code.
        declared: the names by section that the file has; by default those of the inventory.
        real_path: gives the one name that a path of the inventory has on this machine.
    """
    own = {section: frozenset(getattr(inventory, section)) for section in SECTIONS}
    book = Book(inventory, manifests, own if declared is None else declared, real_path)
    return [finding for rule in RULES for finding in rule(book)]


def exchanges_are_known(book: Book) -> Iterator[Finding]:
    """An account is at a venue that there is a driver for."""
    for name, account in book.inventory.accounts.items():
        if account.exchange not in book.manifests:
            known = f"no such exchange (known: {listed(sorted(book.manifests))})"
            yield refuse(("accounts", name, "exchange"), known, choose_from(book.manifests, account.exchange))


def testnet_needs_a_sandbox(book: Book) -> Iterator[Finding]:
    """`environment: testnet` is for venues that have a sandbox, or for an URL of one's own."""
    for name, account in book.inventory.accounts.items():
        manifest = book.manifests.get(account.exchange)
        if account.environment == "testnet" and manifest and not (manifest.sandbox_url or account.url):
            yield refuse(
                ("accounts", name, "environment"),
                f"{manifest.name} has no sandbox",
                "write live, or give a url",
            )


def sites_are_the_venues(book: Book) -> Iterator[Finding]:
    """An account is at a site that its venue has."""
    for name, account in book.inventory.accounts.items():
        manifest = book.manifests.get(account.exchange)
        if manifest is None or account.site is None:
            continue
        site, at = manifest.sites.get(account.site), ("accounts", name, "site")
        if site is None:
            known = f"{manifest.name} has no such site (known: {manifest.told_sites() or 'none'})"
            yield refuse(at, known, choose_from(manifest.sites, account.site))
        elif account.environment == "testnet" and not (site.testnet_url or account.url):
            yield refuse(
                at, f"{account.site} of {manifest.name} has no testnet", "leave it out, or write live"
            )


def permissions_exist_at_the_venue(book: Book) -> Iterator[Finding]:
    """A credential asks only for what its venue can grant."""
    for path, entry, manifest in _with_venue(book):
        if missing := manifest.unsupported(entry.permissions):
            yield refuse(
                (*path, "permissions"),
                f"{manifest.name} does not grant {listed(sorted(missing))} as a right of its own",
                f"write some of: {listed(sorted(manifest.permissions))}",
            )


def subaccount_is_as_the_venue_needs(book: Book) -> Iterator[Finding]:
    """A sub-account is named where the venue mints keys for sub-accounts alone, and nowhere in vain."""
    for path, entry, manifest in _with_venue(book):
        if manifest.subaccount == "required" and entry.subaccount is None:
            yield refuse(
                (*path, "subaccount"),
                f"is missing: {manifest.name} mints keys for sub-accounts only",
                'write `subaccount: "..."`, in the form that the venue shows',
            )
        elif manifest.subaccount == "none" and entry.subaccount is not None:
            yield refuse(
                (*path, "subaccount"),
                f"{manifest.name} keys have no sub-account of their own",
                "write an account for it, with a manager key of the sub-account, and leave this field out",
            )


def trade_and_withdraw_never_on_one_key(book: Book) -> Iterator[Finding]:
    """A leaked bot key must not be able to both lose and move the money."""
    for path, _, entry in book.credentials():
        if Permission.WITHDRAW in entry.permissions and TRADING & entry.permissions:
            yield refuse(
                (*path, "permissions"),
                "trade and withdraw on one key",
                "write two credentials, one for each",
            )


def withdraw_needs_addresses_and_a_reason(book: Book) -> Iterator[Finding]:
    """A key that can withdraw is bound to addresses, and somebody says why it exists."""
    for path, _, entry in book.credentials():
        if Permission.WITHDRAW not in entry.permissions:
            continue
        if not entry.ip_allowlist:
            yield refuse(
                (*path, "ip_allowlist"),
                "is missing on a key that can withdraw",
                "write the addresses that it is used from",
            )
        if entry.withdraw_reason is None:
            yield refuse(
                (*path, "withdraw_reason"),
                "is missing on a key that can withdraw",
                "write why it must, in a sentence",
            )


def a_key_without_addresses_needs_a_reason(book: Book) -> Iterator[Finding]:
    """A key works from anywhere only when somebody says why."""
    for path, _, entry in book.credentials():
        withdraws = Permission.WITHDRAW in entry.permissions
        if not entry.ip_allowlist and entry.no_ip_allowlist_reason is None and not withdraws:
            yield refuse(
                (*path, "ip_allowlist"),
                "is missing: the key would work from anywhere",
                "write the bot's addresses, or `no_ip_allowlist_reason:` with a sentence",
            )


def a_bot_never_manages_keys(book: Book) -> Iterator[Finding]:
    """What mints keys is a manager key, and no bot has it."""
    for path, _, entry in book.credentials():
        if Permission.MANAGE_KEYS in entry.permissions:
            yield refuse(
                (*path, "permissions"),
                "manage_keys on a bot's key: whoever has it mints keys of their own",
                "leave it out; the account's `manager` has that right",
            )


def addresses_fit_the_venue(book: Book) -> Iterator[Finding]:
    """An IP list has no more entries, and of no other kind, than the venue takes."""
    for path, entry, manifest in _with_venue(book):
        rules, at = manifest.ip, (*path, "ip_allowlist")
        if len(entry.ip_allowlist) > rules.max_entries:
            yield refuse(
                at,
                f"{len(entry.ip_allowlist)} entries, and {manifest.name} takes {rules.max_entries}",
                f"write {rules.max_entries} at most",
            )
        if not rules.networks and any("/" in ip for ip in entry.ip_allowlist):
            yield refuse(at, f"{manifest.name} takes no networks", "write single addresses")
        if not rules.ipv6 and any(":" in ip for ip in entry.ip_allowlist):
            yield refuse(at, f"{manifest.name} takes no IPv6", "write IPv4 addresses")


def a_network_is_not_the_internet(book: Book) -> Iterator[Finding]:
    """`0.0.0.0/0` is no IP list, whatever the venue makes of it."""
    for path, _, entry in book.credentials():
        for ip in sorted(entry.ip_allowlist):
            address, _, bits = ip.partition("/")
            widest = _WIDEST_V6 if ":" in ip else _WIDEST_V4
            if address in {"0.0.0.0", "::"} or (bits and int(bits) < widest):  # noqa: S104 - compared, not bound
                yield refuse(
                    (*path, "ip_allowlist"),
                    "an entry lets far more than your machines in",
                    f"write addresses, or networks of /{_WIDEST_V4} (IPv6: /{_WIDEST_V6}) and smaller",
                )
                break


def interval_is_30_to_90_days(book: Book) -> Iterator[Finding]:
    """Keys turn every 30 to 90 days, unless somebody says why not."""
    for name, policy in book.inventory.policies.items():
        outside = not SHORTEST <= policy.rotate_every <= LONGEST
        if outside and policy.outside_30_90_reason is None:
            yield refuse(
                ("policies", name, "rotate_every"),
                f"{format_duration(policy.rotate_every)} is outside 30 to 90 days",
                "write 30d to 90d, or `outside_30_90_reason:` with a sentence",
            )


def grace_ends_before_the_next_rotation(book: Book) -> Iterator[Finding]:
    """The old key dies before the new one is due."""
    for name, policy in book.inventory.policies.items():
        if policy.grace >= policy.rotate_every:
            yield refuse(
                ("policies", name, "grace"),
                f"{format_duration(policy.grace)} is not shorter than the interval",
                f"write less than {format_duration(policy.rotate_every)}, such as 24h",
            )


def waiting_times_are_not_zero(book: Book) -> Iterator[Finding]:
    """A consumer gets time to confirm, and a call time to be answered."""
    for name, policy in book.inventory.policies.items():
        if not policy.confirm_within:
            yield refuse(
                ("policies", name, "confirm_within"), "no time to confirm: every rotation parks", "write 2h"
            )
    for section, entries in (("accounts", book.inventory.accounts), ("consumers", book.inventory.consumers)):
        for name, entry in entries.items():
            if getattr(entry, "timeout", True) == timedelta(0):
                yield refuse((section, name, "timeout"), "no time for an answer", "write 10s")


def rotation_comes_before_the_venues_expiry(book: Book) -> Iterator[Finding]:
    """A key that the venue itself ends is replaced before that."""
    for path, entry, manifest in _with_venue(book):
        days, policy = manifest.expiry_days_without_ip, book.policy(entry)
        if entry.ip_allowlist or days is None or policy is None:
            continue
        if policy.rotate_every > timedelta(days=days):
            yield refuse(
                (*path, "policy"),
                f"{manifest.name} ends a key without an IP list after {days} days, and the policy turns it"
                f" every {format_duration(policy.rotate_every)}",
                f"write an ip_allowlist, or a policy of {days}d or less",
            )


def reasons_are_not_left_over(book: Book) -> Iterator[Finding]:
    """A reason for what is no longer so misleads the next reader."""
    for path, _, entry in book.credentials():
        if entry.no_ip_allowlist_reason and entry.ip_allowlist:
            yield warn((*path, "no_ip_allowlist_reason"), "there is an IP list", "remove the reason")
        if entry.withdraw_reason and Permission.WITHDRAW not in entry.permissions:
            yield warn((*path, "withdraw_reason"), "the key cannot withdraw", "remove the reason")


def _with_venue(book: Book) -> Iterator[tuple[Path, CredentialEntry, DriverManifest]]:
    for path, _, entry in book.credentials():
        if (manifest := book.manifest(entry)) is not None:
            yield path, entry, manifest


#: Every rule. The first that speaks of a place is the one that is told.
RULES: tuple[Rule, ...] = (
    places.references_lead_somewhere,
    places.secret_refs_name_one_place,
    commands.commands_hold_no_secret,
    commands.names_are_no_secrets,
    places.one_path_one_secret,
    places.stores_have_folders_of_their_own,
    exchanges_are_known,
    testnet_needs_a_sandbox,
    sites_are_the_venues,
    permissions_exist_at_the_venue,
    subaccount_is_as_the_venue_needs,
    a_bot_never_manages_keys,
    trade_and_withdraw_never_on_one_key,
    withdraw_needs_addresses_and_a_reason,
    a_key_without_addresses_needs_a_reason,
    addresses_fit_the_venue,
    a_network_is_not_the_internet,
    interval_is_30_to_90_days,
    grace_ends_before_the_next_rotation,
    waiting_times_are_not_zero,
    rotation_comes_before_the_venues_expiry,
    reasons_are_not_left_over,
    acceptance.only_added_rights_are_accepted,
    acceptance.a_loss_is_accepted_for_a_reason,
    places.windows_can_open,
    urls.plain_http_passes_no_other_machine,
    urls.journal_is_at_a_known_kind_of_place,
    places.evidence_can_be_given,
    places.file_consumers_are_sound,
    places.one_file_one_credential,
    places.keys_have_one_consumer_each,
    formats.formats_are_for_stores_that_have_them,
    formats.formats_are_whole,
    readers.a_recipient_is_one_bots,
    readers.one_group_sees_a_key,
    places.nothing_lies_unused,
)
