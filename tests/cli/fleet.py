"""A fleet on disk: an inventory of many credentials, and a journal in which each was rotated once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keyturn.domain import machine
from keyturn.domain.labels import fingerprint
from keyturn.domain.rotation import Event, EventType, Fate, KeyRecord, Mode, Origin, Rotation, State
from keyturn.journal import SqlJournal
from keyturn.ports.journal import Change, Journal

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def name_of(index: int) -> str:
    return f"bot-{index:04}"


def inventory_text(count: int) -> str:
    lines = [
        "version: 1",
        "journal: {url: 'sqlite:///journal.db'}",
        "stores:",
        "  local: {kind: age_files, path: store, key: {file: age.key}}",
        "accounts:",
        "  main: {exchange: bybit, manager: {store: local, path: managers/main}}",
        "policies: {standard: {rotate_every: 60d, grace: 24h}}",
        "defaults: {store: local, policy: standard}",
        "credentials:",
    ]
    for index in range(count):
        name = name_of(index)
        lines += [
            f"  {name}:",
            "    account: main",
            f'    subaccount: "{100000 + index}"',
            "    permissions: [read, trade_spot]",
            f"    ip_allowlist: [198.51.{100 + index // 250}.{1 + index % 250}]",
            f"    path: bots/{name}",
            f"    consumers: [{name}]",
        ]
    lines.append("consumers:")
    lines += [f"  {name_of(index)}: {{kind: client, mailbox: mail}}" for index in range(count)]
    return "\n".join(lines) + "\n"


def rotation_id(index: int) -> str:
    text = ""
    for _ in range(10):
        text, index = _ALPHABET[index % 32] + text, index // 32
    return text


def story(index: int, begun: datetime, salt: bytes) -> tuple[Rotation, Event, list[Event], KeyRecord]:
    """A rotation from PLANNED to COMPLETED, as the engine journals it."""
    rid, name = rotation_id(index), name_of(index)
    opened = Rotation(
        id=rid, credential=name, exchange="bybit", account="main", subaccount=str(100000 + index),
        state=State.PLANNED, seq=0, mode=Mode.SCHEDULED, reason="60d since the last rotation",
        actor="cli:test", created_at=begun, updated_at=begun, grace_seconds=86400.0, confirm_seconds=7200.0,
    )  # fmt: skip
    old_ref, new_ref = f"old-{index}", f"new-{index}"
    print_ = fingerprint(salt, "bybit", new_ref)
    at = [begun + timedelta(seconds=n) for n in range(12)]
    grace = begun + timedelta(hours=24)

    def event(n: int, kind: EventType, **data: object) -> Event:
        return machine.event(kind, at[n], "cli:test", **data)

    kinds = EventType
    events = [
        event(1, kinds.ATTEMPT_CLAIMED, attempt=1, old_ref=old_ref, old_version="v1"),
        event(2, kinds.STAGED, new_ref=new_ref, new_fingerprint=print_, new_version="v2"),
        event(3, kinds.VERIFIED, account_uid=str(100000 + index)),
        event(4, kinds.PROMOTED, promoted_at=at[4], new_version="v2", old_version="v1"),
        event(5, kinds.NOTICES_SENT, noticed_at=at[5], confirm_by=at[5] + timedelta(hours=2)),
        event(6, kinds.CUTOVER_CONFIRMED, confirmed_at=at[6], grace_until=grace, wake_at=grace),
        event(7, kinds.REVOKE_INTENDED, revoke_at=at[7]),
        event(8, kinds.OLD_KEY_DEAD, dead_at=at[8], death_proof="a call signed with it was refused"),
        event(9, kinds.COMPLETED),
    ]  # fmt: skip
    key = KeyRecord(
        key_id=f"{rid}-1", credential=name, exchange="bybit", account="main", subaccount=None,
        origin=Origin.MINTED, fate=Fate.LIVE, recorded_at=begun, rotation_id=rid, key_ref=new_ref,
        fingerprint=print_,
    )  # fmt: skip
    return opened, machine.opened(opened, "cli:test"), events, key


async def journal_one(journal: Journal, index: int, begun: datetime, *, upto: int | None = None) -> Rotation:
    """Write one credential's rotation; `upto` events of it, None for all."""
    rotation, first, events, key = story(index, begun, await journal.salt())
    await journal.open(rotation, first)
    after = rotation
    for each in events[:upto]:
        after = machine.apply(after, each)
    if events[:upto]:
        await journal.commit(Change(rotation.seq, tuple(events[:upto]), after, (key,)))
    return after


async def make(folder: Path, count: int) -> None:
    (folder / "keyturn.yaml").write_text(inventory_text(count))
    journal = await SqlJournal.open_url(f"sqlite:///{folder}/journal.db")
    begun = datetime.now(UTC) - timedelta(days=10)
    try:
        await asyncio.gather(*(journal_one(journal, i, begun + timedelta(minutes=i)) for i in range(count)))
    finally:
        await journal.close()
