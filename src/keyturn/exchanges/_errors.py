"""Say in keyturn's words what a venue refused: error tables, and the texts of `ExchangeError`.

No text of a venue, no request and no response is ever part of an error: only its code, and our words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.manifest import DriverManifest

#: What to do first where a venue says of a living key of another of its sites that there is no such key.
SITE_FIRST = (
    "Look first at `site`, `url` and `environment` of the account: a key is known only where it was made"
    " ({sites}). Then look at {console} whether it is still there."
)
# How long a venue that bars an address is left alone: as long as the one that names a time asks (Bybit, "wait
# for at least 10 minutes": https://bybit-exchange.github.io/docs/v5/rate-limit, read 2026-11-21). Calls into
# a firewall's ban prolong it.
_BARRED_MINUTES = 10
_ELSEWHERE = (
    "Call from an address in a region that {venue} serves: run keyturn there, or name an egress_proxy there."
    f" Waiting alone does not mend it; keyturn looks again every {_BARRED_MINUTES} minutes."
)

_TODO: Mapping[ExchangeFault, str] = MappingProxyType(
    {
        ExchangeFault.UNKNOWN_KEY: "Look at {console} whether the key is still there, and whether the"
        " account's `url` and `environment` are the site that it was made at.",
        ExchangeFault.KEY_REFUSED: "Look at {console} whether the key is enabled and has not expired, and"
        " whether its secret is stored whole.",
        ExchangeFault.UNCLEAR_REFUSAL: "Look at {console} whether the key is still there and enabled, and"
        " whether its secret is stored whole.",
        ExchangeFault.CANNOT_SIGN: "Store the key again, whole, and of the kind that {venue} takes.",
        ExchangeFault.WRONG_IP: "Add the address that the call comes from to the key's IP list at {console},"
        " or name an egress_proxy that has an allowed one.",
        ExchangeFault.BARRED_REGION: _ELSEWHERE,
        ExchangeFault.MISSING_PERMISSION: "Give the key the right that {action} needs, at {console}.",
        ExchangeFault.CLOCK_SKEW: "Set this machine's clock (NTP).",
        ExchangeFault.KEY_QUOTA: "Delete a key that nobody needs, at {console}; keyturn deletes none to"
        " make room.",
        ExchangeFault.RATE_LIMITED: "Wait; keyturn tries again by itself.",
        ExchangeFault.VENUE_DOWN: "Wait; keyturn tries again by itself. If it lasts, check the network"
        " between this machine and {venue}.",
        ExchangeFault.OUTCOME_UNKNOWN: "Nothing by hand: keyturn looks at the venue what is true before it"
        " goes on.",
        ExchangeFault.SECOND_FACTOR: "Do it by hand at {console}, or take the second factor off this action"
        " for the manager's account.",
        ExchangeFault.NOT_SUPPORTED: "Do it by hand at {console}.",
        ExchangeFault.MACHINE: "Look at this machine: {venue} was not asked.",
        ExchangeFault.REJECTED: "Look the code up in the venue's documentation.",
    }
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one error of a venue means.

    `VENUE_DOWN` says that nothing was done; where the venue leaves that open, the row says
    `OUTCOME_UNKNOWN`, and a call that changes nothing reports it as `VENUE_DOWN`.
    """

    fault: ExchangeFault
    words: str
    todo: str = ""
    #: The sentence of the venue's documentation that the row rests on.
    says: str = ""
    #: Where the documentation says nothing: what it was seen in, and when.
    seen: str = ""
    #: Seconds to wait at least before the next call, whatever the venue's answer says.
    pause: float | None = None


UNLISTED = Row(ExchangeFault.REJECTED, "it refused with a code that keyturn does not know.")
# Nobody knows what such a code says of a call that changes something: it may follow the effect.
UNLISTED_CHANGE = Row(ExchangeFault.OUTCOME_UNKNOWN, "it answered with a code that keyturn does not know.")
# Neither does anybody know of one that lacks what shows that it was done.
INCOMPLETE = Row(ExchangeFault.OUTCOME_UNKNOWN, "its answer lacks what its documentation promises.")
_UNEXPLAINED = (UNLISTED_CHANGE, INCOMPLETE)
LATE = Row(ExchangeFault.CLOCK_SKEW, "the request came from another time, by the venue's clock.")


