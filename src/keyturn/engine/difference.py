"""What a new key would lack that the living one has: told before anything is minted, and parked for.

A person accepts once exactly what was shown: with the command, in the form, or in the inventory with a
reason. The journal keeps who did and what, so that a later worker asks for what came on top alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.domain.difference import (
    Difference,
    compare,
    declared_side,
    names_text,
    read_names,
    side_of,
)
from keyturn.domain.errors import RefusedError
from keyturn.domain.inventory import CredentialEntry
from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import Event, EventType, Park, Rotation
from keyturn.domain.slots import SlotInfo
from keyturn.engine import listing
from keyturn.engine.added import refuse_added
from keyturn.engine.work import Rest, Work
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller, ExchangeDriver


async def refuse_unseen(
    work: Work, manager: Caller, listed: Sequence[KeyFacts], old_ref: str | None
) -> Rest | None:
    """Park, before anything is minted, when rights would shrink or grow without a person's word.

    Args:
        work: of the rotation.
        manager: the manager key.
        listed: its list, which was witnessed.
        old_ref: of the key that bots use: what is current, or what lives on where the slot was emptied.
    """
    if rest := await refuse_added(work, manager, listed):
        return rest
    living = await _living(work, manager, listed, old_ref)
    if living is None:
        return None  # the first key, or one that is dead: nothing can be lost
    r, entry = work.rotation, work.entry
    lost = against_declared(work.world, work.driver, entry, living).lost
    accepted = read_names(r.accepted_loss)
    if unaccepted := lost - accepted - entry.accept_loss:
        return await work.park(
            Park.LOSS,
            f"The new key of {r.credential} would lack what the living key has: {names_text(unaccepted)}."
            " No key was made.",
            f"If the bot can do without: {accept_command(r.credential)}. If not, declare it in the entry of"
            f" {r.credential} in the inventory, then: keyturn resume {r.credential}",
            loss=names_text(lost),
        )
    if lost - accepted:
        text, names = f"by the inventory: {entry.accept_loss_reason}", names_text(lost | accepted)
        await work.commit(work.event(EventType.LOSS_ACCEPTED, text, accepted_loss=names))
    return None


async def _living(
    work: Work, manager: Caller, listed: Sequence[KeyFacts], old_ref: str | None
) -> KeyFacts | None:
    """Find the old key on the list, or where the journal has it; None where there is none, or it is dead."""
    r = work.rotation
    found = next((facts for facts in listed if facts.key_ref == old_ref), None)
    if found is not None or old_ref is None:
        return found
    known = await work.world.journal.key(r.exchange, r.account, old_ref)
    if known is None or known.subaccount == r.subaccount:
        return None
    there = await listing.look_in(work, manager, known.subaccount)
    return next((facts for facts in there if facts.key_ref == old_ref), None)


def living_key(listed: Sequence[KeyFacts], current: SlotInfo | None) -> KeyFacts | None:
    """Find the key that is current on a list."""
    ref = current.meta.key_ref if current and current.meta else None
    return next((facts for facts in listed if facts.key_ref == ref), None)


def against_declared(
    world: World, driver: ExchangeDriver, entry: CredentialEntry, living: KeyFacts
) -> Difference:
    """Compare a living key with the one that a mint would make now.

    Raises:
        ExchangeError: `NOT_SUPPORTED`, the venue has no word for a permission.
    """
    new = declared_side(
        driver.manifest,
        driver.grants_for(entry.permissions),
        entry.permissions,
        entry.ip_allowlist,
        entry.accepts,
        world.clock.now(),
    )
    return compare(driver.manifest, side_of(living), new)


def acceptance(work: Work, names: frozenset[str]) -> Event:
    """Build the record that the actor gives up these names, beside what was accepted before."""
    accepted = names_text(names | read_names(work.rotation.accepted_loss))
    return work.event(EventType.LOSS_ACCEPTED, f"given up: {names_text(names)}", accepted_loss=accepted)


def refuse_other_than_loss(rotation: Rotation) -> None:
    """Refuse to accept a loss in a rotation that has not parked for one.

    Raises:
        RefusedError: it has not.
    """
    if rotation.parked is Park.LOSS:
        return
    raise RefusedError(
        f"Rotation {rotation.id} of {rotation.credential} is not parked for a loss of rights.",
        now="Nothing was changed, and nothing was accepted.",
        todo=f"keyturn resume {rotation.credential}",
    )


def accept_command(credential: str) -> str:
    """Give the command with which a person accepts what a parked rotation has shown."""
    return f"keyturn resume {credential} --accept-loss"
