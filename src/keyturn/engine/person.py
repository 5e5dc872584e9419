"""A person's word in the place of a consumer's proof: who may give it for whom, and what is written down."""

from __future__ import annotations

from keyturn.domain.errors import RefusedError
from keyturn.domain.evidence import Confirmation, Evidence, NoticeKind
from keyturn.domain.rotation import Rotation, State
from keyturn.engine import cutover
from keyturn.engine.work import Work


async def word(work: Work, consumer: str, person: str, reason: str) -> Confirmation:
    """Take a person's word that a consumer runs on the key that it was told of.

    Raises:
        RefusedError: this rotation does not wait for that consumer.
    """
    r = work.rotation
    missing = await cutover.unproved(work, _kind(r))
    if consumer not in missing:
        raise RefusedError(
            f"Rotation {r.id} of {r.credential} does not wait for {consumer}.",
            now="Nothing was recorded.",
            todo=f"It waits for {', '.join(missing)}."
            if missing
            else f"See what it waits for: keyturn history {r.credential}",
        )
    return Confirmation(
        consumer, r.id, missing[consumer], Evidence.PERSON, work.now(), detail=f"by {person}: {reason}"
    )


def allows(rotation: Rotation) -> str:
    """Say what follows from a consumer's proof in this rotation."""
    if _kind(rotation) is NoticeKind.ROLLED_BACK:
        return f"the new key ({rotation.new_fingerprint}) is revoked as soon as nothing else is waited for"
    if rotation.old_fingerprint is None:
        return "the rotation ends as soon as nothing else is waited for"
    when = "at the end of the grace period" if rotation.grace_seconds else "without a grace period"
    return f"the old key ({rotation.old_fingerprint}) is revoked {when}"


def _kind(rotation: Rotation) -> NoticeKind:
    back = rotation.effective_state is State.ROLLING_BACK
    return NoticeKind.ROLLED_BACK if back else NoticeKind.PROMOTED
