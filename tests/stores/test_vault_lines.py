"""Lines to Vault that break: TLS, of which only a refused certificate is a setting; addresses; redirects."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.slots import Slot
from keyturn.simulator.vault import Trouble, VaultSimulator
from keyturn.stores.vault.transport import ListedAdapter, _Failure
from keyturn.testing.store_contract_support import key_in, put_key

from .vault_server import Server, _certificates

PATH = "bots/mm"


@pytest.fixture
def server() -> Iterator[Server]:
    with VaultSimulator() as simulator:
        yield Server(simulator.address, simulator.root, simulator=simulator).prepare()


@contextmanager
def listening(answer: bytes = b"", tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Take connections, answer their first bytes, and end them; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    line, _ = door.accept()
                except OSError:
                    return
                with line:
                    try:
                        if tls:
                            tls.wrap_socket(line, server_side=True)
                        elif answer:
                            line.recv(10_000)
                            line.sendall(answer)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield str(door.getsockname()[1])
        finally:
            door.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"\x15\x03\x03\0\2\2P"])
async def test_the_next_address_is_taken_when_a_handshake_breaks(server, tmp_path, answer):
    with listening(answer) as port:
        broken = f"https://127.0.0.1:{port}"
        store = server.open(server.given(tmp_path, server.root), addresses=[broken, server.address])
        await put_key(store, PATH, "a")
        assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
        await store.close()
        alone = server.open(server.given(tmp_path, server.root), addresses=[broken])
        with pytest.raises(StoreError) as caught:
            await alone.peek(PATH, Slot.CURRENT)
        assert caught.value.fault is StoreFault.UNAVAILABLE
        await alone.close()


def test_a_write_in_a_tls_connection_that_breaks_may_have_been_made():
    adapter = ListedAdapter("vault", ["https://127.0.0.1:1"])
    broken = adapter._broken(urllib3.exceptions.SSLError(ssl.SSLError("bad record mac")), "x")
    assert isinstance(broken, _Failure)
    assert (broken.may_be_done, broken.next_address) == (True, True)


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", False), ("localhost", True)])
async def test_a_certificate_that_proves_nothing_is_a_wrong_setting(server, tmp_path, host, trusted):
    ca_file = _certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with listening(tls=context) as port:
        store = server.open(
            server.given(tmp_path, server.root),
            addresses=[f"https://{host}:{port}"],
            ca_file=str(ca_file) if trusted else None,
        )
        with pytest.raises(StoreError) as caught:
            await store.peek(PATH, Slot.CURRENT)
        await store.close()
    assert caught.value.fault is StoreFault.MISCONFIGURED
    assert "certificate" in caught.value.what


def test_a_ca_bundle_without_certificates_is_told_when_the_store_is_opened(server, tmp_path: Path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificate\n")
    with pytest.raises(StoreError) as caught:
        server.open(server.given(tmp_path, "x"), ca_file=str(bundle))
    assert caught.value.fault is StoreFault.MISCONFIGURED


@pytest.mark.parametrize("location", ["https://127.0.0.1:99999/v1/x", "https://[bad/v1", "http://a:b/"])
async def test_a_redirect_that_is_no_address_is_one_to_nowhere(server, tmp_path, location):
    server.simulator.fail(Trouble.ANSWER, status=307, headers={"Location": location}, times=99)
    store = server.open(server.given(tmp_path, server.root))
    with pytest.raises(StoreError) as caught:
        await store.peek(PATH, Slot.CURRENT)
    await store.close()
    assert caught.value.fault is StoreFault.MISCONFIGURED
    assert "redirects to nowhere" in caught.value.what


async def test_each_of_many_addresses_is_tried(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = [f"http://127.0.0.1:{closed.getsockname()[1]}/{n}" for n in range(8)]
        store = server.open(server.given(tmp_path, server.root), addresses=[*dead, server.address])
        await put_key(store, PATH, "a")
        assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
        await store.close()
