"""Logging in to Vault and staying logged in, also in the middle of a rotation."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.simulator.vault import Trouble, VaultSimulator
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.store_contract_support import key_in, keys_in, put_key, stage_key

from .vault_server import Server

PATH = "bots/mm"
ONE = Attempt(new_rotation_id(), 1)


@pytest.fixture
def server() -> Iterator[Server]:
    with VaultSimulator() as simulator:
        yield Server(simulator.address, simulator.root, simulator=simulator).prepare()


@pytest.fixture
def sim(server: Server) -> VaultSimulator:
    assert server.simulator is not None
    return server.simulator


@pytest.fixture
def rotator(server: Server) -> str:
    return server.policy("rotator", PATHS="bots")


class Clock:
    """The session's clock, moved by hand; the simulator's tokens age with it."""

    def __init__(self, store: VaultKv2Store, sim: VaultSimulator) -> None:
        self.now = 1000.0
        self._sim = sim
        store._session._clock = lambda: self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for token in self._sim.rights.tokens.values():
            token.made -= seconds
            token.ends -= seconds


def logins(sim: VaultSimulator) -> int:
    return sum(seen.path.endswith("/login") for seen in sim.seen)


def renewals(sim: VaultSimulator) -> int:
    return sum(seen.path.endswith("/renew-self") for seen in sim.seen)


async def denied(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    assert caught.value.todo
    return caught.value


def door(sim: VaultSimulator, rotator: str, field: str, wanted: list[str]):
    return lambda body: (
        frozenset({rotator}) if body.get(field) == wanted[0] and body["role"] == "kt" else None
    )


@pytest.mark.parametrize("method", ["kubernetes", "jwt"])
async def test_a_jwt_is_read_anew_at_each_login(server, sim, rotator, tmp_path, method):
    wanted, file = ["jwt-1"], tmp_path / "jwt"
    file.touch(mode=0o600)
    file.write_text("jwt-1\n")
    sim.doors["ways/in"] = door(sim, rotator, "jwt", wanted)
    where = {"token_file": str(file)} if method == "kubernetes" else {"token": {"file": str(file)}}
    store = server.open({"method": method, "mount": "ways/in", "role": "kt", **where})
    await put_key(store, PATH, "a")
    wanted[0] = "jwt-2"
    file.write_text("jwt-2\n")
    for text in list(sim.rights.tokens):
        if text != sim.root:
            sim.rights.revoke(text)
    assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
    assert logins(sim) == 2
    file.unlink()
    store._session._token = None
    assert (await denied(store.peek(PATH, Slot.CURRENT))).fault is StoreFault.MISCONFIGURED
    await store.close()


async def test_the_aws_login_signs_for_its_region_and_header(server, sim, rotator, monkeypatch):
    import base64
    import json

    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOTREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-aws-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    headers: dict[str, list[str]] = {}

    def enter(body):
        headers.update(json.loads(base64.b64decode(body["iam_request_headers"])))
        return frozenset({rotator}) if body["role"] == "kt" else None

    sim.doors["aws"] = enter
    store = server.open(
        {"method": "aws", "role": "kt", "region": "eu-west-1", "header_value": "vault.invalid"}
    )
    await put_key(store, PATH, "a")
    assert headers["X-Vault-AWS-IAM-Server-ID"] == ["vault.invalid"]
    assert "eu-west-1" in headers["Authorization"][0]
    assert "not-a-real-aws-secret" not in repr(sim.seen)
    await store.close()


async def test_the_namespace_goes_with_every_call_the_login_too(server, sim, rotator, tmp_path):
    sim.seen.clear()
    auth = server.approle(tmp_path, rotator)
    sim.seen.clear()
    store = server.open(auth, namespace="team/a")
    await put_key(store, PATH, "a")
    assert logins(sim) == 1
    assert {seen.namespace for seen in sim.seen} == {"team/a"}
    await store.close()


async def test_a_token_is_renewed_at_two_thirds_of_its_lease(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator, token_ttl="300s"))
    clock = Clock(store, sim)
    await store.peek(PATH, Slot.CURRENT)
    for n in range(1, 4):
        clock.advance(150)
        await store.peek(PATH, Slot.CURRENT)
        assert renewals(sim) == n - 1
        clock.advance(70)
        await store.peek(PATH, Slot.CURRENT)
        assert (renewals(sim), logins(sim)) == (n, 1)
    await store.close()


async def test_a_lease_that_shrinks_at_its_maximum_is_left_for_a_new_login(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator, token_ttl="300s", token_max_ttl="700s"))
    clock = Clock(store, sim)
    for _ in range(110):
        assert await store.peek(PATH, Slot.CURRENT) is None
        clock.advance(10)
    assert logins(sim) == 2
    assert not [seen for seen in sim.seen if seen.path.endswith("lookup-self")], "nothing was refused"
    await store.close()


async def test_a_lease_that_ended_by_our_clock_is_dead_without_asking(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator, token_ttl="300s"))
    clock = Clock(store, sim)
    await store.peek(PATH, Slot.CURRENT)
    clock.advance(400)
    await store.peek(PATH, Slot.CURRENT)
    assert (logins(sim), renewals(sim)) == (2, 0)
    await store.close()


async def test_batch_and_root_tokens_are_never_renewed(server, sim, rotator, tmp_path):
    batch = server.open(server.approle(tmp_path, rotator, token_ttl="300s", token_type="batch"))
    root = server.open(server.given(tmp_path, server.root))
    clocks = [Clock(batch, sim), Clock(root, sim)]
    for _ in range(5):
        await batch.peek(PATH, Slot.CURRENT)
        await root.peek(PATH, Slot.CURRENT)
        clocks[0].advance(250)
        clocks[1].advance(250)
    assert renewals(sim) == 0
    await batch.close()
    await root.close()


@pytest.mark.parametrize("when", ["revoked", "expired"])
@pytest.mark.parametrize("skip", range(4))
async def test_a_token_that_dies_in_the_middle_of_a_promotion_is_replaced(
    server, sim, rotator, tmp_path, when, skip
):
    store = server.open(server.approle(tmp_path, rotator))
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, ONE, "new")

    def die():
        for text, token in list(sim.rights.tokens.items()):
            if text != sim.root:
                token.ends = 0.0
                if when == "revoked":
                    sim.rights.revoke(text)

    # The server answers this one itself: with a dead token, what came before does not matter.
    sim.fail(Trouble.ANSWER, path=server.mount, skip=skip, status=403, error="permission denied", then=die)
    await store.promote(PATH, ONE, expect_current=old.version)
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    assert logins(sim) == 2
    await store.close()


async def test_a_policy_that_refuses_causes_no_login(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator))
    await store.peek(PATH, Slot.CURRENT)
    for _ in range(3):
        assert (await denied(store.peek("elsewhere/x", Slot.CURRENT))).fault is StoreFault.DENIED
    assert logins(sim) == 1
    await store.close()


async def test_a_given_token_that_dies_is_told_and_a_new_one_in_its_file_is_taken(
    server, sim, rotator, tmp_path
):
    token, auth = server.token(tmp_path, rotator, ttl="300s")
    store = server.open(auth)
    await put_key(store, PATH, "a")
    sim.rights.revoke(token)
    error = await denied(store.peek(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.DENIED
    assert "expired, revoked" in error.what
    fresh, _ = server.token(tmp_path, rotator, ttl="300s")
    Path(auth["token"]["file"]).write_text(fresh)
    assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
    await store.close()


async def test_a_used_up_secret_id_is_a_clear_refusal(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator, secret_id_num_uses=1))
    await store.peek(PATH, Slot.CURRENT)
    for text in list(sim.rights.tokens):
        if text != sim.root:
            sim.rights.revoke(text)
    error = await denied(store.peek(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.DENIED
    assert "approle" in error.what
    assert "used up" in error.todo
    await store.close()


async def test_when_a_renewal_fails_the_token_is_used_to_its_end(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator, token_ttl="300s"))
    clock = Clock(store, sim)
    await store.peek(PATH, Slot.CURRENT)
    clock.advance(230)
    sim.fail(Trouble.ANSWER, path="renew-self", status=500, times=100)
    assert await store.peek(PATH, Slot.CURRENT) is None
    sim.faults.clear()
    clock.advance(40)
    await store.peek(PATH, Slot.CURRENT)
    assert (renewals(sim) > 1, logins(sim)) == (True, 1)
    await store.close()


@pytest.mark.parametrize("trouble", ["used up", "gone"])
async def test_when_a_new_login_is_refused_the_token_is_used_to_its_end(
    server, sim, rotator, tmp_path, trouble
):
    auth = server.approle(tmp_path, rotator, token_ttl="60s", token_type="batch", secret_id_num_uses=1)
    store = server.open(auth)
    clock = Clock(store, sim)
    await store.peek(PATH, Slot.CURRENT)
    if trouble == "gone":
        Path(auth["secret_id"]["file"]).unlink()
    clock.advance(45)
    assert await store.peek(PATH, Slot.CURRENT) is None
    clock.advance(20)
    fault = StoreFault.DENIED if trouble == "used up" else StoreFault.MISCONFIGURED
    assert (await denied(store.peek(PATH, Slot.CURRENT))).fault is fault
    await store.close()


async def test_many_threads_log_in_once(server, sim, rotator, tmp_path):
    store = server.open(server.approle(tmp_path, rotator))
    clock = Clock(store, sim)
    for n in range(1, 4):
        threads = [threading.Thread(target=store.peek_sync, args=(PATH, Slot.CURRENT)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert logins(sim) == n
        clock.advance(10_000)
    await store.close()


@pytest.mark.parametrize("mount", ["nowhere", "approle-of-nobody"])
async def test_a_login_that_is_not_there_is_told_with_its_mount(server, tmp_path, rotator, mount):
    auth = {**server.approle(tmp_path, rotator), "mount": mount}
    error = await denied(server.open(auth).peek(PATH, Slot.CURRENT))
    assert error.fault in {StoreFault.DENIED, StoreFault.MISCONFIGURED}
    assert f"auth/{mount}" in error.what


def test_opening_a_store_contacts_nobody(server, sim, tmp_path, rotator):
    auth = server.approle(tmp_path, rotator)
    sim.seen.clear()
    server.open(auth)
    time.sleep(0.05)
    assert not sim.seen


def test_a_missing_ca_bundle_is_told_when_the_store_is_opened(server, tmp_path):
    with pytest.raises(StoreError) as caught:
        server.open(server.given(tmp_path, "x"), ca_file=str(tmp_path / "no.pem"))
    assert caught.value.fault is StoreFault.MISCONFIGURED


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
async def test_a_token_with_a_line_end_in_its_variable_is_the_token_without(
    server, tmp_path, monkeypatch, end
):
    monkeypatch.setenv("TOKEN_OF_A_TEST", server.root + end)
    store = server.open({"method": "token", "token": {"env": "TOKEN_OF_A_TEST"}})
    assert await store.peek(PATH, Slot.CURRENT) is None
    await store.close()


@pytest.mark.parametrize(
    "end", ["\nsecond", "\r\nX-Evil: 1", "\N{RIGHT SINGLE QUOTATION MARK}x", "\xe9", "\0a", " a"]
)
@pytest.mark.parametrize("by_login", [False, True])
async def test_a_token_that_no_header_can_carry_is_refused_unsent_and_unquoted(
    server, sim, rotator, tmp_path, monkeypatch, end, by_login
):
    auth = server.approle(tmp_path, rotator) if by_login else server.given(tmp_path, f"hvs.CANARY{end}")
    monkeypatch.setattr(sim.rights, "add", _tokens_of(sim.rights.add, f"hvs.CANARY{end}"))
    sim.seen.clear()
    error = await denied(server.open(auth).peek(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "CANARY" not in "".join(traceback.format_exception(error)) + repr(error.__dict__)
    assert [seen for seen in sim.seen if not seen.path.endswith("/login")] == []


def _tokens_of(add, text):
    def other(token):
        made = add(token)
        made.text = text
        return made

    return other
