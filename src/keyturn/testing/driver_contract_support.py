"""What the contract of the exchange port stands on: the bench, and short ways to say things."""
# The helpers assert on behalf of the suite.

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.material import SecretMaterial
from keyturn.ports.exchange import Caller, ExchangeDriver, KeyHandle

#: How far a clock is off in the contract: "one minute", and a little for tolerances of just that.
SKEW_SECONDS = 65.0


class Mishap(StrEnum):
    """What a bench can let happen to the next call of a method."""

    CUT_BEFORE = "the connection is cut before the effect"
    CUT_AFTER = "the connection is cut after the effect"
    SERVER_ERROR = "a gateway answers 502 before the effect"
    SERVER_ERROR_AFTER = "a gateway answers 502 after the effect"
    RATE_LIMITED = "too many calls"
    QUOTA = "the account is full"
    UNLISTED = "the venue answers, after the effect, with a code that no table has"


class DriverBench(Protocol):
    """One venue with one account, made for one test."""

    #: The driver under test, without rate limits.
    driver: ExchangeDriver
    #: A key that may manage keys.
    manager: Caller
    #: A live key of the same account that may read and not manage keys.
    powerless: Caller
    #: Where keys are made.
    subaccount: str | None
    #: The address that calls come from, and one that they do not come from.
    home: str
    elsewhere: str
    #: A proxy whose calls come from `elsewhere`.
    egress_proxy: str

    def arm(self, mishap: Mishap, method: str) -> None:
        """Let the next call of a method of the port go wrong."""
        ...

    def skew(self, seconds: float) -> None:
        """Set the venue's clock ahead."""
        ...

    def truth(self) -> Mapping[str, str]:
        """Give the labels of the account's keys in the venue's books, by key ref."""
        ...


async def refused(call: Awaitable[Any], *faults: ExchangeFault) -> ExchangeError:
    """Expect a call to raise one of these faults, saying what, now and what to do, and hiding its cause."""
    with pytest.raises(ExchangeError) as caught:
        await call
    error = caught.value
    assert error.fault in faults, error.diagnostics()
    assert error.what
    assert error.now
    assert error.todo
    assert "{" not in error.diagnostics()
    assert error.__cause__ is None
    context = error.__context__
    assert context is None or isinstance(context, ExchangeError)
    return error


async def mint(bench: DriverBench, spec: KeySpec) -> MintedKey:
    """Mint a key and, where the venue binds it only afterwards, bind it."""
    minted = await bench.driver.create_key(bench.manager, spec)
    if bench.driver.manifest.ip.set_at == "after" and spec.ip_allowlist:
        await bench.driver.edit_key(bench.manager, handle_of(bench, minted), spec)
    return minted


def handle_of(bench: DriverBench, minted: MintedKey) -> KeyHandle:
    """Name a minted key for edit and revoke."""
    return KeyHandle(minted.key_ref, minted.handle, bench.subaccount)


def relabelled(bench: DriverBench, spec: KeySpec) -> KeySpec:
    """Give the same specification for a key of its own."""
    label = Attempt(new_rotation_id(), 1).label(bench.driver.manifest.label.separator)
    return replace(spec, label=label)


async def find(bench: DriverBench, key_ref: str) -> KeyFacts | None:
    """Give what the manager's list says about a key."""
    listed = await bench.driver.list_keys(bench.manager, bench.subaccount)
    return next((facts for facts in listed if facts.key_ref == key_ref), None)


async def count(bench: DriverBench) -> int:
    """Count the listed keys."""
    return len(await bench.driver.list_keys(bench.manager, bench.subaccount))


async def perform(bench: DriverBench, method: str, minted: MintedKey, spec: KeySpec) -> None:
    """Call a method of the port with something sensible."""
    driver, caller = bench.driver, Caller(minted.material)
    match method:
        case "create_key":
            await driver.create_key(bench.manager, relabelled(bench, spec))
        case "edit_key":
            wanted = replace(spec, permissions=frozenset({Permission.READ}))
            await driver.edit_key(bench.manager, handle_of(bench, minted), wanted)
        case "revoke_key":
            await driver.revoke_key(bench.manager, handle_of(bench, minted))
        case "list_keys":
            await driver.list_keys(bench.manager, bench.subaccount)
        case "introspect":
            await driver.introspect(caller)
        case _:
            await driver.private_read(caller)


def secrets_of(material: SecretMaterial) -> list[str]:
    """Give the values of a key that must show nowhere."""
    return [value for name, value in material.reveal().items() if name != "api_key"]
