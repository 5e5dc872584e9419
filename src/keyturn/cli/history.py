"""`keyturn history`: the story of a credential, from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import session, shapes
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out, clock
from keyturn.domain.errors import RefusedError

if TYPE_CHECKING:
    from keyturn.domain.evidence import Confirmation
    from keyturn.domain.rotation import KeyRecord, Rotation
    from keyturn.ports.journal import JournaledEvent
    from keyturn.settings import LoadedInventory

# What of an event's data people read; the rest stands in --json.
_TOLD = (
    "new_fingerprint",
    "old_fingerprint",
    "grace_until",
    "wake_at",
    "problem",
    "abort_reason",
    "parked_why",
    "parked_todo",
    "death_proof",
)


@dataclass(frozen=True, slots=True)
class Story:
    """What the journal knows of a credential, and of one of its rotations in full."""

    rotations: Sequence[Rotation]
    told: Rotation | None
    events: Sequence[JournaledEvent]
    confirmations: Sequence[Confirmation]
    keys: Sequence[KeyRecord]


def history(
    out: Out,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A credential, past ones too.", show_default=False)
    ],
    rotation: Annotated[
        str | None,
        typer.Option("--rotation", help="Tell this rotation. Default: the newest.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rotations to list.")] = 10,
    inventory: InventoryPath = None,
) -> None:
    """Tell a credential's rotations, the steps of one of them, the proofs, and every key's fate."""
    loaded = session.load(inventory)
    story = session.run(_read(loaded, name, rotation, limit))
    out.document(
        {
            "credential": name,
            "rotations": [shapes.rotation(r) for r in story.rotations],
            "story": {
                "rotation_id": story.told.id if story.told else None,
                "events": [shapes.event(e) for e in story.events],
                "confirmations": [shapes.confirmation(c) for c in story.confirmations],
            },
            "keys": [shapes.key(k) for k in story.keys],
        }
    )
    _tell(out, name, story)


async def _read(loaded: LoadedInventory, name: str, rotation_id: str | None, limit: int) -> Story:
    async with session.reading_journal(loaded) as journal:
        rotations = await journal.rotations(name, limit=limit)
        keys = await journal.keys(name)
        if not rotations and not keys:
            session.known_credential(loaded, name)
        told = rotations[0] if rotations else None
        if rotation_id is not None:
            told = await journal.get(rotation_id)
            if told is None or told.credential != name:
                raise RefusedError(
                    f"{name} has no rotation {rotation_id}.", todo=f"keyturn history {name} lists them."
                )
        events = await journal.events(told.id) if told else ()
        proofs = await journal.confirmations(told.id) if told else ()
        return Story(rotations, told, events, proofs, keys)


def _tell(out: Out, name: str, story: Story) -> None:
    if not story.rotations:
        out.line(f"{name} has not been rotated by keyturn yet.")
    else:
        out.table(
            ("ROTATION", "BEGUN", "STATE", "MODE", "BY", "OLD KEY", "NEW KEY", "REASON"),
            [
                (
                    r.id,
                    clock(r.created_at),
                    str(r.state),
                    str(r.mode),
                    r.actor,
                    r.old_fingerprint or "-",
                    r.new_fingerprint or "-",
                    r.reason,
                )
                for r in story.rotations
            ],
        )
    if story.told:
        out.line()
        out.line(f"Rotation {story.told.id}:", "bold")
        out.table(
            ("", "AT", "WHAT", "BY", "NOTE"),
            [
                (
                    str(e.seq),
                    e.event.at.strftime("%Y-%m-%d %H:%M:%SZ"),
                    str(e.event.type),
                    e.event.actor,
                    _note(e),
                )
                for e in story.events
            ],
        )
    for proof in story.confirmations:
        out.line(
            f"Proof by {proof.consumer}, {clock(proof.at)}: {proof.evidence} of {proof.fingerprint}"
            + (f"; {proof.detail}" if proof.detail else ""),
            "green",
        )
    if story.keys:
        out.line()
        out.table(
            ("KEY", "ORIGIN", "FATE", "RECORDED", "ROTATION"),
            [
                (
                    k.fingerprint or k.key_id,
                    str(k.origin),
                    str(k.fate),
                    clock(k.recorded_at),
                    k.rotation_id or "-",
                )
                for k in story.keys
            ],
        )


def _note(entry: JournaledEvent) -> str:
    data = shapes.event(entry)["data"]
    told = [f"{name.replace('_', ' ')}: {data[name]}" for name in _TOLD if data.get(name)]
    note = str(entry.event.data.get("note", ""))
    return "; ".join([note, *told] if note else told)
