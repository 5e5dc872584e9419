from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyturn.ports.store import SecretStore
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity
from keyturn.testing.memory_store import MemoryStore
from keyturn.testing.store_contract import SecretStoreContract


class TestMemoryStore(SecretStoreContract):
    @pytest.fixture
    def store(self) -> SecretStore:
        return MemoryStore()


class TestAgeFilesStore(SecretStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SecretStore]:
        key = tmp_path / "age.key"
        generate_identity(key)
        store = AgeFilesStore(tmp_path / "store", key.read_text)
        yield store
        await store.close()
