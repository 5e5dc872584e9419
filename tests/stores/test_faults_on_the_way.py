"""Each fault that a store can have strikes a whole rotation at each verb in turn, by the adapter's own wire.

While it lasts, every try of that verb meets it; then it passes, and nothing may have been lost. The faults at
each verb alone, with what the error says, are in the tests of each store.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.rotation import Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.simulator.vault import Trouble
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.keys import generate_identity
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .aws_server import REGION, Faults, answer, plain
from .vault_server import Server, simulated

#: The verbs of a rotation; each fault strikes the first call of each.
VERBS = ("peek", "read", "claim", "stage", "promote", "discard")
#: What a person must mend; the others pass by themselves.
MENDED = {"permission taken away", "disk full"}
OPERATIONS = {
    "secretsmanager": (
        "CreateSecret",
        "PutSecretValue",
        "UpdateSecretVersionStage",
        "DescribeSecret",
        "GetSecretValue",
    ),
    "ssm": ("PutParameter", "DeleteParameters", "GetParameters", "GetParameter"),
}


class Struck:
    """A store with a fault at the first call of each verb."""

    def __init__(self, store: Any, strike: Callable[[], Callable[[], None]]) -> None:
        self.store, self._strike = store, strike
        self.left = set(VERBS)
        #: What each verb said while it was struck.
        self.told: dict[str, StoreFault | None] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.store, name)
        if name not in self.left:
            return value

        async def struck(*args: Any, **kwargs: Any) -> Any:
            self.left.discard(name)
            mend = self._strike()
            self.told[name] = None
            try:
                return await value(*args, **kwargs)
            except StoreError as error:
                self.told[name] = error.fault
                raise
            finally:
                mend()

        return struck


async def rotated(store: Any, strike: Callable[[], Callable[[], None]]) -> tuple[FakeWorld, Struck]:
    """Rotate over a store that is struck at each verb; judge; give the world and what the verbs said."""
    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    await world.prepare()
    world.store = struck = Struck(store, strike)
    for _ in VERBS:
        # A fault may end a rotation before its pivot; then another one meets the rest of the verbs.
        if struck.left:
            engine = Engine(world.world())
            await world.run(engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
            await mended(world)
    assert struck.left == set(), "no call went by"
    current = await store.read(PATH, Slot.CURRENT)
    assert current is not None
    assert world.old is not None
    assert current.material.key_ref != world.old.key_ref, "the key was not turned"
    world._current = lambda which: current if which is struck else None
    await world.judge_rest()
    return world, struck


async def mended(world: FakeWorld) -> None:
    """Let sweeps, and a person who resumes what is parked, bring the rotation to its end."""
    for _ in range(20):
        await world.sweep_until_rest()
        opened = await world.journal.open_rotation(NAME)
        if opened is None:
            return
        assert opened.state is State.PARKED
        await Engine(world.world()).resume(NAME)
    raise AssertionError("it is parked again and again")


# Vault.


@pytest.fixture(scope="module")
def vault() -> Iterator[Server]:
    with simulated() as found:
        yield found


def _vault_faults(server: Server, store: Any) -> dict[str, Callable[[], Callable[[], None]]]:
    sim, adapter = server.simulator, store._session._adapter
    assert sim is not None

    def wire(trouble: Trouble, **what: Any) -> Callable[[], Callable[[], None]]:
        def strike() -> Callable[[], None]:
            sim.fail(trouble, times=99, **what)
            return sim.faults.clear

        return strike

    def setting(holder: Any, name: str, value: Any) -> Callable[[], Callable[[], None]]:
        def strike() -> Callable[[], None]:
            before = getattr(holder, name)
            setattr(holder, name, value)
            return lambda: setattr(holder, name, before)

        return strike

    def dead_token() -> Callable[[], None]:
        sim.rights.revoke(store._session._token.grant.token)
        return lambda: None

    def edited() -> Callable[[], None]:
        edits = len(sim.seen)
        server.put(PATH, {**server.get(PATH), "note": f"edit {edits}"})
        return lambda: None

    return {
        "refused": setting(adapter, "_bases", ["http://127.0.0.1:9"]),
        "cut before": wire(Trouble.CUT_BEFORE),
        "cut after": wire(Trouble.CUT_AFTER),
        "429": wire(Trouble.ANSWER, status=429),
        "500": wire(Trouble.ANSWER, status=500),
        "503 after the effect": wire(Trouble.ANSWER_AFTER, status=503),
        "sealed": setting(sim, "sealed", True),
        "standby": wire(Trouble.ANSWER, status=473),
        "token revoked": dead_token,
        "permission taken away": setting(sim.rights, "policies", {}),
        "another writer": edited,
        "disk full": wire(Trouble.ANSWER, status=500, error="write /data: no space left on device"),
    }


@pytest.mark.parametrize(
    "fault",
    [
        *("refused", "cut before", "cut after", "429", "500", "503 after the effect", "sealed", "standby"),
        *("token revoked", "permission taken away", "another writer", "disk full"),
    ],
)
async def test_a_rotation_in_vault_outlives(fault, vault, tmp_path):
    for path in (PATH, "managers/main", f"keyturn/pending/{PATH}"):
        with suppress(AssertionError):
            vault.admin("DELETE", f"{vault.mount}/metadata/{path}")
    store = vault.rotator(tmp_path)
    try:
        _, struck = await rotated(store, _vault_faults(vault, store)[fault])
    finally:
        assert vault.simulator is not None
        vault.simulator.faults.clear()
        await store.close()
    if fault in MENDED:
        expected = {"disk full": StoreFault.NO_SPACE, "permission taken away": StoreFault.DENIED}[fault]
        assert set(struck.told.values()) == {expected}
    if fault in {"token revoked", "another writer"}:
        assert {struck.told[verb] for verb in ("peek", "read", "claim", "stage")} == {None}
    if fault == "another writer":
        assert vault.get(PATH)["note"].startswith("edit ")


# AWS.

AWS_FAULTS: dict[str, Callable[[Faults], Callable[..., Any]]] = {
    "refused": lambda faults: faults.unreachable,
    "cut before": lambda faults: faults.cut_before,
    "cut after": lambda faults: faults.cut_after,
    "429": lambda _: answer(429, "TooManyRequestsException", "Rate exceeded"),
    "throttled": lambda _: answer(400, "ThrottlingException", "Rate exceeded"),
    "500": lambda _: answer(500, "InternalServerError"),
    "503": lambda _: answer(503, "ServiceUnavailable"),
    "token expired": lambda _: answer(400, "ExpiredTokenException", "The security token is expired"),
    "permission taken away": lambda _: answer(400, "AccessDeniedException", "User is not authorized"),
    "quota full": lambda _: answer(400, "LimitExceededException"),
}
_KINDS = {"secretsmanager": AwsSecretsManager, "ssm": AwsParameterStore}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0, 0.0, 0.0))
    for module in ("shelf", "parameters"):
        monkeypatch.setattr(f"keyturn.stores.aws.{module}._LAG_PAUSES", ())
    # A writer of current that failed keeps the others waiting until its lease is over.
    monkeypatch.setattr("keyturn.stores.aws.page_desk._BUSY_SECONDS", 0.1)


def _aws_store(aws: str, service: str, fault: str) -> Any:
    wire = Wire("aws", region=REGION, endpoint_url=aws)
    store = _KINDS[service](wire, prefix=f"way/{fault.replace(' ', '-')}/")
    if service == "ssm":
        store._slots._desk.lease_seconds = 0.2
    return store


@pytest.mark.parametrize("fault", AWS_FAULTS)
@pytest.mark.parametrize("service", _KINDS)
async def test_a_rotation_in_aws_outlives(service, fault, aws, quick):
    store = _aws_store(aws, service, fault)
    faults = Faults(store._wire)

    def strike() -> Callable[[], None]:
        for each in left:
            each[0] = 99
        return calm

    def calm() -> None:
        for each in left:
            each[0] = 0

    left = [faults.inject(operation, AWS_FAULTS[fault](faults), 0) for operation in OPERATIONS[service]]
    _, struck = await rotated(store, strike)
    await store.close()
    if fault in {"token expired", "permission taken away"}:
        assert set(struck.told.values()) == {StoreFault.DENIED}


@pytest.mark.parametrize("service", _KINDS)
async def test_a_key_that_somebody_edits_in_aws_before_the_promotion_stays(service, aws, quick):
    """It is not ours any more, so nothing takes its place; what was minted is revoked."""
    store, client = _aws_store(aws, service, "writer"), plain(aws, service)

    def edited() -> Callable[[], None]:
        if service == "ssm":
            name = store._parameters.name(PATH)
            text = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
            value = json.dumps(json.loads(text) | {"note": "edited"})
            client.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
        else:
            name = f"way/writer/{PATH}"
            text = client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
            client.put_secret_value(
                SecretId=name, SecretString=json.dumps(json.loads(text) | {"note": "edited"})
            )
        return lambda: None

    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    await world.prepare()
    kept = set(world.exchange.truth())
    world.store = struck = Struck(store, edited)
    struck.left = {"promote"}
    engine = Engine(world.world())
    rotation = await world.run(engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    if rotation.is_open:
        await engine.abort(NAME, "somebody else writes there")
    await world.sweep_until_rest()
    assert struck.told == {"promote": StoreFault.CONFLICT}
    assert await world.journal.open_rotation(NAME) is None
    current = await store.read(PATH, Slot.CURRENT)
    assert current.material.key_ref == world.old.key_ref
    assert current.material.reveal()["note"] == "edited"
    assert set(world.exchange.truth()) == kept
    await store.close()


# Files.


@pytest.mark.parametrize("fault", ["permission taken away", "disk full", "another writer"])
async def test_a_rotation_in_files_outlives(fault, tmp_path: Path):
    generate_identity(tmp_path / "age.key")
    store = AgeFilesStore(tmp_path / "store", (tmp_path / "age.key").read_text, lock_wait=0.1)
    number = {"disk full": errno.ENOSPC, "permission taken away": errno.EACCES}.get(fault, 0)

    def strike() -> Callable[[], None]:
        patch = pytest.MonkeyPatch()

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        if number:
            for place, name in ((disk, "flush"), (disk.os, "pwrite")):
                patch.setattr(place, name, fail)
            return patch.undo
        return disk.Writer(tmp_path / "store" / PATH).close

    _, struck = await rotated(store, strike)
    await store.close()
    writes = {struck.told[verb] for verb in ("claim", "stage", "promote", "discard")}
    expected = {
        "disk full": StoreFault.NO_SPACE,
        "permission taken away": StoreFault.DENIED,
        "another writer": StoreFault.UNAVAILABLE,
    }
    assert writes == {expected[fault]}
