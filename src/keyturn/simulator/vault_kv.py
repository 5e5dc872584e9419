"""The rules of a KV version 2 mount, as OpenBao 2.6.2 answers (asked of a real server, 2026-11-21).

Written from those answers and the documentation, not from any client: it judges ours.
https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2 (read 2026-11-21)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.simulator.vault_rights import seconds

_DEFAULT_VERSIONS = 10
MISMATCH = "check-and-set parameter did not match the current version"
REQUIRED = "check-and-set parameter required for this call"


def stamp(ahead: float = 0.0) -> str:
    """Give the time as the server writes it, to the nanosecond."""
    nanoseconds = time.time_ns() + int(ahead * 10**9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    return f"{whole}.{nanoseconds % 10**9:09d}Z"


def _duration(given: object) -> str:
    """Write a duration as the server shows it: `1h0m0s`."""
    whole = int(seconds(given))
    if whole < 0:
        return f"{whole}s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return (
        f"{hours}h{minutes}m{whole % 60}s"
        if hours
        else f"{minutes}m{whole % 60}s"
        if minutes
        else f"{whole}s"
    )


@dataclass
class Reply:
    """An answer: its status, and its body where it has one."""

    status: int
    body: dict[str, Any] | None = None


def refusal(status: int, *errors: str) -> Reply:
    """Answer with errors; a secret that is not there has none."""
    return Reply(status, {"errors": list(errors)})


def gives(data: Mapping[str, Any]) -> Reply:
    """Answer with data."""
    return Reply(200, {"data": dict(data), "auth": None, "warnings": None})


@dataclass
class Version:
    """One version of a secret."""

    number: int
    data: dict[str, Any] | None
    created: str = field(default_factory=stamp)
    deleted: str = ""
    destroyed: bool = False

    @property
    def gone(self) -> bool:
        """Whether it was deleted. The time may lie ahead: a mount or a path may delete by itself."""
        # Stamps are of one length and one zone, and sort by their text.
        return bool(self.deleted) and self.deleted <= stamp()

    def metadata(self, custom: dict[str, str] | None) -> dict[str, Any]:
        """Give what is told beside the data."""
        return {**self.row(), "version": self.number, "custom_metadata": custom}

    def row(self) -> dict[str, Any]:
        """Give the row of the metadata's list."""
        return {"created_time": self.created, "deletion_time": self.deleted, "destroyed": self.destroyed}


@dataclass
class Secret:
    """A path with its versions."""

    current: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    max_versions: int = 0
    cas_required: bool = False
    custom: dict[str, str] | None = None
    delete_after: str = "0s"


class KvMount:
    """A mount; version 1 is there to be mistaken for version 2.

    Args:
        version: of the engine.
    """

    def __init__(self, version: int = 2) -> None:
        self.version = version
        self.max_versions = 0
        self.cas_required = False
        self.delete_after = "0s"
        self.secrets: dict[str, Secret] = {}
        #: What a mount of version 1 was made to store.
        self.flat: dict[str, dict[str, Any]] = {}

    def exists(self, kind: str, path: str) -> bool:
        """Tell whether a write to a path is an update."""
        return kind != "data" or path in self.secrets

    def handle(self, method: str, rest: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        """Answer a request for what comes after the mount."""
        if self.version == 1:
            return self._flat(method, rest, body)
        kind, _, path = rest.partition("/")
        verb = "WRITE" if method in {"POST", "PUT"} else method
        handler = getattr(self, f"_{kind}_{verb.lower()}", None)
        if handler is None:
            return refusal(404)
        answer = handler(path, query, body)
        assert isinstance(answer, Reply)  # noqa: S101 - narrowed: every handler gives one
        return answer

    def _flat(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        if method in {"POST", "PUT"}:
            self.flat[path] = body
            return Reply(204)
        found = self.flat.get(path)
        return gives(found) if found is not None else refusal(404)

    def _config_get(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        return gives(
            {
                "max_versions": self.max_versions,
                "cas_required": self.cas_required,
                "delete_version_after": self.delete_after,
            }
        )

    def _config_write(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        self.max_versions = int(body.get("max_versions", self.max_versions))
        self.cas_required = bool(body.get("cas_required", self.cas_required))
        self.delete_after = _duration(body.get("delete_version_after", self.delete_after))
        return Reply(204)

    def _kept(self, secret: Secret) -> int:
        # The larger of the two, and not the path's before the mount's: AddVersion in path_data.go of
        # https://github.com/hashicorp/vault-plugin-secrets-kv (read 2026-11-28).
        return max(secret.max_versions, self.max_versions) or _DEFAULT_VERSIONS

    def _deletion(self, secret: Secret) -> str:
        """Give the time at which a new version is deleted; empty for never."""
        after = [seconds(each) for each in (self.delete_after, secret.delete_after)]
        if after[0] < 0 or not any(after):
            return ""
        return stamp(min(each for each in after if each))

    def _data_get(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        secret = self.secrets.get(path)
        if secret is None:
            return refusal(404)
        version = secret.versions.get(int(query.get("version") or 0) or secret.current)
        if version is None:
            return refusal(404)
        metadata = version.metadata(secret.custom)
        if version.data is None or version.gone:
            return Reply(404, {"data": {"data": None, "metadata": metadata}})
        return gives({"data": version.data, "metadata": metadata})

    def _data_write(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        if not isinstance(body.get("data"), dict):
            return refusal(400, "no data provided")
        secret = self.secrets.get(path) or Secret()
        cas = (body.get("options") or {}).get("cas")
        if cas is None and (self.cas_required or secret.cas_required):
            return refusal(400, REQUIRED)
        if cas is not None and int(cas) != secret.current:
            return refusal(400, MISMATCH)
        self.secrets[path] = secret
        secret.current += 1
        made = Version(secret.current, body["data"], deleted=self._deletion(secret))
        secret.versions[secret.current] = made
        for number in range(1, secret.current - self._kept(secret) + 1):
            secret.versions.pop(number, None)
        return gives(made.metadata(secret.custom))

    def _data_delete(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        secret = self.secrets.get(path)
        if secret and secret.current in secret.versions:
            secret.versions[secret.current].deleted = stamp()
        return Reply(204)

    def _destroy_write(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        if not body.get("versions"):
            return refusal(400, "no version number provided")
        secret = self.secrets.get(path)
        for number in body["versions"] if secret else ():
            version = secret.versions.get(int(number)) if secret else None
            if version:
                version.data, version.destroyed = None, True
        return Reply(204)

    def _metadata_get(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        secret = self.secrets.get(path)
        if secret is None:
            return refusal(404)
        return gives(
            {
                "current_version": secret.current,
                "versions": {str(n): v.row() for n, v in secret.versions.items()},
                "max_versions": secret.max_versions,
                "cas_required": secret.cas_required,
                "custom_metadata": secret.custom,
                "delete_version_after": secret.delete_after,
            }
        )

    def _metadata_write(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        secret = self.secrets.setdefault(path, Secret())
        secret.max_versions = int(body.get("max_versions", secret.max_versions))
        secret.cas_required = bool(body.get("cas_required", secret.cas_required))
        secret.custom = body.get("custom_metadata", secret.custom)
        secret.delete_after = _duration(body.get("delete_version_after", secret.delete_after))
        return Reply(204)

    def _metadata_delete(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Reply:
        self.secrets.pop(path, None)
        return Reply(204)
