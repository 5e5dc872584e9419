"""Secrets by reference: file, environment, OS keyring; and new identities."""

import builtins
import os
import shutil
import stat
import subprocess
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from keyturn.domain.errors import RefusedError
from keyturn.domain.inventory import SecretRef
from keyturn.domain.slots import Slot
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import SecretUnavailableError, generate_identity, resolve_secret
from keyturn.testing.store_contract_support import key_in, put_key

SECRET = "not-a-real-secret-1"


class InMemoryKeyring(KeyringBackend):
    priority = 1

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"locked, and {SECRET} must not show")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


@pytest.fixture
def os_keyring() -> InMemoryKeyring:
    before = keyring.get_keyring()
    backend = InMemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def secret_file(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def unavailable(ref: SecretRef, base: Path) -> SecretUnavailableError:
    with pytest.raises(SecretUnavailableError) as caught:
        resolve_secret(ref, base)
    assert caught.value.todo
    assert SECRET not in caught.value.diagnostics()
    return caught.value


def test_a_file_is_found_from_the_inventorys_folder(tmp_path: Path) -> None:
    secret_file(tmp_path / "hmac.key", f"{SECRET}\r\n".encode())
    assert resolve_secret(SecretRef(file="hmac.key"), tmp_path) == SECRET
    assert resolve_secret(SecretRef(file=str(tmp_path / "hmac.key")), Path("/elsewhere")) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
def test_a_file_that_other_users_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    secret_file(tmp_path / "k", SECRET.encode(), mode)
    assert "chmod 600" in unavailable(SecretRef(file="k"), tmp_path).todo


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a file to another user")
def test_a_mounted_file_of_another_owner_is_that_owners_to_judge(tmp_path: Path) -> None:
    os.chown(secret_file(tmp_path / "k", SECRET.encode(), 0o440), 65534, 0)
    assert resolve_secret(SecretRef(file="k"), tmp_path) == SECRET


@pytest.mark.parametrize(
    ("data", "word"), [(b"", "empty"), (b"\n\n", "empty"), (b"\xff\xfe" + SECRET.encode(), "text")]
)
def test_a_file_without_a_usable_secret_is_refused(tmp_path: Path, data: bytes, word: str) -> None:
    secret_file(tmp_path / "k", data)
    assert word in unavailable(SecretRef(file="k"), tmp_path).what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.key" in unavailable(SecretRef(file="nowhere.key"), tmp_path).what
    unavailable(SecretRef(file="."), tmp_path)


def test_an_environment_variable_is_read_when_asked(tmp_path: Path, monkeypatch) -> None:
    ref = SecretRef(env="KEYTURN_TEST_SECRET")
    assert "not set" in unavailable(ref, tmp_path).what
    monkeypatch.setenv("KEYTURN_TEST_SECRET", "")
    assert "empty" in unavailable(ref, tmp_path).what
    monkeypatch.setenv("KEYTURN_TEST_SECRET", SECRET)
    assert resolve_secret(ref, tmp_path) == SECRET


def test_the_os_keyring_is_read(tmp_path: Path, os_keyring: InMemoryKeyring) -> None:
    ref = SecretRef(keyring="hmac")
    assert "keyring set keyturn hmac" in unavailable(ref, tmp_path).todo
    keyring.set_password("keyturn", "hmac", SECRET)
    assert resolve_secret(ref, tmp_path) == SECRET
    os_keyring.locked = True
    assert "KeyringLocked" in unavailable(ref, tmp_path).what


def test_without_the_keyring_library_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    real_import = builtins.__import__

    def no_keyring(name: str, *rest: object, **more: object) -> object:
        if name.split(".", maxsplit=1)[0] == "keyring":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_keyring)
    assert "keyturn[keyring]" in unavailable(SecretRef(keyring="x"), tmp_path).todo


def test_a_line_end_after_a_variable_is_not_part_of_the_secret(tmp_path: Path, monkeypatch) -> None:
    ref = SecretRef(env="KEYTURN_TEST_SECRET")
    monkeypatch.setenv("KEYTURN_TEST_SECRET", f"{SECRET}\r\n")
    assert resolve_secret(ref, tmp_path) == SECRET
    monkeypatch.setenv("KEYTURN_TEST_SECRET", "\n")
    assert "is empty" in unavailable(ref, tmp_path).what


@pytest.mark.parametrize("ref", [SecretRef(), SecretRef(env="A", file="b")])
def test_a_reference_names_exactly_one_source(tmp_path: Path, ref: SecretRef) -> None:
    assert "exactly one" in unavailable(ref, tmp_path).what


@pytest.mark.parametrize("source", ["file", "env", "keyring"])
async def test_a_store_takes_its_key_from_any_source(
    tmp_path: Path, source: str, monkeypatch, os_keyring: InMemoryKeyring
) -> None:
    generate_identity(tmp_path / "age.key")
    text = (tmp_path / "age.key").read_text()
    monkeypatch.setenv("KEYTURN_TEST_KEY", text)
    keyring.set_password("keyturn", "store", text)
    refs = {"file": "age.key", "env": "KEYTURN_TEST_KEY", "keyring": "store"}
    ref = SecretRef(**{source: refs[source]})
    store = AgeFilesStore(tmp_path / "store", lambda: resolve_secret(ref, tmp_path))
    await put_key(store, "a/b", "a")
    assert await key_in(store, "a/b", Slot.CURRENT) == "key-a"
    await store.close()


def test_a_new_identity_has_the_form_of_age_keygen(tmp_path: Path) -> None:
    file = tmp_path / "age.key"
    before = os.umask(0)
    try:
        public = generate_identity(file)
    finally:
        os.umask(before)
    created, comment, identity = file.read_text().splitlines()
    assert created.startswith("# created: 2")
    assert comment == f"# public key: {public}"
    assert identity.startswith("AGE-SECRET-KEY-1")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["age.key"]
    if tool := shutil.which("age-keygen"):
        result = subprocess.run([tool, "-y", file], capture_output=True, text=True, check=True, timeout=20)
        assert result.stdout.strip() == public


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "age.key"
    generate_identity(file)
    before = file.read_bytes()
    with pytest.raises(RefusedError):
        generate_identity(file)
    (tmp_path / "dangling").symlink_to(tmp_path / "target")
    with pytest.raises(RefusedError):
        generate_identity(tmp_path / "dangling")
    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["age.key", "dangling"]


def test_an_identity_in_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailableError) as caught:
        generate_identity(tmp_path / "no" / "age.key")
    assert "No such file" in caught.value.what
