"""Answer ``/_sim/*``: what other processes may ask a running simulator, and which faults they may order.

==========================  =====================================================================
``GET /_sim/state``         accounts, their keys by the books (no secrets), totals of calls by key
``GET /_sim/calls``         the remembered calls; ``?key_ref=&match=&after=`` narrow them
``GET /_sim/faults``        the faults that are still to come
``POST /_sim/faults``       order one fault or a list of them (see :class:`keyturn.simulator.faults.Fault`)
``DELETE /_sim/faults``     forget all faults
==========================  =====================================================================
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import ClassVar, Protocol

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from keyturn.simulator.faults import Fault, FaultPlan
from keyturn.simulator.records import CallBook, CallRecord
from keyturn.simulator.state import SimAccount, TrueKey

_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class Watched(Protocol):
    """What is asked of a simulated exchange here."""

    venue: ClassVar[str]
    faults: FaultPlan
    book: CallBook
    accounts: dict[str, SimAccount]
    clock_offset_s: float

    def is_live(self, key_ref: str) -> bool:
        """Tell whether a key is accepted."""

    def calls(self, *, key_ref: str | None = None, match: str = "", after: int = 0) -> list[CallRecord]:
        """Give the remembered calls."""


async def answer(sim: Watched, request: web.BaseRequest, path: str) -> web.Response:
    """Answer one request to the simulator itself."""
    match request.method, path:
        case "GET", "/_sim/state":
            return _json(state(sim))
        case "GET", "/_sim/calls":
            return _calls(sim, request)
        case "GET", "/_sim/faults":
            return _json([fault.model_dump(mode="json") for fault in sim.faults.pending()])
        case "POST", "/_sim/faults":
            return _order(sim, await request.read())
        case "DELETE", "/_sim/faults":
            sim.faults.clear()
            return _json([])
    return _json({"error": "no such page"}, 404)


def state(sim: Watched) -> dict[str, object]:
    """Describe the whole exchange without a secret."""
    accounts = [
        {
            "name": account.name,
            "uid": account.uid,
            "parent": account.parent.name if account.parent else None,
            "key_limit": account.key_limit,
            "keys": [
                {
                    **asdict(TrueKey.of(key)),
                    "permissions": sorted(key.rules.value.permissions),
                    "live": sim.is_live(key.ref),
                }
                for key in account.keys.values()
            ],
        }
        for account in sim.accounts.values()
    ]
    return {
        "exchange": sim.venue,
        "clock_offset_s": sim.clock_offset_s,
        "accounts": accounts,
        "calls": sim.book.count,
        "calls_by_key": {ref: asdict(totals) for ref, totals in sim.book.totals().items()},
    }


def _calls(sim: Watched, request: web.BaseRequest) -> web.Response:
    query = request.query
    try:
        after = int(query.get("after", "0"))
    except ValueError:
        return _json({"error": "after must be a number"}, 400)
    calls = sim.calls(key_ref=query.get("key_ref"), match=query.get("match", ""), after=after)
    return _json([asdict(call) for call in calls])


def _order(sim: Watched, body: bytes) -> web.Response:
    try:
        ordered = json.loads(body)
        faults = _FAULTS.validate_python(ordered if isinstance(ordered, list) else [ordered])
        sim.faults.add(*faults)
    except ValidationError as error:
        return _json({"error": [f"{e['loc']}: {e['msg']}" for e in error.errors()]}, 400)
    except ValueError as error:
        return _json({"error": str(error)}, 400)
    return _json({"added": len(faults)})


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type="application/json")
