"""What the rules read: an inventory, the venues, and the names that the file declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import normpath

from keyturn.domain.inventory import (
    AccountEntry,
    CredentialEntry,
    Inventory,
    PolicyEntry,
)
from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import Path
from keyturn.domain.manifest import DriverManifest

#: The parts of an inventory that map names to entries.
SECTIONS = ("stores", "accounts", "credentials", "consumers", "policies")


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that a rule may look at."""

    inventory: Inventory
    manifests: Mapping[str, DriverManifest]
    #: Names by section, entries with errors of their own included; None for a section that is not readable.
    declared: Mapping[str, frozenset[str] | None]
    #: Gives the one name that a place on this machine has, however the inventory spells it.
    real_path: Callable[[str], str] = normpath

    def knows(self, section: str, name: str) -> bool:
        """Whether the file has such an entry, sound or not."""
        names = self.declared[section]
        return names is None or name in names

    def names(self, section: str) -> frozenset[str]:
        """Give the names of a section."""
        return self.declared[section] or frozenset()

    def credentials(self) -> Iterator[tuple[Path, str, CredentialEntry]]:
        """Give every credential with its path."""
        for name, entry in self.inventory.credentials.items():
            yield ("credentials", name), name, entry

    def account(self, credential: CredentialEntry) -> AccountEntry | None:
        """Give the account of a credential, if it is sound."""
        return self.inventory.accounts.get(credential.account)

    def manifest(self, credential: CredentialEntry) -> DriverManifest | None:
        """Give the venue of a credential, if it is known."""
        account = self.account(credential)
        return self.manifests.get(account.exchange) if account else None

    def policy(self, credential: CredentialEntry) -> PolicyEntry | None:
        """Give the policy of a credential, defaults applied, if it is sound."""
        name = credential.policy or self.inventory.defaults.policy
        return self.inventory.policies.get(name) if name else PolicyEntry()

    def store(self, credential: CredentialEntry) -> str | None:
        """Give the store of a credential, defaults applied."""
        return credential.store or self.inventory.defaults.store


def refuse(path: Path, wrong: str, write: str) -> Finding:
    """Build a finding that keeps the inventory from loading."""
    return Finding(path, wrong, write)


def warn(path: Path, wrong: str, write: str) -> Finding:
    """Build a finding that a person should look at."""
    return Finding(path, wrong, write, warning=True)
