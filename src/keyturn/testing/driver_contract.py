"""The contract of the exchange port, as a pytest suite that every driver runs, the fake too.

Subclass it and give the fixture `bench`, an exchange that the test owns and can break:

    class TestMyDriver(ExchangeDriverContract):
        @pytest.fixture
        async def bench(self): ...
"""
# Test methods say by their name what they prove, and assert.
# ruff: noqa: D102

from __future__ import annotations

import logging
import pickle
import traceback
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeySpec, Permission, Revocation
from keyturn.domain.labels import Attempt, new_rotation_id, parse_label
from keyturn.domain.material import SecretMaterial
from keyturn.ports.exchange import Caller, ExchangeDriver, KeyHandle
from keyturn.testing.driver_contract_support import (
    SKEW_SECONDS,
    DriverBench,
    Mishap,
    count,
    find,
    handle_of,
    mint,
    perform,
    refused,
    relabelled,
    secrets_of,
)

# A venue that does not say which of the two it means answers both in one way.
UNKNOWN = (ExchangeFault.UNKNOWN_KEY, ExchangeFault.UNCLEAR_REFUSAL)
REFUSED = (ExchangeFault.KEY_REFUSED, ExchangeFault.UNCLEAR_REFUSAL)


class ExchangeDriverContract:
    """What every driver does. Give the fixture `bench`."""

    __test__ = False

    def __init_subclass__(cls) -> None:
        """Let pytest collect the subclasses only."""
        cls.__test__ = True

    @pytest.fixture
    def driver(self, bench: DriverBench) -> ExchangeDriver:
        return bench.driver

    @pytest.fixture
    def spec(self, bench: DriverBench) -> KeySpec:
        """Give what a trading key of the venue is like, bound to where the test calls from."""
        known = bench.driver.manifest.permissions
        trading = [p for p in (Permission.TRADE, Permission.TRADE_SPOT) if p in known][:1]
        return KeySpec(
            label=Attempt(new_rotation_id(), 1).label(bench.driver.manifest.label.separator),
            permissions=frozenset({Permission.READ, *trading}),
            ip_allowlist=frozenset({bench.home}),
            subaccount=bench.subaccount,
        )

    # -- minting and what is told about it ---------------------------------------------------------

    async def test_a_minted_key_is_listed_with_its_label(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        listed = await find(bench, minted.key_ref)
        assert listed is not None
        assert listed.label == spec.label
        assert parse_label(listed.label) is not None
        assert listed.grants == bench.driver.grants_for(spec.permissions)
        assert listed.ip_allowlist == spec.ip_allowlist
        assert listed.handle == minted.handle
        assert listed.enabled

    async def test_a_minted_key_tells_exactly_what_was_asked_for(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted = await mint(bench, spec)
        facts = await bench.driver.introspect(Caller(minted.material))
        assert facts.key_ref == minted.key_ref == minted.material.key_ref
        assert facts.grants == bench.driver.grants_for(spec.permissions)
        assert spec.permissions <= facts.permissions
        assert Permission.WITHDRAW not in facts.permissions
        if facts.ip_allowlist is not None:
            assert facts.ip_allowlist == spec.ip_allowlist
        await bench.driver.private_read(Caller(minted.material))

    async def test_two_keys_of_one_account_name_the_same_owner(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        first = await mint(bench, spec)
        second = await mint(bench, relabelled(bench, spec))
        facts = [await bench.driver.introspect(Caller(key.material)) for key in (first, second)]
        assert facts[0].account_uid
        assert facts[0].account_uid == facts[1].account_uid

    async def test_every_permission_of_the_manifest_can_be_minted_and_reads_back(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        for permission in bench.driver.manifest.permissions:
            wanted = relabelled(bench, replace(spec, permissions=frozenset({permission})))
            minted = await mint(bench, wanted)
            facts = await bench.driver.introspect(Caller(minted.material))
            assert facts.grants == bench.driver.grants_for(wanted.permissions), permission
            assert permission in facts.permissions
            await bench.driver.revoke_key(bench.manager, handle_of(bench, minted))

    async def test_a_broader_key_shows_as_a_difference(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        facts = await bench.driver.introspect(Caller(minted.material))
        assert facts.grants != bench.driver.grants_for(frozenset({Permission.READ}))

    async def test_a_permission_without_a_word_is_not_supported(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        missing = set(Permission) - bench.driver.manifest.permissions.keys()
        for permission in missing:
            wanted = replace(spec, permissions=frozenset({permission}))
            await refused(bench.driver.create_key(bench.manager, wanted), ExchangeFault.NOT_SUPPORTED)
        assert len(bench.truth()) == await count(bench)

    async def test_a_key_without_addresses_is_listed_as_unbound(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted = await mint(bench, replace(spec, ip_allowlist=frozenset()))
        listed = await find(bench, minted.key_ref)
        assert listed is not None
        assert listed.ip_allowlist == frozenset()

    async def test_a_listing_shows_every_page(self, bench: DriverBench, spec: KeySpec) -> None:
        full = min(bench.driver.manifest.max_keys or 25, 25) - len(bench.truth())
        refs = {(await mint(bench, relabelled(bench, spec))).key_ref for _ in range(full)}
        listed = await bench.driver.list_keys(bench.manager, bench.subaccount)
        assert refs <= {facts.key_ref for facts in listed}
        assert len(listed) == len(bench.truth())

    async def test_a_label_that_does_not_fit_is_refused_unsent(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        before = dict(bench.truth())
        wanted = replace(spec, label="x" * (bench.driver.manifest.label.max_length + 1))
        await refused(bench.driver.create_key(bench.manager, wanted), ExchangeFault.REJECTED)
        assert bench.truth() == before

    # -- changing and ending -----------------------------------------------------------------------

    async def test_an_edit_changes_rights_and_addresses_and_nothing_else(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted, other = await mint(bench, spec), await mint(bench, relabelled(bench, spec))
        wanted = replace(
            spec,
            permissions=frozenset({Permission.READ}),
            ip_allowlist=frozenset({bench.home, bench.elsewhere}),
        )
        await bench.driver.edit_key(bench.manager, handle_of(bench, minted), wanted)
        listed, untouched = await find(bench, minted.key_ref), await find(bench, other.key_ref)
        assert listed is not None
        assert untouched is not None
        assert listed.grants == bench.driver.grants_for(wanted.permissions)
        assert listed.ip_allowlist == wanted.ip_allowlist
        assert listed.label == spec.label
        assert untouched.grants == bench.driver.grants_for(spec.permissions)
        assert untouched.ip_allowlist == spec.ip_allowlist
        await bench.driver.private_read(Caller(minted.material))

    async def test_an_edit_can_take_all_addresses_off(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        wanted = replace(spec, ip_allowlist=frozenset())
        await bench.driver.edit_key(bench.manager, handle_of(bench, minted), wanted)
        listed = await find(bench, minted.key_ref)
        assert listed is not None
        assert listed.ip_allowlist == frozenset()

    async def test_revoking_one_key_leaves_the_others(self, bench: DriverBench, spec: KeySpec) -> None:
        first, second = await mint(bench, spec), await mint(bench, relabelled(bench, spec))
        before = set(bench.truth())
        ended = await bench.driver.revoke_key(bench.manager, handle_of(bench, first))
        assert ended is Revocation.REVOKED
        assert set(bench.truth()) == before - {first.key_ref}
        await bench.driver.private_read(Caller(second.material))

    async def test_revoking_twice_says_that_the_key_is_gone(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        for handle in (handle_of(bench, minted), KeyHandle(minted.key_ref, subaccount=bench.subaccount)):
            await bench.driver.revoke_key(bench.manager, handle)
            again = await bench.driver.revoke_key(bench.manager, handle)
            assert again is Revocation.ALREADY_ABSENT

    async def test_a_key_is_revoked_by_its_ref_alone(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        handle = KeyHandle(minted.key_ref, subaccount=bench.subaccount)
        assert await bench.driver.revoke_key(bench.manager, handle) is Revocation.REVOKED
        assert minted.key_ref not in bench.truth()

    async def test_a_revoked_key_is_unknown(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        await bench.driver.revoke_key(bench.manager, handle_of(bench, minted))
        caller = Caller(minted.material)
        await refused(bench.driver.introspect(caller), *UNKNOWN)
        await refused(bench.driver.private_read(caller), *UNKNOWN)

    async def test_editing_an_absent_key_is_rejected(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        await bench.driver.revoke_key(bench.manager, handle_of(bench, minted))
        await refused(
            bench.driver.edit_key(bench.manager, handle_of(bench, minted), spec), ExchangeFault.REJECTED
        )

    # -- three refusals that are not one -----------------------------------------------------------

    async def test_a_key_that_never_was_is_unknown(self, bench: DriverBench) -> None:
        stranger = Caller(SecretMaterial("not-a-real-key", "not-a-real-secret", "not-a-real-pass"))
        await refused(bench.driver.introspect(stranger), *UNKNOWN)
        await refused(bench.driver.private_read(stranger), *UNKNOWN)
        await refused(bench.driver.list_keys(stranger, bench.subaccount), *UNKNOWN)

    async def test_a_wrong_secret_does_not_make_a_key_unknown(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted = await mint(bench, spec)
        values = minted.material.reveal()
        forged = SecretMaterial(values["api_key"], "not-a-real-secret", values.get("passphrase"))
        await refused(bench.driver.introspect(Caller(forged)), *REFUSED)
        await refused(bench.driver.private_read(Caller(forged)), *REFUSED)

    async def test_a_wrong_address_does_not_make_a_key_unknown(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted = await mint(bench, replace(spec, ip_allowlist=frozenset({bench.elsewhere})))
        caller = Caller(minted.material)
        await refused(bench.driver.introspect(caller), ExchangeFault.WRONG_IP)
        await refused(bench.driver.private_read(caller), ExchangeFault.WRONG_IP)

    async def test_a_call_takes_the_egress_proxy_of_its_caller(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        minted = await mint(bench, replace(spec, ip_allowlist=frozenset({bench.elsewhere})))
        through = Caller(minted.material, bench.egress_proxy)
        await bench.driver.introspect(through)
        await bench.driver.private_read(through)
        await refused(bench.driver.private_read(Caller(minted.material)), ExchangeFault.WRONG_IP)

    async def test_a_missing_right_is_neither(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        handle, weak, driver = handle_of(bench, minted), bench.powerless, bench.driver
        for call in (
            driver.create_key(weak, relabelled(bench, spec)),
            driver.edit_key(weak, handle, spec),
            driver.revoke_key(weak, handle),
        ):
            await refused(call, ExchangeFault.MISSING_PERMISSION)
        assert minted.key_ref in bench.truth()

    # -- what venues and networks do ---------------------------------------------------------------

    async def test_a_full_account_is_a_quota_and_nothing_is_deleted(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        before = dict(bench.truth())
        bench.arm(Mishap.QUOTA, "create_key")
        await refused(bench.driver.create_key(bench.manager, spec), ExchangeFault.KEY_QUOTA)
        assert bench.truth() == before

    @pytest.mark.parametrize("method", ["create_key", "edit_key", "revoke_key", "list_keys", "introspect"])
    async def test_a_rate_limit_says_that_nothing_was_done(
        self, bench: DriverBench, spec: KeySpec, method: str
    ) -> None:
        minted = await mint(bench, spec)
        before = dict(bench.truth())
        bench.arm(Mishap.RATE_LIMITED, method)
        await refused(perform(bench, method, minted, spec), ExchangeFault.RATE_LIMITED)
        assert bench.truth() == before

    @pytest.mark.parametrize("mishap", [Mishap.SERVER_ERROR, Mishap.CUT_BEFORE])
    @pytest.mark.parametrize("method", ["list_keys", "introspect", "private_read"])
    async def test_a_read_without_an_answer_means_that_the_venue_is_down(
        self, bench: DriverBench, spec: KeySpec, method: str, mishap: Mishap
    ) -> None:
        minted = await mint(bench, spec)
        bench.arm(mishap, method)
        await refused(perform(bench, method, minted, spec), ExchangeFault.VENUE_DOWN)

    @pytest.mark.parametrize("mishap", [Mishap.SERVER_ERROR, Mishap.CUT_BEFORE])
    @pytest.mark.parametrize("method", ["create_key", "edit_key", "revoke_key"])
    async def test_a_change_without_an_answer_is_unknown_and_not_repeated(
        self, bench: DriverBench, spec: KeySpec, method: str, mishap: Mishap
    ) -> None:
        minted = await mint(bench, spec)
        before = dict(bench.truth())
        bench.arm(mishap, method)
        await refused(perform(bench, method, minted, spec), ExchangeFault.OUTCOME_UNKNOWN)
        assert bench.truth() == before

    @pytest.mark.parametrize("mishap", [Mishap.SERVER_ERROR_AFTER, Mishap.CUT_AFTER])
    async def test_a_create_whose_answer_is_lost_made_one_key_that_its_label_finds(
        self, bench: DriverBench, spec: KeySpec, mishap: Mishap
    ) -> None:
        await bench.driver.private_read(bench.powerless)
        before = set(bench.truth())
        bench.arm(mishap, "create_key")
        await refused(bench.driver.create_key(bench.manager, spec), ExchangeFault.OUTCOME_UNKNOWN)
        made = set(bench.truth()) - before
        assert len(made) == 1
        listed = await bench.driver.list_keys(bench.manager, bench.subaccount)
        assert [facts.key_ref for facts in listed if facts.label == spec.label] == [*made]

    @pytest.mark.parametrize("mishap", [Mishap.SERVER_ERROR_AFTER, Mishap.CUT_AFTER])
    async def test_a_revoke_whose_answer_is_lost_is_unknown_and_then_absent(
        self, bench: DriverBench, spec: KeySpec, mishap: Mishap
    ) -> None:
        minted = await mint(bench, spec)
        bench.arm(mishap, "revoke_key")
        handle = handle_of(bench, minted)
        await refused(bench.driver.revoke_key(bench.manager, handle), ExchangeFault.OUTCOME_UNKNOWN)
        assert minted.key_ref not in bench.truth()
        assert await bench.driver.revoke_key(bench.manager, handle) is Revocation.ALREADY_ABSENT

    async def test_an_unlisted_code_leaves_a_create_open_and_its_label_finds_the_key(
        self, bench: DriverBench, spec: KeySpec
    ) -> None:
        await bench.driver.private_read(bench.powerless)
        before = set(bench.truth())
        bench.arm(Mishap.UNLISTED, "create_key")
        await refused(bench.driver.create_key(bench.manager, spec), ExchangeFault.OUTCOME_UNKNOWN)
        made = set(bench.truth()) - before
        listed = await bench.driver.list_keys(bench.manager, bench.subaccount)
        assert [facts.key_ref for facts in listed if facts.label == spec.label] == [*made]

    async def test_an_unlisted_code_leaves_an_edit_open(self, bench: DriverBench, spec: KeySpec) -> None:
        minted = await mint(bench, spec)
        bench.arm(Mishap.UNLISTED, "edit_key")
        await refused(perform(bench, "edit_key", minted, spec), ExchangeFault.OUTCOME_UNKNOWN)

    @pytest.mark.parametrize("method", ["list_keys", "introspect", "private_read"])
    async def test_an_unlisted_code_rejects_a_read(
        self, bench: DriverBench, spec: KeySpec, method: str
    ) -> None:
        minted = await mint(bench, spec)
        bench.arm(Mishap.UNLISTED, method)
        await refused(perform(bench, method, minted, spec), ExchangeFault.REJECTED)

    async def test_a_key_that_cannot_sign_is_a_fault_of_the_key_here(self, bench: DriverBench) -> None:
        broken = Caller(SecretMaterial("not-a-real-key", "not-\udce9-whole", "not-a-real-pass"))
        for call in (bench.driver.introspect(broken), bench.driver.private_read(broken)):
            error = await refused(call, ExchangeFault.CANNOT_SIGN)
            assert "again" in error.todo

    @pytest.mark.parametrize("seconds", [SKEW_SECONDS, -SKEW_SECONDS])
    async def test_a_clock_that_is_off_is_named_with_by_how_much(
        self, bench: DriverBench, spec: KeySpec, seconds: float
    ) -> None:
        minted = await mint(bench, spec)
        bench.skew(seconds)
        for call in (
            bench.driver.introspect(Caller(minted.material)),
            bench.driver.private_read(Caller(minted.material)),
            bench.driver.create_key(bench.manager, relabelled(bench, spec)),
        ):
            error = await refused(call, ExchangeFault.CLOCK_SKEW)
            assert f"{abs(seconds):.0f}." in error.what or f"{abs(seconds) - 1:.0f}." in error.what
        told = await bench.driver.server_time()
        assert abs((told - datetime.now(UTC)).total_seconds() - seconds) < 5

    # -- secrets -----------------------------------------------------------------------------------

    async def test_no_secret_is_in_a_log_an_error_or_a_repr(
        self, bench: DriverBench, spec: KeySpec, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        minted = await mint(bench, spec)
        caller = Caller(minted.material)
        shown = [repr(minted), str(minted), repr(caller), repr(bench.driver), repr(vars(bench.driver))]
        shown.append(repr(await bench.driver.introspect(caller)))
        shown.append(repr(await bench.driver.list_keys(bench.manager, bench.subaccount)))
        secret = [*secrets_of(bench.manager.material), *secrets_of(minted.material)]
        for mishap in (Mishap.CUT_AFTER, Mishap.SERVER_ERROR_AFTER, Mishap.RATE_LIMITED, Mishap.QUOTA):
            bench.arm(mishap, "create_key")
            with pytest.raises(ExchangeError) as caught:
                await bench.driver.create_key(bench.manager, relabelled(bench, spec))
            shown += [*map(str, caught.value.args), caught.value.diagnostics(), repr(caught.value)]
            shown.append("".join(traceback.format_exception(caught.value)))
            shown.append(repr(pickle.dumps(vars(caught.value))))
        shown += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
        for value in secret:
            assert not any(value in text for text in shown)
