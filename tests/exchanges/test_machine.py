"""What this machine keeps from leaving is told as its fault: never as a venue that is down."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeySpec, Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller
from keyturn.testing.driver_contract_support import refused

VENUES = [*catalog.manifests()]
KEY = SecretMaterial("not-a-real-key", "not-a-real-secret", "not-a-real-pass")
UNUSABLE = [
    "socks5://127.0.0.1:1080",
    "socks5h://127.0.0.1:1080",
    "ftp://127.0.0.1:21",
    "htp://127.0.0.1:3128",
]
UNUSABLE += ["127.0.0.1:3128", "http://", "http://127.0.0.1:0", "http://127.0.0.1:99999"]


async def told(code: str, url: str = "http://127.0.0.1:9", caller: Caller | None = None) -> ExchangeError:
    """Read and make a key; give the error, which is the same of both."""
    driver = catalog.build(code, url=url, rate_limit=False, timeout=5.0)
    label = driver.manifest.label.separator.join(("kt", "0123456789", "1"))
    subaccount = None if code == "deribit" else "12345678"
    spec = KeySpec(label, frozenset({Permission.READ}), frozenset(), subaccount)
    try:
        read = await refused(driver.private_read(caller or Caller(KEY)), *ExchangeFault)
        made = await refused(driver.create_key(caller or Caller(KEY), spec), *ExchangeFault)
    finally:
        await driver.close()
    assert (read.fault, read.todo) == (made.fault, made.todo)
    return made


@pytest.mark.parametrize("code", VENUES)
@pytest.mark.parametrize("proxy", UNUSABLE)
async def test_a_proxy_that_cannot_be_used_is_named_and_nothing_is_sent(code: str, proxy: str) -> None:
    error = await told(code, caller=Caller(KEY, proxy))
    assert error.fault is ExchangeFault.MACHINE
    assert "egress proxy" in error.what
    assert "egress_proxy" in error.todo
    assert error.now == "Nothing was changed at the venue."


@pytest.mark.parametrize("code", VENUES)
async def test_a_proxy_whose_name_is_unknown_is_not_the_venues_name(code: str) -> None:
    error = await told(code, caller=Caller(KEY, "http://proxy.invalid:3128"))
    assert error.fault is ExchangeFault.MACHINE
    assert "the name of the egress proxy could not be resolved here" in error.what


@pytest.mark.parametrize("code", VENUES)
async def test_a_name_that_cannot_be_resolved_says_nothing_of_the_venue(code: str) -> None:
    error = await told(code, "http://venue.invalid")
    assert error.fault is ExchangeFault.MACHINE
    assert "resolves names" in error.todo


@contextmanager
def few_files() -> Iterator[None]:
    """Let this process open no more files."""
    before, held = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        while True:
            try:
                held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_too_many_open_files_are_told_as_that() -> None:
    # Built before: what a driver needs of the disk is there by then.
    driver = catalog.build("bybit", url="http://127.0.0.1:9", rate_limit=False)
    try:
        with few_files():
            error = await refused(driver.private_read(Caller(KEY)), ExchangeFault.MACHINE)
    finally:
        await driver.close()
    assert "too many files open" in error.what
    assert "ulimit" in error.todo


# In a process of its own: the roots are read once.
NO_ROOTS = """
import asyncio, certifi
certifi.where = lambda: "/nonexistent/roots.pem"
from keyturn.domain.material import SecretMaterial
from keyturn.domain.errors import ExchangeError
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller

async def main():
    driver = catalog.build("bybit", url="https://127.0.0.1:9")
    try:
        await driver.private_read(Caller(SecretMaterial("not-a-real-key", "not-a-real-secret")))
    except ExchangeError as error:
        print(error.fault, error.diagnostics())
    finally:
        await driver.close()

asyncio.run(main())
"""


def test_missing_root_certificates_are_told_as_that() -> None:
    done = subprocess.run([sys.executable, "-c", NO_ROOTS], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("machine "), done.stderr
    assert "trusted authorities" in done.stdout
    assert "certifi" in done.stdout


@pytest.mark.parametrize("code", VENUES)
@pytest.mark.parametrize("field", ["api_key", "secret", "passphrase"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\0", " \t"])
async def test_a_stored_key_with_a_line_end_is_refused_unsent_and_unquoted(
    code: str, field: str, end: str
) -> None:
    values = KEY.reveal()
    values[field] = values[field][:8] + end + values[field][8:]
    error = await told(code, caller=Caller(SecretMaterial.of(values)))
    assert error.fault not in {ExchangeFault.VENUE_DOWN, ExchangeFault.OUTCOME_UNKNOWN}
    assert "line end" in error.what
    assert values[field][:8] not in error.diagnostics()
