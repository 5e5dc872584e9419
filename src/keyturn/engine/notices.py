"""What each consumer of a credential is told of a rotation, and is asked about."""

from __future__ import annotations

from datetime import datetime

from keyturn.domain.evidence import Notice, NoticeKind
from keyturn.engine.work import Work


def notices(work: Work, kind: NoticeKind, confirm_by: datetime) -> dict[str, Notice]:
    """Build what each consumer is told."""
    r = work.rotation
    back = kind is NoticeKind.ROLLED_BACK
    issued_at = r.restored_at if back else r.promoted_at
    return {
        name: Notice(
            credential=r.credential,
            consumer=name,
            rotation_id=r.id,
            kind=kind,
            fingerprint=(r.old_fingerprint if back else r.new_fingerprint) or "",
            version=(r.old_version if back else r.new_version) or "",
            confirm_by=confirm_by,
            issued_at=issued_at,
        )
        for name in work.entry.consumers
    }
