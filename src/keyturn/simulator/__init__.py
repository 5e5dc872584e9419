"""Simulate exchanges as real HTTP servers: an independent judge for tests, demos and benchmarks.

Each venue checks signatures, clocks, addresses and permissions by the exchange's own documentation (named
with the date of reading in :mod:`.bybit`, :mod:`.okx` and :mod:`.deribit`), and shows faults on demand
(:mod:`.faults`). Nothing here imports the drivers, the engine, Prefect or ccxt, so that a misunderstanding
there is not shared here. ``python -m keyturn.simulator`` runs one as a process of its own.
"""

from keyturn.simulator.bybit import SimBybit
from keyturn.simulator.core import SimExchange
from keyturn.simulator.deribit import Nonces, SimDeribit
from keyturn.simulator.faults import Fault, FaultKind
from keyturn.simulator.okx import SimOkx
from keyturn.simulator.records import CallRecord, KeyCalls
from keyturn.simulator.state import IssuedKey, KeyRules, TrueKey

__all__ = [
    "CallRecord",
    "Fault",
    "FaultKind",
    "IssuedKey",
    "KeyCalls",
    "KeyRules",
    "Nonces",
    "SimBybit",
    "SimDeribit",
    "SimExchange",
    "SimOkx",
    "TrueKey",
]
