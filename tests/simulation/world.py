"""The world in memory as a simulation needs it, and its judge.

The judge sees what no worker sees: the exchange's books, the slots and the journal's rows at one moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keyturn.domain.keys import MintedKey, Permission
from keyturn.domain.labels import Attempt, parse_label
from keyturn.domain.rotation import Fate, State
from keyturn.domain.slots import Slot
from keyturn.testing.fake_world import PATH, FakeWorld
from keyturn.testing.memory_store import MemoryStore

_NAMED = frozenset({Fate.INTENDED, Fate.LIVE, Fate.REVOKING})


class ViolationError(AssertionError):
    """A rule does not hold. `rule` is its name in `RULES`."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(rule, text)
        self.rule, self.text = rule, text

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


#: What the judge holds at every call, and at the end.
RULES = {
    "current lives": "current, here and in the mirror, and what the bot has loaded, are keys that live",
    "foreign keys stay": "a key that a person made and that the journal does not own is not revoked",
    "intent": "the journal says that this very key is to be revoked, before it is",
    "fence": "no write can make the revoked key current any more",
    "not current": "no store shows the revoked key as current, nor as the way back of a living rotation",
    "own mistakes": "no process meets a mistake of the program's own",
    "rest": "with nothing in the way, everything comes to rest",
    "order": "at rest the crash suite's judge finds everything in order",
    "named": "every living key with a label of ours is in a slot, named in the journal, or swept",
}


@dataclass
class SimulatedWorld(FakeWorld):
    """A `FakeWorld` that knows what the person did."""

    #: Rules that are not held; a test of one fault looks for that alone.
    lenient: frozenset[str] = frozenset()
    #: Keys that a person made at the venue, by ref.
    by_hand: dict[str, MintedKey] = field(default_factory=dict)
    #: Keys that a person deleted at the venue.
    deleted: set[str] = field(default_factory=set)

    # -- what a person does at the venue -----------------------------------------------------

    def make_by_hand(self, label: str) -> MintedKey:
        made = self.exchange.add_key([Permission(p) for p in self.permissions], ips=self.ips, label=label)
        self.by_hand[made.key_ref] = made
        return made

    def delete_by_hand(self, key_ref: str) -> None:
        self.deleted.add(key_ref)
        self.exchange.kill_key(key_ref)

    # -- what the judge sees -----------------------------------------------------------------

    def lives(self, key_ref: str) -> bool:
        row = self.exchange._rows.get(key_ref)
        return row is not None and row.live_until is None

    def in_slot(self, store: MemoryStore, slot: Slot) -> tuple[str | None, Attempt | None]:
        """Give the key ref and the attempt of a slot."""
        shelf = store._shelves.get(PATH)
        held = shelf.ledger.held(slot) if shelf else None
        return (held.meta.key_ref if held.meta else None, held.attempt) if held else (None, None)

    def stores(self) -> tuple[MemoryStore, ...]:
        return (self.store, self.mirror) if self.mirrored else (self.store,)

    def _breaks(self, rule: str, text: str) -> None:
        if rule not in self.lenient:
            raise ViolationError(rule, text)

    def judge_call(self) -> None:
        """Hold what must be true after every call."""
        for store in self.stores():
            ref, _ = self.in_slot(store, Slot.CURRENT)
            if ref and ref not in self.deleted and not self.lives(ref):
                self._breaks("current lives", f"{ref} is current and dead")
        loaded = self.bot.loaded.material.key_ref if self.bot.loaded else None
        if loaded and loaded not in self.deleted and not self.lives(loaded):
            self._breaks("current lives", f"the bot was left with {loaded}, which is dead")
        foreign = [self.foreign.key_ref] if self.foreign else []
        for ref in (*foreign, *self.by_hand):
            if not self.lives(ref) and ref not in self.deleted and not self._rows(ref):
                self._breaks("foreign keys stay", f"{ref} was made by a person and is gone")

    def _rows(self, key_ref: str) -> list[dict[str, Any]]:
        return [row for row in self.journal.tables["keys"] if row["key_ref"] == key_ref]

    def judge_revoke(self, key_ref: str) -> None:
        """Hold, at the moment in which a living key is about to die, that there is a licence for it."""
        if not self.lives(key_ref):
            return
        if not any(row["fate"] == Fate.REVOKING for row in self._rows(key_ref)):
            self._breaks("intent", f"the journal does not say that {key_ref} is to be revoked")
        for store in self.stores():
            if self.in_slot(store, Slot.CURRENT)[0] == key_ref:
                self._breaks("not current", f"{key_ref} is revoked and a store shows it as current")
        attempt = parse_label(self.exchange._rows[key_ref].key.label)
        if attempt and self.in_slot(self.store, Slot.PENDING)[1] == attempt:
            self._breaks("fence", f"{key_ref} is revoked and {attempt} can still be promoted")
        if self.in_slot(self.store, Slot.PREVIOUS)[0] == key_ref and not self._may_end():
            self._breaks("not current", f"{key_ref} is revoked and a roll-back can make it current again")

    def _may_end(self) -> bool:
        """Whether the open rotation is past the point from which previous could come back."""
        opened = self.journal._rotations(lambda row: row["is_open"])
        return all(r.effective_state in {State.REVOKING, State.ABORTING} for r in opened)

    def unnamed(self) -> list[str]:
        """Give the living keys with a label of ours that no slot and no open row of the journal names."""
        slots = {self.in_slot(store, slot)[0] for store in self.stores() for slot in Slot}
        told = {str(row["key_id"]) for row in self.journal.tables["keys"] if row["fate"] in _NAMED}
        return [
            ref
            for ref, key in self.exchange.truth().items()
            if (attempt := parse_label(key.label)) and ref not in slots and str(attempt) not in told
        ]

    def surplus(self) -> list[str]:
        """Give the living keys of this credential beside the one that is current."""
        current, _ = self.in_slot(self.store, Slot.CURRENT)
        strangers = {r for r in self.by_hand if not self._rows(r)} | {self.foreign.key_ref}
        listed = self.exchange.truth().items()
        return [r for r, key in listed if key.label != "manager" and r not in strangers and r != current]

    async def _forget_empty_claim(self) -> None:
        """Take away a claim that a worker made too late: it holds no secret, and the next one takes it."""
        pending = await self.store.peek(PATH, Slot.PENDING)
        if pending is not None and pending.meta is None:
            await self.store.discard(PATH, Slot.PENDING, version=pending.version)

    async def judge_end(self) -> None:
        """Hold what must be true when nothing is left to do."""
        self.judge_call()
        current, _ = self.in_slot(self.store, Slot.CURRENT)
        if self.deleted and (current is None or current in self.deleted):
            return  # a person ended the key in use; what is to be done then is a person's affair, too
        for ref in [ref for ref in self.by_hand if self.lives(ref) and not self._rows(ref)]:
            self.delete_by_hand(ref)  # not ours, and still there: that was all that there is to hold of it
        await self._forget_empty_claim()
        try:
            await self.judge_rest()
        except AssertionError as error:
            self._breaks("order", str(error) or "the current key is not as declared")
