"""What the operating system's refusal means, in the store port's words."""

from __future__ import annotations

import errno

from keyturn.domain.errors import StoreError, StoreFault

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def translate(error: OSError, path: str, *, pivoted: bool = False) -> StoreError:
    """Put an error of the operating system into the port's words.

    Args:
        error: what the system said.
        path: of the credential.
        pivoted: the new state may already be in place.
    """
    reason = (
        f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, error.errno)})"
    )
    if pivoted:
        return StoreError(
            StoreFault.OUTCOME_UNKNOWN,
            f"The write of {path} could not be confirmed: {reason}.",
            now="The new state is visible; whether it would survive a power cut is not known.",
            todo="Check the disk, then read the slots again.",
        )
    now = "Nothing was changed."
    if error.errno in _NO_SPACE:
        return StoreError(
            StoreFault.NO_SPACE,
            f"No room to write {path}: {reason}.",
            now=now,
            todo="Free disk space, then go on.",
        )
    if error.errno in _DENIED:
        return StoreError(
            StoreFault.DENIED,
            f"The system refuses access to {path}: {reason}.",
            now=now,
            todo="Give the user that runs keyturn read and write rights to the store's folder.",
        )
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"The folder of {path} cannot be used: {reason}.",
        now=now,
        todo="Check the disk and the mount.",
    )
