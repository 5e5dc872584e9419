"""Why something that was said in a consumer's name does not count, in words."""

from __future__ import annotations

from datetime import datetime

from keyturn.client.seal import CLOCK_ALLOWANCE
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import Notice

#: What an answer names, and what a text calls it.
_ABOUT = ("credential", "consumer", "notice", "key")
_ALLOWED = f"{CLOCK_ALLOWANCE.total_seconds():g} s"

#: Of what is sealed, and not with the key that it is about.
NOT_BY_THE_KEY = "it is not sealed with the key that it is about, so whoever gave it does not hold that key"


def of_another(notice: Notice, credential: str, consumer: str, notice_id: str, fingerprint: str) -> str:
    """Say what an answer is about that is not about this notice; empty when it is about it."""
    asked = (notice.credential, notice.consumer, notice.notice_id, notice.fingerprint)
    given = (credential, consumer, notice_id, fingerprint)
    others = [name for name, a, b in zip(_ABOUT, asked, given, strict=True) if a != b]
    return f"it is about another {' and another '.join(others)}" if others else ""


def of_another_time(notice: Notice, at: datetime, now: datetime) -> str:
    """Say that an answer is older than its notice, or from the future; empty when it is neither."""
    if notice.issued_at is not None and at < notice.issued_at - CLOCK_ALLOWANCE:
        return f"it is older than the notice by more than {_ALLOWED}, so it answers something else"
    if at > now + CLOCK_ALLOWANCE:
        return f"it is from the future by more than {_ALLOWED}; see the clocks of both machines"
    return ""


def discounted(what: str, consumer: str, why: str, *, now: str, todo: str) -> ConsumerError:
    """Build the error for what does not count; neither seal nor secret is in it."""
    return ConsumerError(
        ConsumerFault.UNAUTHENTICATED,
        f"The {what} of {consumer} does not count: {why}.",
        now=now,
        todo=todo,
    )
