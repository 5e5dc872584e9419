"""A Vault or OpenBao with the storage that people run: integrated storage (raft), on disk.

In development mode it keeps all in memory, and there each write costs as much as has been written before:
three times the credentials take ten times as long (OpenBao 2.6.2, seen 2026-11-21), whoever the client is.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_START_SECONDS = 60.0


@contextmanager
def vault_server() -> Iterator[tuple[str, str]]:
    """Start one for the time of a `with`; give its address and its root token.

    Raises:
        RuntimeError: there is none on the PATH, or it does not come up.
    """
    program = shutil.which("bao") or shutil.which("vault")
    if not program:
        raise RuntimeError("Put `bao` (https://openbao.org) or `vault` on the PATH.")
    with TemporaryDirectory(prefix="keyturn-bench-vault-") as folder:
        url, cluster = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(_config(Path(folder), url, cluster)))
        server = subprocess.Popen(
            [program, "server", f"-config={config}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield url, _opened(url, server)
        finally:
            server.terminate()
            server.wait(30)


def _config(folder: Path, url: str, cluster: str) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir()
    return {
        "storage": {"raft": {"path": str(data), "node_id": "one"}},
        "listener": {"tcp": {"address": url.removeprefix("http://"), "tls_disable": True}},
        "api_addr": url,
        "cluster_addr": cluster,
        "disable_mlock": True,
    }


def _opened(url: str, server: subprocess.Popen[bytes]) -> str:
    """Initialise and unseal it; give the root token."""
    _until(server, lambda: _asked(url, "sys/seal-status"))
    made = _asked(url, "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    _asked(url, "sys/unseal", {"key": made["keys_base64"][0]})
    _until(server, lambda: _asked(url, "sys/health"))
    return str(made["root_token"])


def _until(server: subprocess.Popen[bytes], look: Callable[[], Any]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not _answers(look):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError("The server of the benchmark does not come up.")
        time.sleep(0.1)


def _answers(look: Callable[[], Any]) -> bool:
    try:
        look()
    except (urllib.error.URLError, OSError):
        return False
    return True


def _asked(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/{path}", data=json.dumps(body).encode() if body else None, method="PUT" if body else "GET"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
