"""What AWS, or whoever answers in its place, may say: so many bytes, and fields of the documented types.

botocore reads a body to its end, however long, and gives on what its parser finds under a field's name,
whatever its type (1.44.5, seen 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from keyturn.bodies import BodyError
from keyturn.stores.bounded import read_within

# What an answer of these shapes is of no use without; botocore's model calls no field of an answer required.
_MUST: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "GetSecretValueResponse": ("VersionId",),
        "PutSecretValueResponse": ("VersionId",),
        "SecretVersionsListEntry": ("VersionId",),
        "ReplicationStatusType": ("Region",),
        "GetParameterResult": ("Parameter",),
        "PutParameterResult": ("Version",),
        "Parameter": ("Name", "Version"),
        "ParameterHistory": ("Name", "Version"),
        "GetCallerIdentityResponse": ("Arn",),
        "EvaluationResult": ("EvalActionName",),
    }
)
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "string": (str,),
        "integer": (int,),
        "long": (int,),
        "boolean": (bool,),
        "float": (int, float),
        "double": (int, float),
        "blob": (bytes,),
        "timestamp": (datetime,),
        "structure": (dict,),
        "map": (dict,),
        "list": (list,),
    }
)


class Bounded:
    """botocore's HTTP session, which gives no body on that is longer or slower than a store's answer.

    Args:
        session: botocore's own.
        seconds: for the whole of a body.
    """

    def __init__(self, session: Any, seconds: float) -> None:
        self._session = session
        self._seconds = seconds

    def send(self, request: Any) -> Any:
        """Send a request, and read its answer within bounds.

        Raises:
            botocore.exceptions.HTTPClientError: as of botocore's session; the body is out of bounds.
        """
        from botocore.awsrequest import AWSResponse
        from botocore.exceptions import HTTPClientError
        from urllib3.exceptions import HTTPError

        # Else botocore reads the body itself.
        request.stream_output = True
        response = self._session.send(request)
        try:
            content = read_within(response.raw, self._seconds)
        except (BodyError, HTTPError) as error:
            kind = type(error).__name__
        else:
            return AWSResponse(response.url, response.status_code, response.headers, _Read(content))
        raise HTTPClientError(error=kind)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


class _Read:
    """A body that was read already."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        """Give it."""
        yield self._content


def fits(value: Any, shape: Any) -> bool:
    """Tell whether a value is of the types that botocore's model documents, and has what must be there."""
    if shape is None or shape.type_name not in _TYPES:
        return True
    flag = isinstance(value, bool) and shape.type_name != "boolean"
    if flag or not isinstance(value, _TYPES[shape.type_name]):
        return False
    inside = _INSIDE.get(shape.type_name)
    return inside is None or inside(value, shape)


def _all_members(value: Mapping[str, Any], shape: Any) -> bool:
    if any(name not in value for name in _MUST.get(shape.name, ())):
        return False
    return all(fits(value[name], member) for name, member in shape.members.items() if name in value)


def _all_entries(value: Mapping[Any, Any], shape: Any) -> bool:
    return all(fits(key, shape.key) and fits(entry, shape.value) for key, entry in value.items())


def _all_items(value: list[Any], shape: Any) -> bool:
    return all(fits(item, shape.member) for item in value)


_INSIDE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"structure": _all_members, "map": _all_entries, "list": _all_items}
)
