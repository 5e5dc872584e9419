"""Commands that texts tell a person to type."""

from __future__ import annotations


def with_reason(command: str, credential: str) -> str:
    """Give a command that needs a reason, so that it runs as it stands."""
    return f'keyturn {command} {credential} --reason "..."'


def by_person(credential: str, consumer: str) -> str:
    """Give the command by which a person gives a consumer's proof."""
    return f'keyturn confirm {credential} --consumer {consumer} --by "YOUR NAME" --reason "..."'
