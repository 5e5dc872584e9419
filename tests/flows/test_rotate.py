"""One rotation under Prefect: what a run shows, how it ends, and what it never lets out."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

from flows.rotate import rotate_credential
from flows.sweep import sweep
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.engine.engine import Engine

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(240)]


def form(**more: Any) -> dict[str, Any]:
    return {"credential": "mm-bybit", "reason": "a test asks for it", "requested_by": "alice"} | more


async def rotate(**more: Any) -> State[Any]:
    return await rotate_credential(form(**more), return_state=True)


async def run_of(state: State[Any]) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(state.state_details.flow_run_id)


async def artifact(key: str) -> Any:
    async with get_client() as client:
        answer = await client._client.get(f"/artifacts/{key}/latest")
        answer.raise_for_status()
        return answer.json()["data"]


async def task_names(state: State[Any], wanted: int) -> list[str]:
    """Prefect writes the rows of tasks a moment after they ran."""
    names: list[str] = []
    for _ in range(100):
        async with get_client() as client:
            body = {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}}
            rows = (await client._client.post("/task_runs/filter", json=body)).json()
        names = [r["name"] for r in sorted(rows, key=lambda r: r["expected_start_time"])]
        if len(names) >= wanted:
            break
        await asyncio.sleep(0.1)
    return names


async def test_a_run_shows_every_step_by_its_name(house: Any) -> None:
    (before,) = house.live("mm-bybit")
    state = await rotate()
    assert (state.type, state.name) == ("COMPLETED", "Completed")
    assert house.live("mm-bybit") != [before]
    assert (await run_of(state)).name == "rotate mm-bybit"
    doing = ["open", "mint", "verify", "promote", "notify", "confirm", "revoke old key of"]
    assert await task_names(state, 8) == [f"{word} mm-bybit" for word in doing]


async def test_the_artifact_tells_the_story_and_shows_no_key_ref(house: Any) -> None:
    (before,) = house.live("mm-bybit")
    state = await rotate(reason="an | evil <b>reason</b> [x](http://x)")
    (after,) = house.live("mm-bybit")
    text = await artifact("rotation-mm-bybit")
    for word in ("| completed |", "| attempt claimed |", "| cutting over |", "old key dead", "for alice"):
        assert word in text
    assert "refused: the exchange knows no such key" in text
    assert r"an \| evil &lt;b>reason&lt;/b> \[x\](http://x)" in text
    assert before not in text + state.message
    assert after not in text + state.message


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"credential": "nobody-knows-this"}, "The chosen credential is not in the inventory."),
        ({"credential": "NotAName!"}, "credential: has characters that it must not have"),
        ({"credential": ["mm-bybit"]}, "credential: input should be a valid string"),
        ({"colour": "not-a-real-secret-1"}, "there is no field colour"),
        ({"Not-A-Real-Secret-1": "x"}, "there is a field that the form does not have"),
        ({"now": "not-a-real-secret-1"}, "now: input should be a valid boolean"),
        ({"reason": ""}, "reason: string should have at least 3 characters"),
        ({"requested_by": "al<script>ice"}, "requested_by: has characters that it must not have"),
        ({"reason": "old one: AGE-SECRET-KEY-1" + "Q" * 58}, "something in the form of a secret"),
        ({"reason": "it is pVQwQ1m2GnphVJLmMbqeuLM1hAiOuM"}, "something in the form of a secret"),
    ],
)
async def test_a_form_that_does_not_fit_meets_a_plain_refusal_that_quotes_nothing(
    house: Any, wrong: dict[str, Any], told: str
) -> None:
    state = await rotate(**wrong)
    assert (state.type, state.name) == ("FAILED", "Refused")
    assert told in state.message
    assert "Now: nothing was changed." in state.message
    for value in wrong.values():
        assert str(value) not in state.message or not value
    assert "Not-A-Real-Secret" not in state.message
    async with house.world() as world:
        assert await world.journal.latest() == []


async def test_answers_that_are_no_form_at_all_are_refused(house: Any) -> None:
    state = await rotate_credential("not-a-real-secret-1", return_state=True)  # type: ignore[arg-type]
    assert state.name == "Refused"
    assert "not-a-real-secret-1" not in state.message


async def test_a_credential_that_somebody_else_rotates_is_refused_and_theirs_goes_on(house: Any) -> None:
    async with house.world("cli:bob") as world:
        theirs = await Engine(world).open("mm-bybit", mode="manual", reason="bob was first")  # type: ignore[arg-type]
    state = await rotate()
    assert (state.type, state.name) == ("FAILED", "Refused")
    assert f"is being rotated already: rotation {theirs.id}, planned, by cli:bob" in state.message
    swept = await sweep(return_state=True)
    assert swept.message == "Swept: 1 completed."


async def test_a_run_that_is_started_again_goes_on_with_its_own_rotation(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash in the middle and a second start of the same run look like to the flow."""
    monkeypatch.setattr("flows.rotate.actor_of", lambda _run, who: f"prefect:the-same-run for {who}")
    async with house.world("prefect:the-same-run for alice") as world:
        begun = await Engine(world).open("mm-bybit", mode="manual", reason="the first start")  # type: ignore[arg-type]
    assert (await rotate()).name == "Completed"
    assert (await rotate()).name == "Completed"
    async with house.world() as world:
        assert [r.id for r in await world.journal.rotations("mm-bybit")] == [begun.id]


