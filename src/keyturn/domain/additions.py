"""Rights that venues add by themselves, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.domain.inventory import Inventory
from keyturn.domain.manifest import AddedRight, DriverManifest


def open_additions(inventory: Inventory, manifests: Mapping[str, DriverManifest]) -> list[str]:
    """Say, for each credential, which rights its venue may add by itself and the entry does not accept."""
    told = []
    for name, entry in inventory.credentials.items():
        manifest = manifests.get(inventory.accounts[entry.account].exchange)
        if manifest is None or manifest.unsupported(entry.permissions):
            continue
        told += [
            f"{name}: {addition(manifest, added)} {how_to_accept(name, added)}"
            for added in manifest.unaccepted(manifest.grants_for(entry.permissions), entry.accepts)
        ]
    return told


def addition(manifest: DriverManifest, added: AddedRight) -> str:
    """Say which right a venue adds, to which keys, and what it opens."""
    word = f" ({', '.join(added.opens)})" if added.opens else ""
    return (
        f"{manifest.name} gives {added.right} by itself to {added.when}; with it a key can"
        f" {added.meaning}{word}."
    )


def how_to_accept(credential: str, added: AddedRight) -> str:
    """Say how a person lets a key have a right that the venue adds."""
    return (
        f"A new key that has it is not taken, unless the entry of {credential} says"
        f" `accepts: [{added.right}]`."
    )
