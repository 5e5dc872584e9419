"""A leader and a standby that answers reads itself: simulated, and two real nodes on raft."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from keyturn.simulator.vault_standby import VaultStandby
from tests.ports import free_port

from .vault_server import Server, running, simulated, wait_for

_PATIENCE_SECONDS = 60


@dataclass
class Cluster:
    """The two; `leader` is to make roles and policies with, and to see what is true."""

    leader: Server
    standby: str
    simulator: VaultStandby | None = None

    def catch_up(self, seconds: float = 0.0) -> None:
        """Let a simulated standby hear of everything; a real one is given the time."""
        if self.simulator:
            self.simulator.catch_up()
        else:
            time.sleep(seconds)


@contextmanager
def simulated_cluster() -> Iterator[Cluster]:
    """Run two simulators; the second hears of nothing unless it is told to."""
    with simulated() as leader:
        assert leader.simulator is not None
        with VaultStandby(leader.simulator) as standby:
            yield Cluster(leader, standby.address, standby)


@contextmanager
def real_cluster(folder: Path) -> Iterator[Cluster]:
    """Run two real nodes on raft, joined and unsealed."""
    first, second = _Node(folder / "a"), _Node(folder / "b")
    with running(first.folder, first.options(None)):
        wait_for(first.server)
        made = first.server.admin("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        first.server.root, key = made["root_token"], made["keys"][0]
        first.server.admin("POST", "sys/unseal", {"key": key})
        wait_for(first.server, active=True)
        with running(second.folder, second.options(first.server.address)):
            wait_for(second.server)
            _until(lambda: not second.ask("POST", "sys/unseal", {"key": key}).get("sealed", True))
            _until(lambda: first.server.address in second.ask("GET", "sys/leader").get("leader_address", ""))
            first.server.prepare()
            # The mount, and the login that tests make roles on, are heard of.
            role = first.server.approle(folder)
            secret_id = Path(role["secret_id"]["file"]).read_text()
            login = {"role_id": role["role_id"], "secret_id": secret_id}
            _until(lambda: "auth" in second.ask("POST", f"auth/{first.server.mount}/login", login))
            yield Cluster(first.server, second.server.address)


class _Node:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.server = Server(f"http://127.0.0.1:{free_port()}", "")

    def options(self, leader: str | None) -> list[str]:
        join = f'retry_join {{ leader_api_addr = "{leader}" }}' if leader else ""
        config = self.folder / "server.hcl"
        cluster = f"127.0.0.1:{free_port()}"
        config.write_text(
            f"""
            storage "raft" {{
              path = "{self.folder}"
              node_id = "{self.folder.name}"
              {join}
            }}
            listener "tcp" {{
              address = "{self.server.address.removeprefix("http://")}"
              cluster_address = "{cluster}"
              tls_disable = true
            }}
            disable_mlock = true
            api_addr = "{self.server.address}"
            cluster_addr = "http://{cluster}"
            """
        )
        return [f"-config={config}"]

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = requests.request(method, f"{self.server.address}/v1/{path}", json=body, timeout=20)
        found = answer.json()
        assert isinstance(found, dict)
        return found


def _until(holds: Any) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "the second node does not join the first"
        time.sleep(0.2)
