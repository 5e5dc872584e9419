"""Secrets Manager as this store uses it: labels read, versions put and opened, labels moved.

What AWS promises, and this builds on (API reference, read 2026-11-21):

* A `ClientRequestToken` becomes the id of the version, and a version never changes: the first to use a
  token wins, the same content again is accepted and does nothing, other content is refused.
* `UpdateSecretVersionStage` fails unless the label stands where `RemoveFromVersionId` says. Where no
  version is named to take it from, it fails unless the label stands nowhere.
* The first version of a secret gets AWSCURRENT, whatever labels were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import Kind, Leaf, Opened
from keyturn.stores.aws.faults import (
    MOST_PAGES,
    AwsError,
    endless,
    scheduled_for_deletion,
    store_error,
    too_large,
)
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import SINGLE, Formats

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
#: On a version that is on its way to current without passing pending.
INCOMING = "keyturn-incoming"
# AWS's limit for a value, in bytes (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits).
_LARGEST = 65536
# A read that still shows a label where we took it from is an old one for this long after the move.
_LAG_SECONDS = 5.0
_LAG_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
# Understood versions, and secrets, kept in memory; each is a few hundred bytes.
_CACHED = 20_000


@dataclass(frozen=True, slots=True)
class View:
    """A secret as DescribeSecret shows it."""

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Replica region to its state.
    replicas: Mapping[str, str] = field(default_factory=dict)
    arn: str = ""
    kms_key_id: str | None = None
    rotated_by_aws: bool = False

    def holder(self, label: str) -> str | None:
        """Give the version that has a label."""
        return next((version for version, labels in self.labels.items() if label in labels), None)

    @property
    def current(self) -> str | None:
        """The version with AWSCURRENT."""
        return self.holder(CURRENT)

    @property
    def pending(self) -> str | None:
        """The version with AWSPENDING."""
        return self.holder(PENDING)

    @property
    def previous(self) -> str | None:
        """The version with AWSPREVIOUS."""
        return self.holder(PREVIOUS)


@dataclass(frozen=True, slots=True)
class _Move:
    """A label that we moved a moment ago."""

    source: str | None
    until: float


class Shelf:
    """The secrets of one store.

    Args:
        wire: to AWS.
        prefix: put before every path.
        kms_key_id: for secrets that are made; None for the service's own.
        replica_regions: for secrets that are made.
        formats: how the documents look.
    """

    def __init__(
        self,
        wire: Wire,
        prefix: str,
        kms_key_id: str | None,
        replica_regions: Iterable[str],
        formats: Formats = SINGLE,
    ) -> None:
        self.wire = wire
        self.formats = formats
        self._prefix = prefix
        self._kms_key_id = kms_key_id
        self._replica_regions = tuple(replica_regions)
        self._leaves: dict[tuple[str, str], Leaf] = {}
        self._moves: dict[tuple[str, str], _Move] = {}
        self._sights: dict[str, View] = {}
        self._met: set[str] = set()

    def name(self, path: str) -> str:
        """Give the name of the secret."""
        return self._prefix + path

    def first_id(self, path: str) -> str:
        """Give the id of the version without a key that a secret of ours begins with."""
        return documents.follow(f"the beginning of {self.name(path)}")

    # Reading.

    def view(self, path: str) -> View | None:
        """Read where the labels stand; None where there is no secret.

        Raises:
            StoreError: `MISCONFIGURED` for a secret that is scheduled for deletion; `DENIED`, `UNAVAILABLE`.
        """
        for pause in (*_LAG_PAUSES, None):
            view = self._describe(path)
            labels = (CURRENT, PENDING, PREVIOUS)
            stale = any(self._old(path, label, view.holder(label) if view else None) for label in labels)
            if not stale or pause is None:
                break
            time.sleep(pause)
        return view

    def _describe(self, path: str) -> View | None:
        answer = self._read(path, "describe_secret")
        if answer is None:
            return None
        if answer.get("DeletedDate") is not None:
            raise scheduled_for_deletion(path)
        view = View(
            labels={k: tuple(v) for k, v in answer.get("VersionIdsToStages", {}).items()},
            replicas={r["Region"]: str(r.get("Status")) for r in answer.get("ReplicationStatus", [])},
            arn=str(answer.get("ARN", "")),
            kms_key_id=answer.get("KmsKeyId"),
            rotated_by_aws=bool(answer.get("RotationEnabled")),
        )
        if len(self._sights) >= _CACHED:
            self._sights.clear()
        self._sights[path] = view
        return view

    def sight(self, path: str) -> View | None:
        """Give what this process saw last, however long ago: for what cannot have changed, or is checked."""
        return self._sights.get(path)

    def met(self, path: str) -> bool:
        """Tell whether this process knows anything of a secret."""
        return path in self._met

    def known(self, path: str, version_id: str | None) -> Leaf | None:
        """Tell what a version is, if this process has opened it."""
        return self._leaves.get((path, version_id)) if version_id else None

    def open(self, path: str, *, version_id: str | None = None, label: str | None = None) -> Opened | None:
        """Open a version by id, by label, or by both; None where there is none such.

        Raises:
            StoreError: `CORRUPT`, `MISCONFIGURED`, `DENIED`, `UNAVAILABLE`.
        """
        named = {"VersionId": version_id, "VersionStage": label}
        wanted = {k: v for k, v in named.items() if v is not None}
        for pause in (*_LAG_PAUSES, None):
            answer = self._read(path, "get_secret_value", **wanted)
            found = answer["VersionId"] if answer else None
            if version_id or not label or pause is None or not self._old(path, label, found):
                break
            time.sleep(pause)
        if answer is None:
            return None
        opened = self._understood(path, answer["VersionId"], documents.value_in(answer))
        self._remember(path, opened.leaf)
        return replace(opened, labels=tuple(answer.get("VersionStages", ())))

    def _understood(self, path: str, version_id: str, value: str | bytes) -> Opened:
        return documents.read(path, version_id, value, self.formats.of(path))

    def leaf(self, path: str, version_id: str, *, label: str | None = None) -> Leaf | None:
        """Tell what a version is, opening it once; `label` for those who may read only by label."""
        known = self.known(path, version_id)
        if known is not None:
            return known
        if version_id == self.first_id(path):
            return Leaf(version_id, Kind.VACANT, version_id)
        opened = self.open(path, version_id=version_id, label=label)
        return opened.leaf if opened else None

    def versions(self, path: str) -> list[tuple[str, tuple[str, ...], datetime | None]]:
        """List every version that AWS still has: id, labels, creation; oldest first."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = self._read(
                path, "list_secret_version_ids", IncludeDeprecated=True, MaxResults=100, **token
            )
            found += page.get("Versions", []) if page else []
            if not page or not page.get("NextToken"):
                break
            token = {"NextToken": page["NextToken"]}
        else:
            raise endless(path)
        rows = [(v["VersionId"], tuple(v.get("VersionStages", ())), v.get("CreatedDate")) for v in found]
        return sorted(rows, key=lambda row: row[2].timestamp() if row[2] else 0.0)

    def _read(self, path: str, method: str, **params: Any) -> dict[str, Any] | None:
        failure: AwsError | None = None
        try:
            return self.wire.call("secretsmanager", method, SecretId=self.name(path), **params)
        except AwsError as error:
            failure = error
        if failure.code == "ResourceNotFoundException":
            return None
        # Another label than the version has now: it was moved between our two reads.
        if failure.code == "InvalidRequestException" and "not associated" in failure.about:
            return None
        raise store_error(path, failure, wrote=False)

    # Writing.

    def create(self, path: str, token: str, text: str | None = None) -> None:
        """Make the secret; its first version is current at once, and holds no key unless a text is given."""
        params: dict[str, Any] = {
            "Name": self.name(path),
            "ClientRequestToken": token,
            "SecretString": documents.mark_text(Kind.VACANT) if text is None else text,
            "Description": "An exchange API key, rotated by keyturn.",
        }
        if self._kms_key_id:
            params["KmsKeyId"] = self._kms_key_id
        if self._replica_regions:
            params["AddReplicaRegions"] = [{"Region": region} for region in self._replica_regions]
        failure: AwsError | None = None
        try:
            self.wire.call("secretsmanager", "create_secret", **params)
        except AwsError as error:
            failure = error
        if (
            failure is not None
            and failure.code != "ResourceExistsException"
            and not self._made(path, failure)
        ):
            raise store_error(path, failure, wrote=True)
        self._moved(path, CURRENT, None)

    def _made(self, path: str, failure: AwsError) -> bool:
        """Tell whether there is a secret after a creation that was not answered, whoever made it."""
        try:
            return failure.unanswered and self._describe(path) is not None
        except StoreError:
            return False

    def put(
        self, path: str, token: str, value: str | bytes, label: str, *, source: str | None = None
    ) -> bool:
        """Put a version and give it a label; False when the token is taken, or the label went on since.

        Args:
            path: of the secret.
            token: id of the version.
            value: its document; bytes where it is a copy of somebody else's.
            label: never AWSCURRENT: putting deploys nothing.
            source: the version that is known to have the label now.

        Raises:
            StoreError: `OUTCOME_UNKNOWN`, and all that says that nothing was written.
        """
        held = {"SecretString": value} if isinstance(value, str) else {"SecretBinary": value}
        if len(value.encode(errors="replace") if isinstance(value, str) else value) > _LARGEST:
            raise too_large(path)
        failure: AwsError | None = None
        try:
            answer = self.wire.call(
                "secretsmanager",
                "put_secret_value",
                SecretId=self.name(path),
                ClientRequestToken=token,
                VersionStages=[label],
                **held,
            )
        except AwsError as error:
            failure = error
        if failure is None:
            self._remember(path, self._understood(path, token, value).leaf)
            done = label in answer.get("VersionStages", ())
        elif failure.code == "ResourceExistsException":
            done = False
        elif failure.unanswered:
            done = self._arrived(path, token, value, label, failure)
        else:
            raise (
                _missing(path)
                if failure.code == "ResourceNotFoundException"
                else store_error(path, failure, wrote=True)
            )
        if done:
            self._moved(path, label, source)
        return done

    def _arrived(self, path: str, token: str, value: str | bytes, label: str, failure: AwsError) -> bool:
        """Read back a put whose answer was lost."""
        answer: dict[str, Any] | None = None
        with suppress(StoreError):
            answer = self._read(path, "get_secret_value", VersionId=token)
        if answer is None:
            raise store_error(path, failure, wrote=True)
        self._remember(path, self._understood(path, token, documents.value_in(answer)).leaf)
        return documents.value_in(answer) == value and label in answer.get("VersionStages", ())

    def move(self, path: str, label: str, source: str | None, target: str | None) -> bool:
        """Move a label from one version to another, in one step; False when it does not stand at `source`.

        A move whose answer was lost is read back: the label at `target` says that it was done.

        Raises:
            StoreError: `OUTCOME_UNKNOWN`, and all that says that nothing was written.
        """
        named = {"RemoveFromVersionId": source, "MoveToVersionId": target}
        failure: AwsError | None = None
        try:
            self.wire.call(
                "secretsmanager",
                "update_secret_version_stage",
                SecretId=self.name(path),
                VersionStage=label,
                **{k: v for k, v in named.items() if v is not None},
            )
        except AwsError as error:
            failure = error
        if failure is not None and not self._settled(path, label, source, target, failure):
            return False
        self._moved(path, label, source)
        if label == CURRENT:
            self._moves.pop((path, PREVIOUS), None)
        return True

    def _settled(
        self, path: str, label: str, source: str | None, target: str | None, failure: AwsError
    ) -> bool:
        """Find out whether a move that gave an error was done."""
        mismatch = failure.code in {"InvalidParameterException", "ResourceNotFoundException"}
        if not mismatch and not failure.unanswered:
            raise store_error(path, failure, wrote=True)
        for pause in (*_LAG_PAUSES, None):
            try:
                view = self._describe(path)
            except StoreError:
                raise store_error(path, failure, wrote=True) from None
            holder = view.holder(label) if view else None
            if holder == target:
                return True
            # Refused, and yet the label seems to stand where we said: one of the two is old.
            if not mismatch or holder != source or pause is None:
                break
            time.sleep(pause)
        if mismatch:
            return False
        raise store_error(path, failure, wrote=True)

    def strip(self, path: str, label: str, version_id: str) -> None:
        """Take a label from a version, if it is there."""
        self.move(path, label, version_id, None)

    # What we know ourselves.

    def _moved(self, path: str, label: str, source: str | None) -> None:
        self._moves[path, label] = _Move(source, time.monotonic() + _LAG_SECONDS)

    def _old(self, path: str, label: str, holder: str | None) -> bool:
        """Tell whether a read shows a label where we took it from a moment ago."""
        move = self._moves.get((path, label))
        if move is None:
            return False
        if time.monotonic() > move.until:
            self._moves.pop((path, label), None)
            return False
        return move.source == holder

    def _remember(self, path: str, leaf: Leaf) -> None:
        if len(self._leaves) >= _CACHED:
            self._leaves.clear()
            self._met.clear()
        self._leaves[path, leaf.id] = leaf
        self._met.add(path)


def _missing(path: str) -> StoreError:
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"The secret {path} was deleted while it was being written.",
        now="Nothing was written.",
        todo="See who deletes secrets under this prefix, then try again.",
    )
