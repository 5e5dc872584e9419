from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite(
    "keyturn.testing.journal_contract", "keyturn.testing.journal_tampering", "keyturn.testing.journal_cases"
)

from keyturn.testing.postgres import PostgresServer, postgres_server  # noqa: E402  # after the line above


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as hint:
        pytest.skip(str(hint))
