"""Count and remember the calls that a simulated exchange received, by key; no secret is ever kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call: who (key ref as presented), what, from where, and how it ended.

    ``outcome`` is ``ok``, ``refused`` (key, signature, clock, address or permission), ``failed`` (anything
    else), or ``lost`` (no answer left the server). ``code`` is the exchange's own code, ``fault`` the fault
    that decided the call, ``effect`` whether the call was carried out.
    """

    number: int
    at: float
    key_ref: str | None
    method: str
    path: str
    ip: str
    status: int
    code: str
    outcome: str
    effect: bool
    fault: str | None


@dataclass(slots=True)
class KeyCalls:
    """How often one key was used, and how that ended."""

    signed: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    last_at: float = 0.0
    last_ok_at: float = 0.0


class CallBook:
    """Totals by key, and the latest calls one by one."""

    # Enough for a benchmark of a thousand rotations (about fifteen calls each) without growing for ever.
    REMEMBERED = 50_000

    def __init__(self) -> None:
        self._calls: deque[CallRecord] = deque(maxlen=self.REMEMBERED)
        self._by_key: dict[str, KeyCalls] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many calls were received in all."""
        return self._count

    def add(
        self,
        *,
        at: float,
        key_ref: str | None,
        method: str,
        path: str,
        ip: str,
        status: int,
        code: str,
        outcome: str,
        effect: bool,
        fault: str | None,
    ) -> None:
        """Write one call down."""
        self._count += 1
        self._calls.append(
            CallRecord(self._count, at, key_ref, method, path, ip, status, code, outcome, effect, fault)
        )
        if key_ref is None:
            return
        totals = self._by_key.get(key_ref)
        if totals is None:
            totals = self._by_key[key_ref] = KeyCalls()
        totals.signed += 1
        totals.last_at = at
        match outcome:
            case "ok":
                totals.ok += 1
                totals.last_ok_at = at
            case "refused":
                totals.refused += 1
            case "failed":
                totals.failed += 1
            case _:
                totals.lost += 1

    def by_key(self, key_ref: str) -> KeyCalls:
        """Return the totals of one key (all zero if it was never used)."""
        return self._by_key.get(key_ref, KeyCalls())

    def totals(self) -> dict[str, KeyCalls]:
        """Return the totals of every key that was ever presented, known or not."""
        return dict(self._by_key)

    def calls(self, *, key_ref: str | None = None, match: str = "", after: int = 0) -> list[CallRecord]:
        """Return the remembered calls with a number above ``after``, oldest first.

        ``match`` is a part of ``"METHOD /path"``; ``key_ref`` narrows to one caller.
        """
        return [
            call
            for call in self._calls
            if call.number > after
            and (key_ref is None or call.key_ref == key_ref)
            and match in f"{call.method} {call.path}"
        ]
