"""Groups of users of this machine, by name or number."""

from __future__ import annotations

import grp


def number_of(group: str) -> int:
    """Give the number of a group; a text of digits is one.

    Raises:
        KeyError: this machine has no group of that name.
    """
    return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
