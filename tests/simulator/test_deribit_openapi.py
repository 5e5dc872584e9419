"""The simulated Deribit answers as the official OpenAPI says, but where examples and captures say otherwise.

`data/deribit_openapi.json` holds the answers' schemas of the simulated methods, without texts and examples,
of the official document 2.1.1 (https://github.com/api-evangelist/deribit at 36544f9, read 2026-11-28).
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

SCHEMAS = json.loads((Path(__file__).parent / "data" / "deribit_openapi.json").read_text())
# Method -> parameters; `id` is a key's number, filled in.
CALLS = {
    "public/get_time": {},
    "public/get_instruments": {"currency": "BTC"},
    "public/get_currencies": {},
    "private/create_api_key": {"max_scope": "account:read", "name": "kt_2"},
    "private/list_api_keys": {},
    "private/edit_api_key": {"id": 1, "max_scope": "account:read"},
    "private/change_scope_in_api_key": {"id": 1, "max_scope": "account:read"},
    "private/disable_api_key": {"id": 1},
    "private/enable_api_key": {"id": 1},
    "private/change_api_key_name": {"id": 1, "name": "kt_3"},
    "private/reset_api_key": {"id": 1},
    "private/remove_api_key": {"id": 1},
    "private/get_access_log": {},
    "private/get_account_summary": {"currency": "BTC", "extended": True},
    "private/get_account_summaries": {},
    "private/get_open_orders_by_currency": {"currency": "BTC"},
    "private/get_open_orders_by_instrument": {"instrument_name": "BTC-PERPETUAL"},
    "private/buy": {"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1},
    "private/sell": {"instrument_name": "BTC-PERPETUAL", "amount": 10},
}


def as_the_schema_has_it(method: str, body: dict) -> dict:
    """Undo what the examples, and answers of the real venue, have in another form than the schema."""
    result = body["result"]
    if method == "private/get_access_log":
        body["result"] = result["data"]
    for row in result if isinstance(result, list) else [result]:
        if isinstance(row, dict) and isinstance(row.get("max_scope"), str):
            row["max_scope"] = row["max_scope"].split()
    return body


async def call(world, method: str, token: str = "", **params) -> dict:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": f"/{method}", "params": params})
    headers = {"Authorization": f"bearer {token}"} if token else {}
    return (await world.manager.send("POST", "/api/v2", body, headers)).body


def credentials(key) -> dict[str, str]:
    return {"grant_type": "client_credentials", "client_id": key.key_ref, "client_secret": key.secret}


@pytest.mark.parametrize("method", SCHEMAS)
async def test_an_answer_is_of_the_official_form(deribit, method):
    key = deribit.sim.add_key("main", ["account:read_write", "trade:read_write"], label="hand")
    granted = await call(deribit, "public/auth", **credentials(key))
    answer = granted
    if method != "public/auth":
        made = deribit.sim.add_key("main", ["account:read"], label="kt_1")
        params = dict(CALLS[method])
        if "id" in params:
            params["id"] = deribit.sim.key_in_books(made.key_ref).number
        answer = await call(deribit, method, granted["result"]["access_token"], **params)
    jsonschema.validate(as_the_schema_has_it(method, answer), SCHEMAS[method])
