"""What is true after a rotation was undone, in words: which key is current, and what may still live."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.domain.rotation import Fate, KeyRecord, Rotation
from keyturn.engine.world import World

#: Why a rotation was undone whose old key is no longer the current one.
THEIRS_WAS_KEPT = "Somebody else changed the current key while this rotation ran; theirs was kept."


async def aftermath(world: World, rotation: Rotation) -> str:
    """Say what is true after the rotation was undone, from what the journal knows of its keys."""
    keys = await world.journal.keys(rotation.credential)
    return told(rotation, [key for key in keys if key.rotation_id == rotation.id])


def told(rotation: Rotation, keys: Sequence[KeyRecord]) -> str:
    """Say what is true after the rotation was undone.

    Args:
        rotation: as it ended.
        keys: the journal's records of the keys that it made, or meant to make.
    """
    return f"{_current(rotation, keys)}; {_minted(keys)}."


def _current(r: Rotation, keys: Sequence[KeyRecord]) -> str:
    if living := _living(keys):
        return f"a key that this rotation made ({living.fingerprint}) is current and was not revoked"
    old = f"the old key ({r.old_fingerprint})" if r.old_fingerprint else "the key from before"
    if r.restored_at is not None:
        return f"{old} is current again"
    if r.abort_reason == THEIRS_WAS_KEPT:
        return f"the key that somebody else made current was kept, and {old} was not revoked"
    if r.attempt and r.old_ref is None:
        return "no key is current, and there was none before"
    if r.attempt and r.old_version is None:
        return f"no key is current, as before, and {old} lives on"
    return f"{old} is current" if r.attempt else f"{old}, if there was one, is current"


def _living(keys: Sequence[KeyRecord]) -> KeyRecord | None:
    return next((key for key in keys if key.fate in {Fate.LIVE, Fate.REVOKING}), None)


def _minted(keys: Sequence[KeyRecord]) -> str:
    fates = {key.fate for key in keys}
    if Fate.INTENDED in fates:
        return (
            "whether the exchange made a new key is not known yet, so one may live there:"
            " the sweep looks for it and revokes it"
        )
    if _living(keys):
        return "nothing else that it made lives"
    return "the new key is revoked" if Fate.REVOKED in fates else "no new key was made"
