"""The policies of infra/vault where a server enforces them, and mounts that are not what they should be."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    refused,
    stage_key,
)

from .vault_cases import one, path, server, store
from .vault_server import POLICIES, PREFIX, Server

__all__ = ["one", "path", "server", "store"]


async def refusal(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    return caught.value


async def test_a_rotator_goes_the_whole_way_with_its_policy_alone(store, server, path, one):
    old = await put_key(store, path, "old")
    await stage_key(store, path, one, "new")
    promoted = await store.promote(path, one, expect_current=old.version)
    restored = await store.restore_previous(path, expect_current=promoted.current)
    await store.discard(path, Slot.PREVIOUS, version=restored.previous)
    assert await keys_in(store, path) == (None, "key-old", None)
    two = Attempt(one.rotation_id, 2)
    staged = await stage_key(store, path, two, "two")
    await store.discard(path, Slot.PENDING, version=staged.version)
    assert await keys_in(store, path) == (None, "key-old", None)


async def test_what_is_over_is_destroyed_and_not_just_hidden(store, server, path, one):
    old = await put_key(store, path, "old")
    await stage_key(store, path, one, "new")
    promoted = await store.promote(path, one, expect_current=old.version)
    await store.discard(path, Slot.PREVIOUS, version=promoted.previous)
    for where, alive in ((path, 1), (f"{PREFIX}/{path}", 0)):
        rows = server.admin("GET", f"{server.mount}/metadata/{where}")["data"]["versions"]
        kept = [n for n, row in rows.items() if not row["destroyed"]]
        if where != path:
            # A claim stands there; it holds no secret.
            for n in kept:
                answer = server.admin("GET", f"{server.mount}/data/{where}?version={n}")
                assert "not-a-real-secret" not in str(answer)
        else:
            assert len(kept) == alive


async def test_custom_metadata_is_left_alone(store, server, path, one):
    await put_key(store, path, "old")
    settings = {
        "custom_metadata": {"owner": "desk 7"},
        "max_versions": 7,
        "delete_version_after": "8760h0m0s",
    }
    server.admin("POST", f"{server.mount}/metadata/{path}", settings)
    current = await store.peek(path, Slot.CURRENT)
    await stage_key(store, path, one, "new")
    await store.promote(path, one, expect_current=current.version)
    found = server.admin("GET", f"{server.mount}/metadata/{path}")["data"]
    assert {name: found[name] for name in settings} == settings


async def test_a_mount_that_requires_cas_simply_works(store, server, path, one):
    server.admin("POST", f"{server.mount}/config", {"cas_required": True})
    try:
        old = await put_key(store, path, "old")
        await stage_key(store, path, one, "new")
        await store.promote(path, one, expect_current=old.version)
        assert await keys_in(store, path) == (None, "key-new", "key-old")
    finally:
        server.admin("POST", f"{server.mount}/config", {"cas_required": False})


async def test_a_mount_of_version_1_is_refused_before_anything_is_written(server, tmp_path, path, one):
    mount = f"flat-{secrets.token_hex(3)}"
    server.admin("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "1"}})
    flat = server.open(server.given(tmp_path, server.root), mount=mount)
    for call in (put_key(flat, path, "a"), flat.claim(path, one), flat.peek(path, Slot.CURRENT)):
        error = await refusal(call)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "version 2" in error.what
        assert mount in error.what
    answer = requests.get(
        f"{server.address}/v1/{mount}/data/{path}",
        headers={"X-Vault-Token": server.root},
        verify=str(server.ca_file) if server.ca_file else True,
        timeout=10,
    )
    assert answer.status_code == 404
    server.admin("DELETE", f"sys/mounts/{mount}")
    await flat.close()


@pytest.mark.parametrize("root", [True, False])
async def test_a_wrong_mount_is_told_by_its_name(server, tmp_path, path, one, root):
    auth = (
        server.given(tmp_path, server.root)
        if root
        else server.approle(tmp_path, server.policy("rotator", PATHS="bots"))
    )
    lost = server.open(auth, mount="no-such-mount")
    for call in (put_key(lost, path, "a"), lost.claim(path, one), lost.peek(path, Slot.CURRENT)):
        error = await refusal(call)
        assert error.fault in {StoreFault.MISCONFIGURED, StoreFault.DENIED}
        assert "no-such-mount" in error.what
    await lost.close()


async def test_a_consumer_reads_current_and_nothing_else(store, server, tmp_path, path, one):
    await put_key(store, path, "old")
    auth = server.approle(tmp_path, server.policy("consumer", CREDENTIAL=path))
    bot = server.open(auth)
    assert bot.read_sync(path, Slot.CURRENT).material == fake_material("old")
    assert bot.peek_sync(path, Slot.CURRENT) == await store.peek(path, Slot.CURRENT)
    await stage_key(store, path, one, "new")
    closed = [
        bot.peek(path, Slot.PENDING),
        bot.read(path, Slot.PENDING),
        put_key(bot, path, "b", (await store.peek(path, Slot.CURRENT)).version),
        bot.claim(path, Attempt(one.rotation_id, 2)),
        bot.peek(f"{path}-other", Slot.CURRENT),
    ]
    for call in closed:
        assert (await refusal(call)).fault is StoreFault.DENIED
    assert await keys_in(store, path) == ("key-new", "key-old", None)
    await bot.close()


async def test_a_consumer_with_the_optional_right_reads_pending_and_changes_nothing(
    store, server, tmp_path, path, one
):
    text = (POLICIES / "consumer.hcl").read_text()
    for word, value in {"MOUNT": server.mount, "PREFIX": PREFIX, "CREDENTIAL": path}.items():
        text = text.replace(word, value)
    stanza = re.search(r"(?m)^# path [^}]*}$", text)[0]
    text = text.replace(stanza, stanza.replace("# ", ""))
    bot = server.open(server.approle(tmp_path, server.policy_text("prober", text)))
    await put_key(store, path, "old")
    await stage_key(store, path, one, "new")
    assert bot.read_sync(path, Slot.PENDING).material == fake_material("new")
    assert (await refusal(bot.claim(path, Attempt(one.rotation_id, 2)))).fault is StoreFault.DENIED
    assert await keys_in(store, path) == ("key-new", "key-old", None)
    await bot.close()


@pytest.mark.parametrize("metadata", [True, False])
async def test_a_consumer_sees_a_change_by_the_signature(store, server, tmp_path, path, one, metadata):
    text = f'path "{server.mount}/data/{path}" {{ capabilities = ["read"] }}\n'
    if metadata:
        text += f'path "{server.mount}/metadata/{path}" {{ capabilities = ["read"] }}\n'
    text += 'path "auth/token/lookup-self" { capabilities = ["read"] }\n'
    bot = server.open(server.approle(tmp_path, server.policy_text("bot", text)))
    assert bot.signature(path) is None
    old = await put_key(store, path, "old")
    first = bot.signature(path)
    assert first is not None
    assert bot.signature(path) == first
    await stage_key(store, path, one, "new")
    assert bot.signature(path) == first
    await store.promote(path, one, expect_current=old.version)
    assert bot.signature(path) != first
    await bot.close()


async def test_an_intake_writes_what_was_claimed_for_it_and_reads_nothing_back(
    store, server, tmp_path, path, one
):
    desk = server.open(server.approle(tmp_path, server.policy("intake", PATHS="bots")))
    claim = await store.claim(path, one)
    staged = await desk.stage(path, fake_material("a"), fake_meta("a", one), claim)
    for slot in Slot:
        assert (await refusal(desk.peek(path, slot))).fault is StoreFault.DENIED
    await refused(desk.stage(path, fake_material("b"), fake_meta("b", one), claim))
    assert (await refusal(put_key(desk, path, "b"))).fault is StoreFault.DENIED
    assert await store.peek(path, Slot.PENDING) == staged
    await store.promote(path, one, expect_current=None)
    assert await key_in(store, path, Slot.CURRENT) == "key-a"
    await desk.close()


async def _findings(server: Server, tmp_path: Path, path: str, change: Callable[[str], str]):
    text = (POLICIES / "rotator.hcl").read_text()
    for word, value in {"MOUNT": server.mount, "PREFIX": PREFIX, "PATHS": "bots"}.items():
        text = text.replace(word, value)
    checked = server.open(server.approle(tmp_path, server.policy_text("changed", change(text))))
    found = await checked.check([path])
    await checked.close()
    return {f.subject: f for f in found if not f.ok}


async def test_the_check_names_each_right_that_is_missing(server, tmp_path, path):
    def less(text: str) -> str:
        return text.replace('["update"]', '["deny"]', 1).replace('"create", "read", "update"', '"read"', 1)

    bad = await _findings(server, tmp_path, path, less)
    assert bad[f"{server.mount}/data/{path}"].detail == "create, update is missing"
    assert bad[f"{server.mount}/destroy/{path}"].detail == "update is missing"
    assert all(f.todo for f in bad.values())
    assert len(bad) == 2


async def test_the_check_names_each_right_that_is_too_much(server, tmp_path, path):
    def more(text: str) -> str:
        return text.replace('"create", "read", "update"', '"create", "read", "update", "delete"', 1) + (
            f'path "{server.mount}/undelete/*" {{ capabilities = ["update"] }}\n'
        )

    bad = await _findings(server, tmp_path, path, more)
    assert bad[f"{server.mount}/data/{path}"].detail == "delete is too much"
    assert bad[f"{server.mount}/undelete/{path}"].detail == "update is too much"
    assert {subject.split("/")[1] for subject in bad} == {"data", "undelete"}


@pytest.mark.parametrize(
    ("stanza", "subject"),
    [
        ('"MOUNT/data/*" { capabilities = ["read"] }', "MOUNT/data/*"),
        ('"MOUNT/delete/PREFIX/*" { capabilities = ["update"] }', "MOUNT/delete/PREFIX/PATH"),
        ('"MOUNT/config" { capabilities = ["update"] }', "MOUNT/config"),
        ('"sys/*" { capabilities = ["create", "update", "sudo"] }', "sys/policies/acl/keyturn"),
        ('"auth/token/create" { capabilities = ["update"] }', "auth/token/create"),
    ],
)
async def test_the_check_names_each_right_beyond_keyturns_own_paths(server, tmp_path, path, stanza, subject):
    def named(text: str) -> str:
        return text.replace("MOUNT", server.mount).replace("PREFIX", PREFIX).replace("PATH", path)

    bad = await _findings(server, tmp_path, path, lambda text: f"{text}\npath {named(stanza)}\n")
    assert "is too much" in bad[named(subject)].detail


async def test_the_check_calls_a_root_token_too_much(server, tmp_path, path):
    rooted = server.open(server.given(tmp_path, server.root))
    bad = [f for f in await rooted.check([path]) if not f.ok]
    assert [f.subject for f in bad] == ["login"]
    assert "root" in bad[0].detail
    await rooted.close()


async def test_a_path_inside_of_a_mount_is_not_taken_for_a_mount(server, tmp_path, path, one):
    inside = server.open(server.given(tmp_path, server.root), mount=f"{server.mount}/team")
    for call in (inside.peek(path, Slot.CURRENT), put_key(inside, path, "a"), inside.claim(path, one)):
        error = await refusal(call)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "no such mount" in error.what
    bad = [f.subject for f in await inside.check([path]) if not f.ok]
    assert f"{server.mount}/team" in bad
    await inside.close()


async def test_the_check_tells_of_settings_that_would_lose_a_key(store, server, path):
    await put_key(store, path, "a")
    server.admin("POST", f"{server.mount}/metadata/{path}", {"max_versions": 1, "delete_version_after": "1h"})
    bad = [f for f in await store.check([path]) if not f.ok]
    assert len(bad) == 2
    assert all(f.subject == path for f in bad)


@pytest.mark.parametrize(
    ("of_mount", "of_path", "words"),
    [
        ({"max_versions": 1}, {}, "only 1 versions"),
        ({"max_versions": 2}, {"max_versions": 3}, "only 3 versions"),
        ({"delete_version_after": "1h"}, {}, "the mount deletes versions"),
        # The server keeps the larger number, and a mount that deletes nothing overrules the path.
        ({"max_versions": 1}, {"max_versions": 9}, ""),
        ({"max_versions": 9}, {"max_versions": 1}, ""),
        ({"delete_version_after": "-1s"}, {"delete_version_after": "1h"}, ""),
        ({"cas_required": True}, {}, ""),
    ],
)
async def test_the_check_tells_of_settings_of_the_mount_that_would_lose_a_key(
    server, tmp_path, path, of_mount, of_path, words
):
    mount = f"kv-{secrets.token_hex(3)}"
    server.admin("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    store = server.open(server.given(tmp_path, server.root), mount=mount)
    await put_key(store, path, "a")
    server.admin("POST", f"{mount}/config", of_mount)
    if of_path:
        server.admin("POST", f"{mount}/metadata/{path}", of_path)
    found = await store.check([path])
    bad = [f for f in found if not f.ok and f.subject != "login"]
    assert [words in f.detail for f in bad] == ([True] if words else [])
    assert all("vault " in f.todo for f in bad)
    assert ("names the version before" in str(found)) is ("cas_required" in of_mount)
    await store.close()
    server.admin("DELETE", f"sys/mounts/{mount}")


async def test_the_check_says_so_where_the_settings_of_the_mount_may_not_be_read(server, tmp_path, path):
    def less(text: str) -> str:
        return re.sub(r'path "[^"]+/config" \{[^}]+\}', "", text)

    bad = await _findings(server, tmp_path, path, less)
    assert set(bad) == {f"{server.mount}/config"}


async def test_the_check_of_a_path_that_may_not_be_is_a_finding(store: VaultKv2Store):
    bad = [f for f in await store.check(["../x", "bots/x"]) if not f.ok]
    assert [f.subject for f in bad] == ["../x"]


async def test_a_server_that_seals_itself_in_the_middle_goes_on_after_the_unsealing(store, server, path, one):
    if server.simulator is None and not server.unseal_key:
        pytest.skip("a server in development mode may not be sealed: others use it, or its key is unknown")
    old = await put_key(store, path, "old")
    await stage_key(store, path, one, "new")
    server.admin("PUT", "sys/seal")
    error = await refusal(store.promote(path, one, expect_current=old.version))
    assert error.fault is StoreFault.UNAVAILABLE
    assert "sealed" in error.what
    checked = await store.check([path])
    assert "sealed" in checked[0].detail
    server.admin("POST", "sys/unseal", {"key": server.unseal_key or "x"})
    for _ in range(100):
        try:
            await store.promote(path, one, expect_current=old.version)
            break
        except StoreError as failure:
            assert failure.fault in {StoreFault.UNAVAILABLE, StoreFault.OUTCOME_UNKNOWN}  # noqa: PT017
    assert await keys_in(store, path) == (None, "key-new", "key-old")


async def test_a_lease_that_shrinks_is_left_for_a_new_login(server, tmp_path, path):
    import asyncio

    policy = server.policy("rotator", PATHS="bots")
    short = server.open(server.approle(tmp_path, policy, token_ttl="2s", token_max_ttl="4s"))
    for _ in range(10):  # five seconds, past the end of the first login
        assert await short.peek(path, Slot.CURRENT) is None
        await asyncio.sleep(0.5)
    await short.close()


async def test_a_token_that_is_revoked_in_the_middle_is_replaced(server, tmp_path, path, one):
    store = server.rotator(tmp_path, "bots")
    old = await put_key(store, path, "old")
    for step in (stage_key(store, path, one, "new"), store.promote(path, one, expect_current=old.version)):
        server.admin("POST", "auth/token/revoke", {"token": store._session._token.grant.token})
        await step
    assert await keys_in(store, path) == (None, "key-new", "key-old")
    await store.close()


def _signed(key: ec.EllipticCurvePrivateKey, claims: dict[str, object]) -> str:
    """Give a JSON web token, signed as ES256."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = json.dumps({"alg": "ES256", "typ": "JWT"}).encode()
    text = f"{part(head)}.{part(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


