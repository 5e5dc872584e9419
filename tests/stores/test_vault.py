"""The store contract, held by the Vault store on each kind of server with the rotator's policy alone."""

from keyturn.testing.store_contract import SecretStoreContract

from .vault_cases import server, store

__all__ = ["server", "store"]


class TestVaultKv2Store(SecretStoreContract):
    pass
