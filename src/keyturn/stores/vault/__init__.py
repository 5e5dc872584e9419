"""The parts of the Vault store; `keyturn.stores.vault_kv2` puts them together."""
