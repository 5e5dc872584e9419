"""Parameter Store as this store uses it: values read with their versions, written, deleted.

What AWS promises, and this builds on (API reference, read 2026-11-21): writing without `Overwrite` fails
where the parameter exists; each write gets the next version number, and no two get the same; a version's
value never changes. There is no conditional write.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keyturn.stores.aws.faults import MOST_PAGES, AwsError, endless, store_error
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import SINGLE, Formats

# A read that shows an older version than we wrote ourselves is an old one, for this long after the write.
_LAG_SECONDS = 5.0
_LAG_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
# The most that GetParameters and DeleteParameters take.
_BATCH = 10


@dataclass(frozen=True, slots=True)
class Param:
    """One version of a parameter."""

    name: str
    number: int
    value: str = field(repr=False)
    modified: datetime | None = None
    kind: str = ""


class Parameters:
    """The parameters of one store.

    Args:
        wire: to AWS.
        prefix: put before every path.
        kms_key_id: for what is written; None for the account's own key.
        formats: how the documents look.
    """

    def __init__(self, wire: Wire, prefix: str, kms_key_id: str | None, formats: Formats = SINGLE) -> None:
        self.wire = wire
        self.formats = formats
        self._prefix = prefix
        self._kms_key_id = kms_key_id
        self._newest: dict[str, tuple[int, float]] = {}

    def name(self, path: str) -> str:
        """Give the parameter's name; one with a hierarchy starts with a slash."""
        name = self._prefix + path
        return f"/{name}" if "/" in name and not name.startswith("/") else name

    def get(self, path: str, names: Sequence[str]) -> dict[str, Param]:
        """Read parameters by name, or `name:version`, decrypted; those that are not there are left out.

        Raises:
            StoreError: `DENIED`, `MISCONFIGURED`, `UNAVAILABLE`.
        """
        for pause in (*_LAG_PAUSES, None):
            found: dict[str, Param] = {}
            for first in range(0, len(names), _BATCH):
                found |= self._batch(path, names[first : first + _BATCH])
            if pause is None or not any(self._old(name, found.get(name)) for name in names):
                break
            time.sleep(pause)
        return found

    def _batch(self, path: str, names: Sequence[str]) -> dict[str, Param]:
        answer = self._call(path, "get_parameters", wrote=False, Names=list(names), WithDecryption=True)
        found = {}
        for row in answer.get("Parameters", []):
            param = _param(row)
            chosen = f"{param.name}:{param.number}"
            found[chosen if chosen in names else param.name] = param
        return found

    def peek(self, path: str, name: str) -> Param | None:
        """Read a parameter without decrypting it: the value is of no use, version and time are."""
        for pause in (*_LAG_PAUSES, None):
            param = self._one(path, name, decrypt=False)
            if pause is None or not self._old(name, param):
                break
            time.sleep(pause)
        return param

    def open(self, path: str, name: str) -> Param | None:
        """Read one parameter, decrypted, with the right to read one (`ssm:GetParameter`)."""
        for pause in (*_LAG_PAUSES, None):
            param = self._one(path, name, decrypt=True)
            if pause is None or not self._old(name, param):
                break
            time.sleep(pause)
        return param

    def _one(self, path: str, name: str, *, decrypt: bool) -> Param | None:
        failure: AwsError | None = None
        try:
            answer = self.wire.call("ssm", "get_parameter", Name=name, WithDecryption=decrypt)
        except AwsError as error:
            failure = error
        if failure is None:
            return _param(answer["Parameter"])
        if failure.code in {"ParameterNotFound", "ParameterVersionNotFound"}:
            return None
        raise store_error(path, failure, wrote=False)

    def put(self, path: str, name: str, value: str, *, overwrite: bool) -> int | None:
        """Write, encrypted; give the version number, or None when it exists and may not be overwritten.

        Raises:
            AwsError: it failed; the caller knows how to read back.
        """
        params: dict[str, Any] = {
            "Name": name,
            "Value": value,
            "Type": "SecureString",
            "Overwrite": overwrite,
        }
        if self._kms_key_id:
            params["KeyId"] = self._kms_key_id
        # Up to 4 KiB it is a standard parameter, which costs nothing; up to 8 KiB an advanced one.
        params["Tier"] = "Intelligent-Tiering"
        try:
            answer = self.wire.call("ssm", "put_parameter", **params)
        except AwsError as error:
            if error.code == "ParameterAlreadyExists":
                return None
            raise
        number = int(answer["Version"])
        self._newest[name] = (number, time.monotonic() + _LAG_SECONDS)
        return number

    def delete(self, path: str, names: Sequence[str]) -> None:
        """Delete parameters with all their versions; what is not there is no error."""
        for first in range(0, len(names), _BATCH):
            self._call(path, "delete_parameters", wrote=True, Names=list(names[first : first + _BATCH]))
        for name in names:
            # Nothing newer than our own last write is to be waited for any more.
            self._newest.pop(name, None)

    def history(self, path: str, name: str) -> list[Param]:
        """Give every version that AWS still has, oldest first, decrypted."""
        rows: list[Param] = []
        token: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            failure: AwsError | None = None
            try:
                page = self.wire.call("ssm", "get_parameter_history", Name=name, WithDecryption=True, **token)
            except AwsError as error:
                failure = error
            if failure is not None:
                if failure.code == "ParameterNotFound":
                    return []
                raise store_error(path, failure, wrote=False)
            rows += [_param(row) for row in page.get("Parameters", [])]
            if not page.get("NextToken"):
                return sorted(rows, key=lambda row: row.number)
            token = {"NextToken": page["NextToken"]}
        raise endless(path)

    def _call(self, path: str, method: str, *, wrote: bool, **params: Any) -> dict[str, Any]:
        failure: AwsError | None = None
        try:
            return self.wire.call("ssm", method, **params)
        except AwsError as error:
            failure = error
        raise store_error(path, failure, wrote=wrote)

    def _old(self, name: str, param: Param | None) -> bool:
        newest = self._newest.get(name)
        if newest is None:
            return False
        if time.monotonic() > newest[1]:
            self._newest.pop(name, None)
            return False
        return (param.number if param else 0) < newest[0]


def _param(row: dict[str, Any]) -> Param:
    return Param(
        name=str(row["Name"]).partition(":")[0],
        number=int(row["Version"]),
        value=str(row.get("Value", "")),
        modified=row.get("LastModifiedDate"),
        kind=str(row.get("Type", "")),
    )
