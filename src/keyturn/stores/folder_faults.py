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
    if error.errno in _NO_SPACE:
        fault, what, todo = StoreFault.NO_SPACE, f"No room to write {path}", "Free disk space, then go on."
    elif error.errno in _DENIED:
        fault, what = StoreFault.DENIED, f"The system refuses access to {path}"
        todo = "Give the user that runs keyturn read and write rights to the store's folder."
    else:
        fault, what = StoreFault.UNAVAILABLE, f"The folder of {path} cannot be used"
        todo = "Check the disk and the mount."
    return StoreError(fault, f"{what}: {reason}.", now="Nothing was changed.", todo=todo)
