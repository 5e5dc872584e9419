"""The shapes of `--json`: what a rotation, an event, a key look like to a program.

Fields are added, never renamed. Key refs and venue handles stay in the journal: fingerprints name keys.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from keyturn.cli.output import moment
from keyturn.domain.difference import read_names

if TYPE_CHECKING:
    from keyturn.domain.difference import Difference
    from keyturn.domain.evidence import Confirmation
    from keyturn.domain.rotation import KeyRecord, Rotation
    from keyturn.domain.schedule import Due
    from keyturn.engine.compare import Compared
    from keyturn.ports.journal import JournaledEvent
    from keyturn.ports.store import Finding

# What an event may show of its data: everything but the exchange's own names of keys and owners.
_HIDDEN = frozenset({"old_ref", "new_ref", "old_handle", "new_handle", "account_uid", "note"})


def when(at: datetime | None) -> str | None:
    """Write a time, or nothing."""
    return moment(at) if at else None


def rotation(r: Rotation) -> dict[str, Any]:
    """Describe a rotation."""
    return {
        "id": r.id,
        "credential": r.credential,
        "exchange": r.exchange,
        "account": r.account,
        "subaccount": r.subaccount,
        "state": str(r.state),
        "mode": str(r.mode),
        "reason": r.reason,
        "actor": r.actor,
        "attempt": r.attempt,
        "created_at": when(r.created_at),
        "updated_at": when(r.updated_at),
        "wake_at": when(r.wake_at),
        "failures": r.failures,
        "problem": r.problem,
        "old_fingerprint": r.old_fingerprint,
        "new_fingerprint": r.new_fingerprint,
        "promoted_at": when(r.promoted_at),
        "confirm_by": when(r.confirm_by),
        "confirmed_at": when(r.confirmed_at),
        "grace_until": when(r.grace_until),
        "dead_at": when(r.dead_at),
        "death_proof": r.death_proof,
        "restored_at": when(r.restored_at),
        "expires_at": when(r.expires_at),
        "abort_reason": r.abort_reason,
        "loss": sorted(read_names(r.loss)),
        "accepted_loss": sorted(read_names(r.accepted_loss)),
        "parked": parked(r),
    }


def parked(r: Rotation) -> dict[str, Any] | None:
    """Describe why a rotation is parked; None when it is not."""
    if r.parked is None:
        return None
    return {
        "code": str(r.parked),
        "why": r.parked_why,
        "todo": r.parked_todo,
        "from": str(r.parked_from) if r.parked_from else None,
    }


def compared(c: Compared) -> dict[str, Any]:
    """Describe a living key beside the new one."""
    found = c.difference
    return {
        "known": found is not None,
        "missing": c.missing,
        "told_by": c.told_by,
        "removed": list(found.removed) if found else [],
        "added": list(found.added) if found else [],
        "changed": [{"what": x.what, "from": x.before, "to": x.after} for x in found.changed]
        if found
        else [],
        "addresses_known": found.addresses_known if found else False,
        "lost": sorted(found.lost) if found else [],
        "accepted": sorted(c.accepted),
        "to_accept": sorted(c.unaccepted),
        "venue_adds": list(c.added),
        "venue_may_add": list(c.may_add),
    }


def difference_lines(found: Difference) -> list[tuple[str, str, str]]:
    """Give sign, text and style of each line of a difference."""
    lines = [("-", name, "red" if name in found.lost else "") for name in found.removed]
    lines += [("+", name, "green") for name in found.added]
    return lines + [("~", f"{x.what} {x.before} -> {x.after}", "yellow") for x in found.changed]


def due(d: Due) -> dict[str, Any]:
    """Describe when a credential is due."""
    return {
        "at": when(d.at),
        "why": d.why,
        "deadline": when(d.deadline),
        "outside_window": d.outside_window,
    }


def event(e: JournaledEvent) -> dict[str, Any]:
    """Describe an event."""
    data = {k: v for k, v in e.event.data.items() if k not in _HIDDEN}
    return {
        "number": e.number,
        "seq": e.seq,
        "type": str(e.event.type),
        "at": when(e.event.at),
        "actor": e.event.actor,
        "note": str(e.event.data.get("note", "")),
        "data": {k: when(v) if isinstance(v, datetime) else v for k, v in data.items()},
    }


def confirmation(c: Confirmation) -> dict[str, Any]:
    """Describe a consumer's proof."""
    return {
        "consumer": c.consumer,
        "fingerprint": c.fingerprint,
        "evidence": str(c.evidence),
        "at": when(c.at),
        "detail": c.detail,
    }


def key(k: KeyRecord) -> dict[str, Any]:
    """Describe a key that the journal knows."""
    return {
        "key_id": k.key_id,
        "fingerprint": k.fingerprint,
        "origin": str(k.origin),
        "fate": str(k.fate),
        "rotation_id": k.rotation_id,
        "recorded_at": when(k.recorded_at),
    }


def finding(f: Finding) -> dict[str, Any]:
    """Describe a line of a check."""
    return {"subject": f.subject, "ok": f.ok, "detail": f.detail, "todo": f.todo}
