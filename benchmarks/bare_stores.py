"""Bare hvac and bare boto3, making the writes of a rotation and nothing else.

Each is one client that many threads share, with a connection for each. Nothing is read, or read back.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# As long as the documents that the store writes: a key, its description, its place in the rotation.
_DOCUMENT = {"api_key": "k" * 18, "secret": "s" * 32, "keyturn": "x" * 500}


class BareVault:
    """hvac on a KV v2 mount."""

    def __init__(self, entry: str, at_once: int) -> None:
        import os

        import hvac
        import requests

        store = json.loads(entry)
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=at_once))
        client = hvac.Client(url=store["addresses"][0], token=os.environ["VAULT_TOKEN"], session=session)
        self._kv, self._mount = client.secrets.kv.v2, store["mount"]

    def _write(self, path: str, cas: int) -> None:
        self._kv.create_or_update_secret(path=path, secret=_DOCUMENT, cas=cas, mount_point=self._mount)

    def _destroy(self, path: str, version: int) -> None:
        self._kv.destroy_secret_versions(path=path, versions=[version], mount_point=self._mount)

    def prepare(self, name: str) -> None:
        """Have a current key."""
        self._write(f"bare/{name}", 0)

    def stage(self, name: str) -> None:
        """Claim pending, then write the key there."""
        self._write(f"bare-pending/{name}", 0)
        self._write(f"bare-pending/{name}", 1)

    def promote(self, name: str) -> None:
        """Write current, destroy what pending held."""
        self._write(f"bare/{name}", 1)
        self._destroy(f"bare-pending/{name}", 2)

    def forget(self, name: str) -> None:
        """Destroy the key from before."""
        self._destroy(f"bare/{name}", 1)


class BareAws:
    """boto3 on Secrets Manager."""

    def __init__(self, entry: str, at_once: int) -> None:
        import boto3
        import yaml
        from botocore.config import Config

        store = yaml.safe_load(entry)
        self._client: Any = boto3.session.Session().client(
            "secretsmanager",
            region_name=store["region"],
            endpoint_url=store["endpoint_url"],
            config=Config(max_pool_connections=at_once),
        )
        self._ids: dict[str, list[str]] = {}

    def _put(self, name: str) -> None:
        token = secrets.token_hex(32)
        self._client.put_secret_value(
            SecretId=f"bare/{name}",
            ClientRequestToken=token,
            SecretString=json.dumps(_DOCUMENT),
            VersionStages=["AWSPENDING"],
        )
        self._ids[name].append(token)

    def _move(self, name: str, label: str, **versions: str) -> None:
        self._client.update_secret_version_stage(SecretId=f"bare/{name}", VersionStage=label, **versions)

    def prepare(self, name: str) -> None:
        """Have a current key."""
        self._ids[name] = [token := secrets.token_hex(32)]
        self._client.create_secret(
            Name=f"bare/{name}", ClientRequestToken=token, SecretString=json.dumps(_DOCUMENT)
        )

    def stage(self, name: str) -> None:
        """Claim pending, then write the key there."""
        self._put(name)
        self._put(name)

    def promote(self, name: str) -> None:
        """Move AWSCURRENT."""
        first, _, staged = self._ids[name]
        self._move(name, "AWSCURRENT", MoveToVersionId=staged, RemoveFromVersionId=first)

    def forget(self, name: str) -> None:
        """Take the label from the key from before."""
        self._move(name, "AWSPREVIOUS", RemoveFromVersionId=self._ids[name][0])


BARE: dict[str, Callable[[str, int], BareVault | BareAws]] = {"vault": BareVault, "aws": BareAws}


def timed(work: Callable[[str], None], names: Sequence[str], at_once: int) -> float:
    """Do it for each name, so many at once; give the seconds."""
    with ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        for _ in pool.map(work, names):
            pass
        return time.perf_counter() - began
