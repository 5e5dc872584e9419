from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity

from .aws_server import aws, botocore_reads_its_files_once, credentials
from .vault_server import vaults

__all__ = ["aws", "botocore_reads_its_files_once", "credentials", "vaults"]

PATH = "bybit/main"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "age.key"
    generate_identity(file)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def open_store(key: Path) -> AsyncIterator[Callable[..., AgeFilesStore]]:
    opened: list[AgeFilesStore] = []

    def open_store(root: Path, *, key: Path = key, lock_wait: float = 10.0) -> AgeFilesStore:
        opened.append(AgeFilesStore(root, key.read_text, lock_wait=lock_wait))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_store: Callable[..., AgeFilesStore], root: Path) -> AgeFilesStore:
    return open_store(root)


@pytest.fixture
def folder(root: Path) -> Path:
    return root / PATH
