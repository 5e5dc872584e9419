"""Secrets that settings refer to: read from a file, the environment or the OS keyring; and age identities.

Nothing here knows a store: the webhook's HMAC key and the database's password come this way too.
"""

from __future__ import annotations

import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.files import SMALL, open_file, take

if TYPE_CHECKING:  # the models bring pydantic, which a bot's process does not need for this
    from keyturn.domain.inventory import SecretRef

#: The service name under which keyturn's entries stand in the OS keyring.
KEYRING_SERVICE = "keyturn"


class SecretUnavailableError(KeyturnError):
    """A secret that the settings refer to is not there, or is not safely kept."""

    exit_code = 2


def resolve_secret(ref: SecretRef, base: Path) -> str:
    """Read a secret from where its reference points.

    Args:
        ref: exactly one of file, env, keyring.
        base: the folder of the inventory, which a relative file name starts from.

    Returns:
        The text; line ends at the end of a file or a variable are dropped.

    Raises:
        SecretUnavailableError: it is missing, empty, unreadable, or readable by other users.
    """
    given = [name for name in ("file", "env", "keyring") if getattr(ref, name) is not None]
    if len(given) != 1:
        raise SecretUnavailableError(
            f"A secret reference names {' and '.join(given) or 'no source'}; it needs exactly one.",
            todo="Write one of: file: NAME, env: NAME, keyring: NAME.",
        )
    if ref.file is not None:
        return _from_file(base / ref.file)
    if ref.env is not None:
        return _from_env(ref.env)
    return _from_keyring(str(ref.keyring))


def _from_file(path: Path) -> str:
    try:
        # A secret that an orchestrator mounts is a link to it.
        descriptor = open_file(path, links=True)
        try:
            _refuse_shared(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        data = take(descriptor, SMALL)
    except FileNotFoundError:
        raise SecretUnavailableError(
            f"The secret file {path} does not exist.",
            todo="Create it, or correct the file name in the inventory.",
        ) from None
    except OSError as error:
        raise SecretUnavailableError(
            f"The secret file {path} cannot be read: {error.strerror}.",
            todo="Let the user that runs keyturn own it, with mode 0600.",
        ) from None
    text = _decoded(data)
    if not text:
        problem = "is empty" if text == "" else "is not text (UTF-8)"
        raise SecretUnavailableError(f"The secret file {path} {problem}.", todo="Write the secret into it.")
    return text


def _decoded(data: bytes) -> str | None:
    # A separate frame that raises nothing: UnicodeDecodeError carries the bytes that it was given.
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return None


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    # ssh's rule: one's own file must be closed to everybody else; a file of another owner (a secret
    # that an orchestrator mounts) is that owner's to judge.
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise SecretUnavailableError(
            f"The secret file {path} can be used by other users (mode {stat.S_IMODE(status.st_mode):04o}).",
            now="It was not read.",
            todo=f"chmod 600 {path}; if others may have read it, replace the secret.",
        )


def _from_env(name: str) -> str:
    value = os.environ.get(name)
    # An orchestrator that fills it from a file brings the file's line end along.
    text = (value or "").rstrip("\r\n")
    if not text:
        problem = "is not set" if value is None else "is empty"
        raise SecretUnavailableError(
            f"The environment variable {name}, which the inventory refers to, {problem}.",
            todo="Set it for the process that runs keyturn.",
        )
    return text


def _from_keyring(name: str) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise SecretUnavailableError(
            f"The secret {name} is in the OS keyring, and the library that reads it is not installed.",
            todo="pip install 'keyturn[keyring]'",
        ) from None
    try:
        value = keyring.get_password(KEYRING_SERVICE, name)
    except KeyringError as error:
        raise SecretUnavailableError(
            f"The OS keyring did not give the secret {name} ({type(error).__name__}).",
            todo="Unlock the keyring, or choose file or env on a machine that has none.",
        ) from None
    if not value:
        raise SecretUnavailableError(
            f"The OS keyring has no entry {name} under the service {KEYRING_SERVICE}.",
            todo=f"keyring set {KEYRING_SERVICE} {name}",
        )
    return value


def generate_identity(path: Path) -> str:
    """Write a new age identity, as `age-keygen` does: mode 0600, on disk for good when this returns.

    Returns:
        The public key (`age1...`).

    Raises:
        RefusedError: the file exists; an identity is never overwritten.
        SecretUnavailableError: it cannot be written.
    """
    from pyrage import x25519

    identity = x25519.Identity.generate()
    public = str(identity.to_public())
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = f"# created: {created}\n# public key: {public}\n{identity}\n"
    try:
        _write_new(path, text.encode())
    except FileExistsError:
        raise RefusedError(
            f"{path} exists; an identity is never overwritten.",
            now="The file was left as it is.",
            todo="Use it, or choose another name. Without the old identity its store cannot be read.",
        ) from None
    except OSError as error:
        raise SecretUnavailableError(
            f"The identity could not be written to {path}: {error.strerror}.",
            now="No file was left.",
            todo="Create the folder, or make room, and try again.",
        ) from None
    return public


def _write_new(path: Path, data: bytes) -> None:
    # mkstemp makes the file 0600; the link fails on an existing name, where a rename would replace it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".identity-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
