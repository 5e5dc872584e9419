"""The story of a rotation and the result of a sweep, as Prefect artifacts. Built from the journal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.logging import get_run_logger

from flows.ending import moment
from keyturn.domain.printable import printable
from keyturn.domain.rotation import State
from keyturn.engine.compare import Compared
from keyturn.engine.plan import UNDOING, PlanLine
from tasks.boundary import plain
from tasks.rotation import Story, read_story
from tasks.sweep import ItemResult
from tasks.view import RotationView

_NOT_FOR_KEYS = re.compile(r"[^a-z0-9]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]|!#~])")

# What is left to do, in the order in which it happens.
_TO_COME: tuple[tuple[State, str], ...] = (
    (State.PLANNED, "mint the new key and store it"),
    (State.MINTING, "find out what became of the key that was being minted"),
    (State.STAGED, "prove what the new key may do"),
    (State.VERIFIED, "make it current"),
    (State.PROMOTED, "tell the consumers"),
    (State.CUTTING_OVER, "wait for their confirmations"),
    (State.GRACE, "wait for the end of the grace period"),
    (State.REVOKING, "revoke the old key and prove that it is dead"),
)


def artifact_key(credential: str) -> str:
    """Give the key under which a credential's story is kept; Prefect allows a-z, 0-9 and dashes."""
    return f"rotation-{_NOT_FOR_KEYS.sub('-', credential).strip('-')}"


def escaped(text: str) -> str:
    """Make a text harmless inside a cell of a Markdown table."""
    flat = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\1", flat)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(head), ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _words(name: str) -> str:
    return name.replace("_", " ")


def story_markdown(view: RotationView, story: Story) -> str:
    """Tell a rotation: the keys, every state with its time, the proofs, and what is still to come."""
    facts = [
        ("state", _words(view.state)),
        ("rotation", view.rotation_id),
        ("old key", view.old_fingerprint or "none"),
        ("new key", view.new_fingerprint or "not yet"),
        ("why", f"{story.mode}: {story.reason}"),
        ("by", story.actor),
    ]
    if story.unproved and view.old_fingerprint and view.state not in {State.ABORTED, *UNDOING}:
        facts.append(("beware", story.unproved))
    lines = [f"# {view.credential}", "", *_table(("what", "value"), facts)]
    events = [(moment(e.at), _words(e.state), _words(e.event), e.note, e.actor) for e in story.events]
    lines += ["## What happened", "", *_table(("time", "state", "event", "note", "by"), events)]
    proofs = [(c.consumer, c.evidence, c.fingerprint, moment(c.at), c.detail) for c in story.confirmations]
    if proofs:
        lines += ["## Proofs of the consumers", ""]
        lines += _table(("consumer", "evidence", "key", "time", "detail"), proofs)
    lines += ["## Still to come", "", *(f"* {escaped(step)}" for step in _to_come(view))]
    return "\n".join(lines)


def _to_come(view: RotationView) -> list[str]:
    if view.state is State.COMPLETED:
        return [f"nothing: the old key is dead ({view.death_proof})" if view.death_proof else "nothing"]
    if view.state is State.ABORTED:
        return [f"nothing: it was undone: {view.abort_reason}"]
    if view.state is State.PARKED:
        return [f"a person is needed: {view.parked_why}", view.parked_todo]
    if view.state in UNDOING:
        return [UNDOING[view.state]]
    states = [state for state, _ in _TO_COME]
    steps = [text for _, text in _TO_COME[states.index(view.state) :]]
    if view.grace_until:
        steps = [f"{s}: {moment(view.grace_until)}" if s.endswith("grace period") else s for s in steps]
    if view.rests and view.waiting_for:
        steps.insert(0, f"now it waits for {view.waiting_for}, until {moment(view.wake_at)}")
    return steps


async def publish_story(view: RotationView) -> None:
    """Write the story of a rotation as an artifact; a failure to do so is logged and changes nothing."""
    try:
        story = await read_story(view.rotation_id)
        await acreate_markdown_artifact(
            story_markdown(view, story),
            key=artifact_key(view.credential),
            description=f"The rotation of {view.credential}: {view.state}",
        )
    except Exception as error:  # noqa: BLE001 - a report must never stop what it reports
        get_run_logger().warning("The story of %s could not be written: %s", view.credential, plain(error))


async def publish_plan(line: PlanLine) -> str:
    """Write what a rotation would do as an artifact; give the text."""
    lines = [f"# {line.credential}: what a rotation would do", "", *_difference(line.compared), ""]
    lines += [f"{n}. {escaped(step)}" for n, step in enumerate(line.steps, 1)]
    lines += ["", f"Due {moment(line.due.at)}: {escaped(line.due.why)}"]
    if line.obstacles:
        lines += ["", "## In the way", "", *(f"* {escaped(each)}" for each in line.obstacles)]
    text = "\n".join(lines)
    await acreate_markdown_artifact(text, key=artifact_key(f"plan-{line.credential}"))
    return text


def _difference(told: Compared) -> list[str]:
    """Tell how the new key differs from the living one."""
    found = told.difference
    if found is None:
        return [f"Nothing is compared: {escaped(told.missing)}."]
    lines = [f"The living key and the new one, by {told.told_by}:", ""]
    lines += [f"* `-` {escaped(name)}" for name in found.removed]
    lines += [f"* `+` {escaped(name)}" for name in found.added]
    lines += [f"* `~` {escaped(f'{x.what} {x.before} -> {x.after}')}" for x in found.changed]
    lines += ["* no difference"] if found.is_empty else []
    return [*lines, *(f"* note: {escaped(text)}" for text in told.may_add)]


async def publish_sweep(results: Sequence[ItemResult]) -> None:
    """Write what a sweep did as an artifact; a failure to do so is logged and changes nothing."""
    try:
        await acreate_table_artifact(
            [_sweep_row(result) for result in results], key="sweep", description="What the last sweep did"
        )
    except Exception as error:  # noqa: BLE001 - a report must never stop what it reports
        get_run_logger().warning("The table of the sweep could not be written: %s", plain(error))


def _sweep_row(result: ItemResult) -> dict[str, Any]:
    view = result.rotation
    return {
        "credential": result.credential,
        "done": f"{result.kind}",
        "because": result.why,
        "state": f"{view.state}" if view else "",
        "waits for": (view.parked_why or view.waiting_for) if view else result.note,
        "until": moment(view.wake_at) if view else "",
        "old key": (view.old_fingerprint or "") if view else "",
        "new key": (view.new_fingerprint or "") if view else "",
        "error": result.error or result.todo,
    }
