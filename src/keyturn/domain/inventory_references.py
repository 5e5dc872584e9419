"""Where an inventory refers to secrets."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.domain.inventory import AgeFilesStore, Inventory, SecretRef, VaultKv2Store, WebhookConsumer
from keyturn.domain.inventory_secrets import Path


def secret_refs(inventory: Inventory) -> Iterator[tuple[Path, SecretRef]]:
    """Give every reference to a secret, and its place in the inventory."""
    for name, store in inventory.stores.items():
        if isinstance(store, AgeFilesStore):
            yield ("stores", name, "key"), store.key
        elif isinstance(store, VaultKv2Store):
            for way in ("auth", "consumer_auth"):
                for field in ("token", "secret_id"):
                    if isinstance(ref := getattr(getattr(store, way), field, None), SecretRef):
                        yield ("stores", name, way, field), ref
    for name, consumer in inventory.consumers.items():
        if isinstance(consumer, WebhookConsumer):
            yield ("consumers", name, "hmac_key"), consumer.hmac_key
    if inventory.journal.password is not None:
        yield ("journal", "password"), inventory.journal.password
