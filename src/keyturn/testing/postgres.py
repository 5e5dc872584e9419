"""A PostgreSQL of the tests' own, on the loopback, from the binaries that the machine has.

@pytest.fixture(scope="session")
def server():
    with postgres_server() as server:
        yield server
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

HINT = "PostgreSQL is not installed; to run this: apt-get install postgresql (macOS: brew install postgresql)"

# Beside the PATH: where Debian and Homebrew put the server's programs.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server."""

    port: int
    user: str
    password: str
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        """Give the URL of a database, without the password."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    def sqlalchemy_url(self, database: str) -> URL:
        """Give the URL of a database, with the password."""
        return URL.create("postgresql+psycopg", self.user, self.password, "127.0.0.1", self.port, database)

    def create_database(self) -> str:
        """Make an empty database, and give its name."""
        name = f"t{secrets.token_hex(6)}"
        self.execute("postgres", f'CREATE DATABASE "{name}"')
        return name

    def execute(self, database: str, statement: str) -> None:
        """Run a statement outside a transaction."""
        engine = create_engine(
            self.sqlalchemy_url(database), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(statement))


def find_initdb() -> Path | None:
    """Find PostgreSQL's programs; the newest of several."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve()
    found = [path for pattern in _FOLDERS for path in Path("/").glob(f"{pattern[1:]}/initdb")]
    return max(found, default=None)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a folder that is removed afterwards.

    Raises:
        LookupError: there is no PostgreSQL on this machine; the text is a hint for the skip.
    """
    initdb = find_initdb()
    if initdb is None:
        raise LookupError(HINT)
    # Short, because the path of a Unix socket may have about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="ktpg"))
    try:
        # It refuses to run as root, and Debian's package brings a user for it.
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        password = secrets.token_hex(16)
        _initialise(initdb, folder, password, as_user)
        server = _start(initdb.with_name("postgres"), folder, password, as_user)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGINT)  # ends open sessions, then stops
            server.process.wait(_START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialise(initdb: Path, folder: Path, password: str, as_user: dict[str, Any]) -> None:
    password_file = folder / "password"
    password_file.write_text(password)
    password_file.chmod(0o644)
    options = ["-A", "scram-sha-256", "-U", "keyturn", "--pwfile", str(password_file), "-E", "UTF8", "-N"]
    subprocess.run(  # noqa: S603  # a program of this machine, with arguments that are ours
        [initdb, "-D", folder / "data", *options, "--locale=C"],
        check=True,
        capture_output=True,
        cwd="/",
        **as_user,
    )
    password_file.unlink()


def _start(postgres: Path, folder: Path, password: str, as_user: dict[str, Any]) -> PostgresServer:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "max_connections": "50",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # as above
            [postgres, "-D", folder / "data", *arguments], stdout=log, stderr=log, cwd="/", **as_user
        )
    server = PostgresServer(port, "keyturn", password, process)
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.execute("postgres", "SELECT 1")
        except OperationalError:
            if process.poll() is not None or time.monotonic() > give_up:
                process.kill()
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return server
