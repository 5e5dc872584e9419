"""Vaults to test against: the simulator, and a real server where there is one.

A real one is a `bao` or `vault` on the PATH, started here in development mode, and once more sealed, behind
TLS, with its policies enforced; or, for the first of the two, whatever VAULT_ADDR (BAO_ADDR) points at.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyturn.domain.inventory import VaultKv2Store as Entry
from keyturn.simulator.vault import VaultSimulator
from keyturn.stores.vault_kv2 import VaultKv2Store, open_vault_kv2
from tests.ports import free_port

POLICIES = Path(__file__).parents[2] / "infra" / "vault"
BINARY = shutil.which("bao") or shutil.which("vault")
ADDRESS = os.environ.get("VAULT_ADDR") or os.environ.get("BAO_ADDR")
SKIPPED = "no Vault here: put `bao` or `vault` on the PATH, or set VAULT_ADDR and VAULT_TOKEN"
PREFIX = "keyturn/pending"


@dataclass
class Server:
    """A server, its root token, and a KV mount of the test's own."""

    address: str
    root: str = field(repr=False)
    ca_file: Path | None = None
    simulator: VaultSimulator | None = None
    unseal_key: str = field(default="", repr=False)
    mount: str = field(default_factory=lambda: f"kt-{secrets.token_hex(4)}")
    policies: list[str] = field(default_factory=list)

    def admin(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Any:
        """Make a call with the root token; give the body of the answer."""
        answer = requests.request(
            method,
            f"{self.address}/v1/{path}",
            headers={"X-Vault-Token": token or self.root},
            json=body,
            verify=str(self.ca_file) if self.ca_file else True,
            timeout=20,
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    @contextmanager
    def apart(self) -> Iterator[Server]:
        """Give the same server with another mount; on a server of somebody else nothing is left of it."""
        other = Server(self.address, self.root, self.ca_file, self.simulator, self.unseal_key)
        try:
            yield other.prepare()
        finally:
            if self.address == ADDRESS:
                for path in (
                    f"sys/mounts/{other.mount}",
                    f"sys/auth/{other.mount}",
                    *(f"sys/policies/acl/{name}" for name in other.policies),
                ):
                    other.admin("DELETE", path)

    def prepare(self) -> Server:
        """Make the mount, and the login that roles are made on."""
        self.admin("POST", f"sys/mounts/{self.mount}", {"type": "kv", "options": {"version": "2"}})
        self.admin("POST", f"sys/auth/{self.mount}", {"type": "approle"})
        # A new mount may be upgrading itself for a moment.
        for _ in range(50):
            try:
                self.put("warm/up", {"a": "1"})
                break
            except AssertionError:
                time.sleep(0.1)
        return self

    def put(self, path: str, data: dict[str, Any]) -> int:
        """Write as a person does; give the version."""
        answer = self.admin("POST", f"{self.mount}/data/{path}", {"data": data})
        return int(answer["data"]["version"])

    def get(self, path: str) -> dict[str, Any]:
        """Read as a person does."""
        data = self.admin("GET", f"{self.mount}/data/{path}")["data"]["data"]
        assert isinstance(data, dict)
        return data

    def policy(self, kind: str, **words: str) -> str:
        """Write a policy of the repository, its words replaced; give its name."""
        text = (POLICIES / f"{kind}.hcl").read_text()
        for word, value in {"MOUNT": self.mount, "PREFIX": PREFIX, **words}.items():
            text = text.replace(word, value)
        return self.policy_text(kind, text)

    def policy_text(self, kind: str, text: str) -> str:
        """Write a policy; give its name."""
        name = f"{self.mount}-{kind}-{secrets.token_hex(3)}"
        self.admin("PUT", f"sys/policies/acl/{name}", {"policy": text})
        self.policies.append(name)
        return name

    def approle(self, folder: Path, *policies: str, **settings: Any) -> dict[str, Any]:
        """Make a role and a secret id; give the `auth` of an inventory entry."""
        role = f"{self.mount}/role/r-{secrets.token_hex(4)}"
        body = {"token_policies": list(policies), "token_no_default_policy": True, "token_ttl": "1h"}
        self.admin("POST", f"auth/{role}", {**body, **settings})
        role_id = self.admin("GET", f"auth/{role}/role-id")["data"]["role_id"]
        file = folder / f"secret-id-{secrets.token_hex(4)}"
        file.touch(mode=0o600)
        file.write_text(self.admin("POST", f"auth/{role}/secret-id", {})["data"]["secret_id"])
        return {
            "method": "approle",
            "mount": self.mount,
            "role_id": role_id,
            "secret_id": {"file": str(file)},
        }

    def token(self, folder: Path, *policies: str, **settings: Any) -> tuple[str, dict[str, Any]]:
        """Make a token; give it, and the `auth` of an inventory entry."""
        body = {"policies": list(policies), **settings}
        token = self.admin("POST", "auth/token/create", body)["auth"]["client_token"]
        return token, self.given(folder, token)

    @staticmethod
    def given(folder: Path, token: str) -> dict[str, Any]:
        """Give the `auth` of an inventory entry for a token."""
        file = folder / f"token-{secrets.token_hex(4)}"
        file.touch(mode=0o600)
        file.write_text(token)
        return {"method": "token", "token": {"file": str(file)}}

    def entry(self, auth: dict[str, Any], **more: Any) -> Entry:
        """Give an inventory entry."""
        fields = {
            "kind": "vault_kv2",
            "addresses": [self.address],
            "mount": self.mount,
            "auth": auth,
            "ca_file": str(self.ca_file) if self.ca_file else None,
            "timeout": "5s",
        }
        return Entry.model_validate({**fields, **more})

    def open(self, auth: dict[str, Any], **more: Any) -> VaultKv2Store:
        """Open a store that waits for nothing between its sends."""
        store = open_vault_kv2("vault", self.entry(auth, **more), Path("/"))
        store._session._adapter.pause = lambda seconds: None
        return store

    def rotator(self, folder: Path, *paths: str, **settings: Any) -> VaultKv2Store:
        """Open a store that logs in by AppRole with the rotator's policy for some folders."""
        names = [self.policy("rotator", PATHS=path) for path in paths or ("bots", "managers", "contract")]
        return self.open(self.approle(folder, *names, **settings))


@contextmanager
def simulated() -> Iterator[Server]:
    """Run the simulator."""
    with VaultSimulator() as simulator:
        yield Server(simulator.address, simulator.root, simulator=simulator).prepare()


@contextmanager
def development(folder: Path) -> Iterator[Server]:
    """Run a real server in development mode, or use the one that the environment names."""
    if ADDRESS:
        yield Server(ADDRESS, os.environ.get("VAULT_TOKEN") or os.environ.get("BAO_TOKEN") or "")
        return
    root, port = f"not-a-real-token-{secrets.token_hex(4)}", free_port()
    options = ["-dev", f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}"]
    with running(folder, [*options, "-dev-no-store-token"]):
        server = Server(f"http://127.0.0.1:{port}", root)
        wait_for(server)
        yield server


@contextmanager
def enforcing(folder: Path) -> Iterator[Server]:
    """Run a real server from a configuration: TLS by a CA of ours, initialised and unsealed by its API."""
    port, ca_file = free_port(), _certificates(folder)
    config = folder / "server.hcl"
    config.write_text(
        f"""
        storage "file" {{ path = "{folder}/data" }}
        listener "tcp" {{
          address = "127.0.0.1:{port}"
          tls_cert_file = "{folder}/server.pem"
          tls_key_file = "{folder}/server.key"
        }}
        disable_mlock = true
        api_addr = "https://127.0.0.1:{port}"
        """
    )
    with running(folder, [f"-config={config}"]):
        server = Server(f"https://127.0.0.1:{port}", "", ca_file=ca_file)
        wait_for(server)
        made = server.admin("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        server.root, server.unseal_key = made["root_token"], made["keys"][0]
        server.admin("POST", "sys/unseal", {"key": server.unseal_key})
        wait_for(server, active=True)
        yield server


@pytest.fixture(scope="session")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Give the real server of a kind, without a mount; it is started once and serves all tests."""
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def vault(kind: str) -> Server:
            if kind not in started:
                start = {"development": development, "enforcing": enforcing}[kind]
                started[kind] = stack.enter_context(start(tmp_path_factory.mktemp(kind)))
            return started[kind]

        yield vault


@contextmanager
def running(folder: Path, options: list[str]) -> Iterator[None]:
    """Run a server with these options, its log in the folder."""
    if not BINARY:
        pytest.skip(SKIPPED)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("VAULT_", "BAO_"))}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "server", *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=clean | {"HOME": str(folder)},
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def wait_for(server: Server, *, active: bool = False) -> None:
    """Wait until it answers; `active`: until it takes writes."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            answer = requests.get(
                f"{server.address}/v1/sys/health",
                verify=str(server.ca_file) if server.ca_file else True,
                timeout=2,
            )
        except requests.RequestException:
            time.sleep(0.1)
            continue
        if not active or answer.status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError(f"{server.address} does not come up")


def _certificates(folder: Path) -> Path:
    """Write a CA, and a certificate of 127.0.0.1 by it; give the CA's file."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyturn test CA")])
    now = datetime.now(UTC)

    def builder(name: x509.Name, public: Any) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca_file
