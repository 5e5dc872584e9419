"""An answer with status 200 that AWS did not give: botocore takes it for an empty one, keyturn for none."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract_support import key_in, put_key

from .aws_server import REGION, Faults, _Body

OPERATIONS = {
    AwsSecretsManager: ("DescribeSecret", "GetSecretValue", "ListSecretVersionIds"),
    AwsParameterStore: ("GetParameter", "GetParameters", "GetParameterHistory"),
}


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"", b"{}", b'{"message": "sign in"}', b'{"Name": "bo']
)
@pytest.mark.parametrize("kind", OPERATIONS)
async def test_a_page_of_a_proxy_is_not_an_empty_store(kind, body, aws, monkeypatch):
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0,))
    store: Any = kind(Wire("aws", region=REGION, endpoint_url=aws), prefix=f"{new_rotation_id()}/")
    old = await put_key(store, "bots/mm", "old")
    faults = Faults(store._wire)

    def page(request: Any, **_: object) -> AWSResponse:
        return AWSResponse(request.url, 200, {"Content-Type": "text/html"}, _Body(body))

    left = [faults.inject(operation, page) for operation in OPERATIONS[kind]]
    for call in (
        store.peek("bots/mm", Slot.CURRENT),
        store.read("bots/mm", Slot.CURRENT),
        store.history("bots/mm"),
        store.discard("bots/mm", Slot.PENDING, version="any"),
        store.vacate("bots/mm", expect_current=old.version),
    ):
        with pytest.raises(StoreError) as raised:
            await call
        assert raised.value.fault is StoreFault.UNAVAILABLE
    for each in left:
        each[0] = 0
    assert await key_in(store, "bots/mm", Slot.CURRENT) == "key-old"
    await store.close()