@dataclass(frozen=True, slots=True)
class Late:
    """Codes that stand for a wrong clock among other things; the answer's own time tells."""

    codes: frozenset[str] = frozenset()
    #: Seconds by which the clocks differ then, at least.
    seconds: float = 0.0


def barred(words: str, todo: str = _ELSEWHERE, *, says: str = "", seen: str = "") -> Row:
    """Build the row of a refusal of the place that a call comes from, which says nothing about the key."""
    return Row(ExchangeFault.BARRED_REGION, words, todo, says, seen, pause=_BARRED_MINUTES * 60.0)


#: What a page in place of a venue's API says, by its HTTP status, where the venue's own table does not.
PAGES: Mapping[int, Row] = MappingProxyType(
    {
        403: barred(
            "it bars the address that the call comes from: a region that it does not serve, or its firewall."
        ),
        429: Row(ExchangeFault.RATE_LIMITED, "it asked for fewer calls."),
        # RFC 7725: unavailable for legal reasons.
        451: barred("it does not serve the region that the call comes from."),
    }
)


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """All errors of a venue that keyturn knows: the judge for its driver and for bots."""

    #: The page of the venue's documentation that the rows quote, and when it was read.
    page: str
    read: date
    #: Reads what an answer in the venue's form refuses (its body, its headers); None when it grants.
    refusal: Callable[[Mapping[str, Any], Mapping[str, str]], Refusal | None]
    #: By the venue's code.
    exact: Mapping[str, Row]
    #: By a part of the venue's text, in lower case, for codes that stand for several things.
    broad: Mapping[str, Row] = field(default_factory=dict)
    #: By HTTP status, for answers that are not in the venue's own form.
    status: Mapping[int, Row] = field(default_factory=dict)
    late: Late = field(default_factory=Late)

    def find(self, code: str, text: str) -> Row | None:
        """Give the row for a text, which says more than a code that stands for several things, or a code."""
        lowered = text.lower()
        told = next((row for part, row in self.broad.items() if part in lowered), None)
        return told or self.exact.get(code)

    def judge(self, refusal: Refusal, *, changes: bool) -> Row:
        """Give the row for a refusal, listed or not.

        Args:
            refusal: what the venue said.
            changes: whether the call changes something.
        """
        row = self.find(refusal.code, refusal.text)
        if row is None:
            return UNLISTED_CHANGE if changes else UNLISTED
        there = refusal.server_time
        if refusal.code in self.late.codes and there is not None:
            off = abs(datetime.now(UTC) - there)
            return LATE if off >= timedelta(seconds=self.late.seconds) else row
        return row


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a venue's answer says when it says no. The text is for matching only and is never shown."""

    code: str
    text: str = field(default="", repr=False)
    retry_after: float | None = None
    #: The venue's clock, where the answer tells it.
    server_time: datetime | None = None


def exchange_error(
    manifest: DriverManifest,
    action: str,
    row: Row,
    *,
    changes: bool,
    code: str = "",
    retry_after: float | None = None,
) -> ExchangeError:
    """Build the error for one call from what is known, which holds no secret.

    Args:
        manifest: the venue.
        action: what was tried, in words that follow "could not".
        row: what went wrong.
        changes: whether the call changes something.
        code: the venue's code.
        retry_after: seconds that the venue asked to wait.
    """
    fault = row.fault
    if fault is ExchangeFault.OUTCOME_UNKNOWN and not changes:
        fault = ExchangeFault.VENUE_DOWN
    suffix = f" ({manifest.code} {code})" if code else ""
    if fault is ExchangeFault.OUTCOME_UNKNOWN:
        what = f"{manifest.name} may or may not have done it ({action}): {row.words}{suffix}"
        now = "Nobody knows yet whether it was done."
    else:
        what = f"{manifest.name} could not {action}: {row.words}{suffix}"
        now = "Nothing was changed at the venue."
    todo = row.todo or _TODO[fault]
    pauses = [pause for pause in (row.pause, retry_after) if pause is not None]
    return ExchangeError(
        fault,
        what,
        code=code,
        retry_after=max(pauses, default=None),
        unexplained=changes and row in _UNEXPLAINED,
        now=now,
        todo=todo.format(
            console=manifest.console_url, action=action, venue=manifest.name, sites=manifest.told_sites()
        ),
    )
