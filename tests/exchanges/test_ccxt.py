"""A process that speaks to one venue loads that venue of ccxt, and whoever wants the rest still gets it."""

from __future__ import annotations

import subprocess

import pytest

from keyturn.exchanges import catalog
from keyturn.processes import python

MANIFESTS = catalog.manifests()
DRIVER = """
import sys
from keyturn.exchanges import catalog
catalog.build({venue!r}, url="http://127.0.0.1:9")
"""
# A venue's module holds a class of its own name.
LOADED = """
ours = {name: module for name, module in sys.modules.items() if name.startswith("ccxt.")}
print(*sorted(n for n, module in ours.items() if isinstance(vars(module).get(n.rpartition(".")[2]), type)))
"""
# As a bot in the same process might, or a plugin of Prefect's.
ALL_OF_IT = """
assert ccxt.async_support.{ccxt_id} is type(ccxt.async_support.{ccxt_id}())
assert issubclass(ccxt.{ccxt_id}, ccxt.Exchange) and ccxt.kraken and ccxt.async_support.kraken
assert ccxt.NetworkError is ccxt.async_support.NetworkError
from ccxt import InvalidOrder, __version__, async_support, binance
from ccxt.async_support import binance, exchanges
assert len(exchanges) == len(ccxt.exchanges) > 50
import ccxt.pro
assert not hasattr(ccxt, "nothing") and not hasattr(ccxt.async_support, "nothing")
"""


def told(code: str) -> str:
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("venue", sorted(MANIFESTS))
def test_a_driver_loads_its_own_venue_and_no_other(venue: str) -> None:
    assert told(DRIVER.format(venue=venue) + LOADED) == f"ccxt.async_support.{MANIFESTS[venue].ccxt_id}"


@pytest.mark.parametrize("before", ["import ccxt", "import ccxt.async_support", ""])
def test_whoever_imports_ccxt_before_or_after_has_all_of_it(before: str) -> None:
    venue, manifest = next(iter(MANIFESTS.items()))
    after = "import ccxt\n" + ALL_OF_IT.format(ccxt_id=manifest.ccxt_id)
    told("\n".join((before, DRIVER.format(venue=venue), after)))
