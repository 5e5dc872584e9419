"""Whole rotations over a split secret: a worker dies at each write to its fields, and a region is slow."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from keyturn.domain.labels import new_rotation_id
from keyturn.domain.rotation import Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import Formats
from keyturn.testing.crash import Killed
from keyturn.testing.fake_world import NAME, PATH
from keyturn.testing.roads import ROADS
from keyturn.testing.store_world import StoreWorld

from .aws_server import REGION, plain

FIELDS = ("api_key", "secret")
WRITES = {"create_secret", "put_secret_value", "update_secret_version_stage"}


class Mortal(Wire):
    """A wire whose process dies at a write to a field secret; the others are only counted."""

    writes = 0
    die_at: int | None = None
    after = False

    def call(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        name = str(params.get("SecretId") or params.get("Name") or "")
        if method not in WRITES or not name.endswith(FIELDS):
            return super().call(service, method, **params)
        number, self.writes = self.writes, self.writes + 1
        if number == self.die_at and not self.after:
            raise Killed
        answer = super().call(service, method, **params)
        if number == self.die_at:
            raise Killed
        return answer


class Prefix:
    """A corner of the server, with stores as each test needs them."""

    def __init__(self, wire: Wire, **settings: Any) -> None:
        self.wire, self.settings, self.name = wire, settings, ""

    def clear(self) -> None:
        self.name = f"{new_rotation_id()}/"

    def open(self) -> AwsSecretsManager:
        return AwsSecretsManager(self.wire, prefix=self.name, **self.settings)

    def keys_kept(self, _: str) -> set[str]:
        """Name none: what is kept is looked at below, field by field."""
        return set()


async def walk(aws: str, road: str, die_at: int | None = None, *, after: bool = False) -> int:
    wire = Mortal("mortal", region=REGION, endpoint_url=aws)
    home = Prefix(wire, formats=Formats(split={PATH: {f: f for f in FIELDS}}))
    fake = StoreWorld(grace="10s", primary=home)
    await fake.prepare()
    wire.writes, wire.die_at, wire.after = 0, die_at, after
    with suppress(Killed):
        await ROADS[road].story(fake, Engine(fake.world()))
    writes, wire.die_at = wire.writes, None
    await fake.sweep_until_rest()
    await fake.judge_rest()
    current = await fake.store.read(PATH, Slot.CURRENT)
    client, values = plain(aws, "secretsmanager"), current.material.reveal()
    answers = {}
    for name in FIELDS:
        secret_id = f"{home.name}{PATH}/{name}"
        answers[name] = client.get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT")
        labels = client.describe_secret(SecretId=secret_id)["VersionIdsToStages"]
        assert list(labels.values()) == [["AWSCURRENT"]], "a dead key has kept its label"
    assert {name: a["SecretString"] for name, a in answers.items()} == {n: values[n] for n in FIELDS}
    assert len({a["VersionId"] for a in answers.values()}) == 1
    await wire.close()
    return writes


@pytest.mark.slow
@pytest.mark.parametrize("road", ["forward", "rolled back when promoted"])
async def test_a_worker_that_dies_between_the_fields_leaves_them_to_the_sweep(aws, road):
    writes = await walk(aws, road)
    assert writes >= 6
    for at in range(writes):
        for after in (False, True):
            try:
                await walk(aws, road, at, after=after)
            except AssertionError as error:
                raise AssertionError(f"write {at}, {after=}: {error}") from error


async def test_a_region_without_the_new_key_holds_the_revoke_back_and_status_names_it(aws):
    wire, region = Wire("sm", region=REGION, endpoint_url=aws), ["eu-west-1"]
    home = Prefix(wire, replica_regions=region)
    fake = StoreWorld(grace="10s", confirm_within="60s", primary=home)
    await fake.prepare()
    client = plain(aws, "secretsmanager")
    name = home.name + PATH
    client.remove_regions_from_replication(SecretId=name, RemoveReplicaRegions=region)
    engine = Engine(fake.world())
    rotation_id = (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id
    problems = set()
    for _ in range(200):
        progress = await engine.step(rotation_id)
        problems.add(progress.rotation.problem)
        if progress.rotation.state is State.PARKED:
            break
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    parked = progress.rotation
    assert parked.parked_from is State.CUTTING_OVER, "nothing is parked before the pivot"
    assert "in region eu-west-1 (no replica)" in parked.parked_why
    assert any("Not everywhere yet" in problem for problem in problems)
    assert {parked.old_ref, parked.new_ref} <= fake.exchange.truth().keys(), "both keys live"
    client.replicate_secret_to_regions(SecretId=name, AddReplicaRegions=[{"Region": "eu-west-1"}])
    fake.clock.advance(120)
    await fake.sweep_until_rest()
    await fake.judge_rest()
    await wire.close()