async def test_a_long_grace_ends_the_run_and_says_when_it_goes_on(house: Any) -> None:
    house.write(grace="24h")
    (before,) = house.live("mm-bybit")
    state = await rotate()
    assert (state.type, state.name) == ("COMPLETED", "Waiting")
    assert "waits for the end of the grace period. It goes on at 2" in state.message
    assert before in house.live("mm-bybit")
    assert len(house.live("mm-bybit")) == 2
    text = await artifact("rotation-mm-bybit")
    assert "* revoke the old key and prove that it is dead" in text


async def test_after_an_incident_the_old_key_dies_at_once_and_its_death_is_proved(house: Any) -> None:
    house.write(grace="24h")
    (before,) = house.live("mm-bybit")
    state = await rotate(now=True)
    assert state.name == "Completed"
    assert "is dead: a call signed with it was refused: the exchange knows no such key" in state.message
    assert before not in house.live("mm-bybit")


async def test_the_story_of_an_incident_names_the_consumers_that_prove_nothing(house: Any) -> None:
    house.write("mm-bybit", grace="24h", consumers="bot")
    text = house.file.read_text()
    house.file.write_text(text.replace("{kind: client}", "{kind: file, path: key.json, evidence: timed}"))
    assert (await rotate(now=True)).name == "Completed"
    assert "no proof comes from bot: calls fail there until" in await artifact("rotation-mm-bybit")


async def test_a_consumer_that_never_confirms_parks_the_rotation_and_the_run_names_it(house: Any) -> None:
    house.write(consumers="bot", confirm_within="1s")
    state = await rotate()
    assert (state.type, state.name) == ("FAILED", "Parked")
    assert "Not confirmed by bot" in state.message
    assert "nothing is revoked" in state.message
    assert "Do: " in state.message
    assert len(house.live("mm-bybit")) == 2


