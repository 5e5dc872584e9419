"""The store contract over Secrets Manager and Parameter Store, as AWS's rules are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyturn.domain.labels import Attempt
from keyturn.ports.store import SecretStore
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract import SecretStoreContract
from keyturn.testing.store_contract_support import ODD, PEM

from .aws_server import REGION


class TestAwsSecretsManager(SecretStoreContract):
    @pytest.fixture
    async def store(self, aws: str) -> AsyncIterator[SecretStore]:
        store = AwsSecretsManager(Wire("sm", region=REGION, endpoint_url=aws), prefix="keyturn/")
        yield store
        await store.close()


class TestAwsParameterStore(SecretStoreContract):
    # The contract's longest values do not fit: AWS takes 8 KiB in all.
    @pytest.mark.parametrize("value", [ODD, PEM, " spaces around ", "a\x00b", "x" * 1800])
    async def test_odd_values_and_extra_fields_survive(
        self, store: SecretStore, path: str, first: Attempt, value: str
    ) -> None:
        await super().test_odd_values_and_extra_fields_survive(store, path, first, value)

    @pytest.fixture
    async def store(self, aws: str) -> AsyncIterator[SecretStore]:
        store = AwsParameterStore(Wire("ssm", region=REGION, endpoint_url=aws), prefix="keyturn/")
        yield store
        await store.close()
