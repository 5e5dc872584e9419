"""A second worker goes on while the first waits in a call: the shapes; `make walk` goes everywhere."""

from __future__ import annotations

import pytest

from keyturn.domain.rotation import Mode

from . import walk


@pytest.mark.slow
@pytest.mark.parametrize("mode", walk.MODES)
@pytest.mark.parametrize("store", walk.STORES)
def test_a_second_worker_in_any_call_that_changes_something_leaves_all_in_order(store, mode):
    walked = list(walk.walks(store, mode, full=False))
    assert len(walked) > 60
    for each in walked:
        walk.walk(each)


def test_the_walk_finds_a_worker_that_revokes_what_the_other_has_made_current(monkeypatch):
    from .test_simulation import plant

    plant(monkeypatch, "revokes without looking")
    found = []
    for each in walk.walks("age files", Mode.INCIDENT, full=False):
        if each.row.method == "commit" and each.reach == "goes to the end":
            try:
                walk.walk(each)
            except AssertionError as error:
                found.append(str(error))
    assert any("current" in told or "without an intent" in told for told in found)
