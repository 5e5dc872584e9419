"""The slots as a file of lines, of which the last finished one counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """How long the slots were when they were last written, and which file they were."""

    number: int
    size: int


def newest_line(text: bytes) -> tuple[bytes, int]:
    """Give the last finished line of a file, and where it ends.

    A text without any is given whole, for the reader to find fault with.
    """
    end = text.rfind(b"\n") + 1
    if not end:
        return text, len(text)
    return text[text.rfind(b"\n", 0, end - 1) + 1 : end], end


def read_note(text: bytes | None) -> Note | None:
    """Read what `Writer.note` wrote; None when there is none, or its writer died over it."""
    words = (text or b"").split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    return Note(int(words[0]), int(words[1]))