async def test_a_signed_token_of_another_issuer_logs_in(server, tmp_path, path):
    if server.simulator is not None:
        pytest.skip("the simulator checks no signatures")
    mount, key = f"jwt-{secrets.token_hex(3)}", ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    server.admin("POST", f"sys/auth/{mount}", {"type": "jwt"})
    server.admin("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [public.decode()]})
    role = {"role_type": "jwt", "bound_audiences": ["keyturn"], "user_claim": "sub"}
    policy = server.policy("rotator", PATHS="bots")
    server.admin("POST", f"auth/{mount}/role/kt", {**role, "token_policies": [policy]})
    now = int(time.time())
    file = tmp_path / "jwt"
    file.touch(mode=0o600)
    file.write_text(_signed(key, {"sub": "kt", "aud": "keyturn", "iat": now, "exp": now + 300}))
    by_jwt = server.open({"method": "jwt", "mount": mount, "role": "kt", "token": {"file": str(file)}})
    await put_key(by_jwt, path, "a")
    assert await key_in(by_jwt, path, Slot.CURRENT) == "key-a"
    server.admin("DELETE", f"sys/auth/{mount}")
    await by_jwt.close()


async def test_a_server_with_another_certificate_is_refused(server, tmp_path, path):
    if server.ca_file is None:
        pytest.skip("this server has no TLS")
    stranger = server.open(server.given(tmp_path, "not-a-real-token"), ca_file=None)
    error = await refusal(stranger.peek(path, Slot.CURRENT))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "ca_file" in error.todo
    await stranger.close()