async def test_an_unconfirmed_consumer_is_waited_for_in_place_no_longer_than_the_patience(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.following.follow.__kwdefaults__", {"patience": 1.0})
    house.write(consumers="bot")
    state = await rotate()
    assert (state.type, state.name) == ("COMPLETED", "Waiting")
    assert "mm-bybit is cutting_over and waits for confirmation by bot" in state.message


async def test_a_key_that_can_do_more_is_revoked_again_and_the_run_says_so(house: Any) -> None:
    (before,) = house.live("mm-bybit")
    minted = house.sim.calls(match="create-sub-api")
    honest = house.sim.answer

    def generous(call: Any) -> Any:
        reply = honest(call)
        if "create-sub-api" in call.path:
            for key in house.sim.accounts["mm-bybit"].keys.values():
                if key.ref != before:
                    rules = key.rules.value
                    more = replace(rules, permissions=rules.permissions | {"Wallet.Withdraw"})
                    key.rules.change(more, 0, 0)
        return reply

    house.sim.answer = generous
    state = await rotate()
    assert minted == []
    assert state.type == "FAILED"
    assert state.name in {"Aborted", "Parked"}
    assert house.live("mm-bybit") == [before]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(house: Any) -> None:
    before = house.live("mm-bybit")
    state = await rotate(dry_run=True)
    assert (state.type, state.name) == ("COMPLETED", "Planned")
    for step in ("mint a key at bybit", "revoke the old key", "make it current"):
        assert step in state.message
    assert house.live("mm-bybit") == before
    assert "mint a key at bybit" in await artifact("rotation-plan-mm-bybit")
    async with house.world() as world:
        assert await world.journal.latest() == []


async def able_bot(house: Any) -> None:
    """Let the living key do more than is declared, as a person does in the exchange's console."""
    (ref,) = house.live("mm-bybit")
    key = house.sim.accounts["mm-bybit"].keys[ref]
    more = key.rules.value.permissions | {"ContractTrade.Order", "ContractTrade.Position"}
    key.rules.change(replace(key.rules.value, permissions=more), 0, 0)


async def test_a_dry_run_shows_what_the_new_key_would_lack(house: Any) -> None:
    await able_bot(house)
    state = await rotate(dry_run=True)
    assert "* `-` trade\\_derivatives" in state.message
    assert "Nothing is minted until" in state.message


async def test_a_loss_parks_the_run_and_the_form_that_names_it_goes_on(house: Any) -> None:
    await able_bot(house)
    (before,) = house.live("mm-bybit")
    parked = await rotate()
    assert (parked.type, parked.name) == ("FAILED", "Parked")
    assert "would lack what the living key has: trade_derivatives" in parked.message
    assert "keyturn resume mm-bybit --accept-loss" in parked.message
    assert house.live("mm-bybit") == [before]
    wrong = await rotate(accept_loss="trade_options")
    assert (wrong.name, house.live("mm-bybit")) == ("Parked", [before])
    done = await rotate(accept_loss=" trade_derivatives, 198.51.100.7")
    assert (done.type, done.name) == ("COMPLETED", "Completed")
    assert before not in house.live("mm-bybit")
    story = await artifact("rotation-mm-bybit")
    assert "| loss accepted | given up: 198.51.100.7, trade\\_derivatives |" in story
    assert "for alice" in story


async def test_a_form_can_accept_at_the_beginning(house: Any) -> None:
    await able_bot(house)
    state = await rotate(accept_loss="trade_derivatives")
    assert (state.type, state.name) == ("COMPLETED", "Completed")


async def test_the_sweep_parks_a_loss_and_says_the_command_that_leads_on(house: Any) -> None:
    house.write("mm-bybit")
    await able_bot(house)
    await rotate()
    async with house.world() as world:
        opened = await world.journal.open_rotation("mm-bybit")
        await Engine(world).resume("mm-bybit")
    swept = await sweep({}, return_state=True)
    assert (swept.type, swept.name) == ("FAILED", "Trouble")
    assert opened.parked_why in swept.message
    assert "keyturn resume mm-bybit --accept-loss" in swept.message


class LeakyError(Exception):
    """What a library raises: its text quotes the request."""


@pytest.mark.parametrize("where", ["engine", "world"])
async def test_an_error_that_nobody_expected_leaves_only_its_kind_and_place(
    house: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async def leak(*_args: Any, **_more: Any) -> None:
        try:
            raise LeakyError("inner not-a-real-secret-1")
        except LeakyError as inner:
            raise LeakyError("POST ?signature=not-a-real-secret-1") from inner

    if where == "engine":
        monkeypatch.setattr(Engine, "step", leak)
    else:
        monkeypatch.setattr("keyturn.journal.SqlJournal.open_url", leak)
    state = await rotate()
    assert (state.type, state.name) == ("FAILED", "Failed")
    assert "LeakyError, at test_rotate.py:" in state.message
    assert "not-a-real-secret" not in state.message + caplog.text
    async with get_client() as client:
        logs = await client.read_logs()
    assert not [entry for entry in logs if "not-a-real-secret" in entry.message]
    with pytest.raises(Exception, match="LeakyError") as raised:
        await state.result()
    assert b"not-a-real-secret" not in pickle.dumps(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


async def test_a_store_that_is_down_is_told_in_its_own_words(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_args: Any) -> None:
        raise StoreError(StoreFault.DENIED, "The store does not let keyturn in.", todo="Mend its rights.")

    monkeypatch.setattr("keyturn.stores.age_files.AgeFilesStore.claim", down)
    state = await rotate()
    assert (state.type, state.name) == ("FAILED", "Parked")
    assert "The store does not let keyturn in." in state.message
    assert "Do: Mend its rights." in state.message


async def test_an_inventory_that_cannot_be_read_is_told_with_its_line(house: Any) -> None:
    house.file.write_text("version: 1\ncolour: red\n")
    state = await rotate()
    assert state.type == "FAILED"
    assert "keyturn.yaml" in state.message
    assert "colour" in state.message


async def test_the_form_takes_a_persons_word_for_a_bot_that_cannot_confirm(house: Any) -> None:
    house.write("mm-bybit", consumers="bot", confirm_within="1s")
    (before,) = house.live("mm-bybit")
    parked = await rotate()
    assert (parked.type, parked.name) == ("FAILED", "Parked")
    wrong = await rotate(confirmed="other")
    assert (wrong.type, wrong.name) == ("FAILED", "Refused")
    assert before in house.live("mm-bybit")
    done = await rotate(confirmed=" bot")
    assert done.type == "COMPLETED"
    assert before not in house.live("mm-bybit")
    async with house.world() as world:
        (latest,) = await world.journal.rotations("mm-bybit", limit=1)
        (proof,) = await world.journal.confirmations(latest.id)
    assert (proof.evidence, proof.detail) == ("person", "by alice: a test asks for it")
