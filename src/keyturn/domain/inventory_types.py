"""What the models of the inventory are made of: durations, names, paths, references to secrets."""

from __future__ import annotations

import re
from datetime import time, timedelta
from functools import lru_cache
from ipaddress import ip_network
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from keyturn.domain.keys import normal_ips
from keyturn.domain.recipients import RECIPIENT_PATTERN, declared_recipient
from keyturn.domain.urls import BASE, NOTICE, PROXY, Use, url_fault

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"^(?:\d+(?:\.\d+)?[smhdw])+$")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
#: One or more segments of plain characters: no `..`, no `%`, nothing that a store could normalise.
PATH_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$"
# For editors: what a pattern can tell of the rule in `urls`, which decides.
URL_PATTERN = r"^https?://[^@\s]+$"
PROXY_PATTERN = r"^https?://[^@\s/]+/?$"
#: The type of the error about a URL; its context is a `UrlFault`.
URL_ERROR = "url"
CLOCK_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
#: What a program can have as a field or a variable; a pasted secret rarely fits.
FIELD_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
#: A group of this machine, by name or number.
GROUP_PATTERN = r"^([a-z_][a-z0-9_-]{0,30}|[0-9]{1,9})$"
#: A user of this machine, by name or number.
USER_PATTERN = r"^([A-Za-z_][A-Za-z0-9_.-]{0,30}[$]?|[0-9]{1,9})$"
# Ten years: longer is a slip of the pen, and date arithmetic stays far from its limits.
_LONGEST = timedelta(days=3650)


def parse_duration(value: object) -> object:
    """Read `90d`, `24h`, `1h30m`, `45s`.

    Raises:
        ValueError: the text is not a duration, or one of more than ten years.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError("write a duration with its unit, such as 60d, 24h, 30m or 45s")
    seconds = sum(float(n) * _UNITS[u] for n, u in _PART.findall(value))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("write a duration of ten years at most, such as 60d")
    return timedelta(seconds=seconds)


def parse_clock(value: object) -> object:
    """Read `02:00`, a time of day without a zone.

    Raises:
        ValueError: the text is not a time of day.
    """
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not re.fullmatch(CLOCK_PATTERN, value):
        raise ValueError("write a time of day as 02:00 or 23:30")
    return time.fromisoformat(value)


@lru_cache(maxsize=4096)  # a fleet names the same few machines in every credential
def declared_ip(value: str) -> str:
    """Bring an entry of a credential's IP list into the form of `normal_ips`.

    Stricter than what exchanges report: `203.0.113.7/24` would open the key to 256 addresses
    where one was meant.

    Raises:
        ValueError: neither an address nor a network, or a network with host bits.
    """
    ip_network(value, strict=True)
    return next(iter(normal_ips([value])))


def declared_ips(values: frozenset[str]) -> frozenset[str]:
    """Bring the IP list of a credential into the form of `normal_ips`.

    Raises:
        ValueError: as of `declared_ip`.
    """
    return frozenset(map(declared_ip, values))


def format_duration(value: timedelta) -> str:
    """Write a duration the way the inventory does, in the largest units that fit."""
    rest, parts = value.total_seconds(), []
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, _UNITS[unit])
        if whole:
            parts.append(f"{int(whole)}{unit}")
    if rest or not parts:
        parts.append(f"{rest:g}s")
    return "".join(parts)


def _kept(use: Use) -> AfterValidator:
    """Hold a URL to the one rule."""

    def checked(url: str) -> str:
        if (fault := url_fault(url, use)) is not None:
            raise PydanticCustomError(URL_ERROR, "{wrong}", {"wrong": fault.wrong, "write": fault.write})
        return url

    return AfterValidator(checked)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["60d", "24h", "30m"]}),
]
Clock = Annotated[
    time,
    BeforeValidator(parse_clock),
    PlainSerializer(lambda t: t.strftime("%H:%M"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": CLOCK_PATTERN, "examples": ["02:00"]}),
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
BaseUrl = Annotated[str, _kept(BASE), WithJsonSchema({"type": "string", "pattern": URL_PATTERN})]
NoticeUrl = Annotated[str, _kept(NOTICE), WithJsonSchema({"type": "string", "pattern": URL_PATTERN})]
ProxyUrl = Annotated[str, _kept(PROXY), WithJsonSchema({"type": "string", "pattern": PROXY_PATTERN})]
Recipient = Annotated[
    str,
    AfterValidator(declared_recipient),
    WithJsonSchema({"type": "string", "pattern": RECIPIENT_PATTERN, "examples": ["age1..."]}),
]
Group = Annotated[str, Field(pattern=GROUP_PATTERN)]
StorePath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=500, description="Why, in a sentence.")]


class Entry(BaseModel):
    """Base of every entry: unknown fields are refused, and errors never quote the input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretRef(Entry):
    """Where a secret is to be found at run time. Exactly one of the fields."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: Text | None = Field(None, description="A file that holds it, relative to the inventory.")
    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="An environment variable.")
    keyring: Text | None = Field(None, description="An entry of the OS keyring, under the service `keyturn`.")
