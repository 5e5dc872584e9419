"""The order of a parallel run speaks of files that exist."""

from __future__ import annotations

from pathlib import Path

from .conftest import SECONDS, SHARED

ROOT = Path(__file__).parents[1]


def test_every_file_that_the_order_names_is_there() -> None:
    named = {*SECONDS, *SHARED, *SHARED.values()}
    assert [file for file in named if not (ROOT / file).is_file()] == []
