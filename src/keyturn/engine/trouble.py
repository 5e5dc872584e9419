"""What the engine does about an error of a port: come back later, or ask a person.

Deferred: whatever mends itself or is mended outside keyturn (a venue that is down, a full disk, a
clock that is off). Parked: whatever stays as it is until somebody acts on this account, this store or
this credential. Neither loses anything: the rotation stays in its state.
"""

from __future__ import annotations

from keyturn.domain.errors import (
    KEY_FAULTS,
    ConsumerError,
    ConsumerFault,
    ExchangeError,
    ExchangeFault,
    KeyturnError,
    RefusedError,
    StoreError,
    StoreFault,
)
from keyturn.domain.rotation import Park, Rotation, State
from keyturn.domain.schedule import retry_delay
from keyturn.engine import barring, unexplained
from keyturn.engine.work import Rest, Work

_PARKED_EXCHANGE = {
    ExchangeFault.UNKNOWN_KEY: Park.MANAGER_KEY,
    ExchangeFault.KEY_REFUSED: Park.MANAGER_KEY,
    ExchangeFault.UNCLEAR_REFUSAL: Park.MANAGER_KEY,
    ExchangeFault.CANNOT_SIGN: Park.MANAGER_KEY,
    ExchangeFault.WRONG_IP: Park.MANAGER_KEY,
    ExchangeFault.MISSING_PERMISSION: Park.MANAGER_KEY,
    ExchangeFault.KEY_QUOTA: Park.KEY_QUOTA,
    ExchangeFault.SECOND_FACTOR: Park.SECOND_FACTOR,
    ExchangeFault.NOT_SUPPORTED: Park.NOT_SUPPORTED,
    ExchangeFault.REJECTED: Park.REJECTED,
}
_PARKED_STORE = {
    StoreFault.DENIED: Park.STORE,
    StoreFault.MISCONFIGURED: Park.STORE,
    StoreFault.CORRUPT: Park.STORE,
    StoreFault.UNFIT: Park.STORE,
}


# A pause that an exchange asks for is kept up to here. Coming back into a longer one costs a call an hour; to
# believe any number would let whoever answers in an exchange's place put a rotation off for ever.
_LONGEST_ASKED_SECONDS = 3600.0


def backoff(rotation: Rotation) -> float:
    """Give the seconds to wait after one failure more of this rotation."""
    return retry_delay(rotation.failures + 1, rotation_id=rotation.id).total_seconds()


def asked(error: KeyturnError) -> float:
    """Give the seconds for which an exchange asked to be left alone; 0 if it did not."""
    wait = error.retry_after if isinstance(error, ExchangeError) else None
    return min(wait, _LONGEST_ASKED_SECONDS) if wait is not None and wait > 0 else 0.0


def pause_after(rotation: Rotation, error: KeyturnError) -> float:
    """Give the seconds to wait after this failure: what was asked for, and no less than the backoff."""
    return max(backoff(rotation), asked(error))


async def handle(work: Work, error: KeyturnError) -> Rest:
    """Journal what is in the way and say when to come back."""
    if work.rotation.state is State.PARKED:
        # It was looked at again and could not be judged: it stays parked, for the reason that it has.
        return Rest(work.after(pause_after(work.rotation, error)), work.rotation.parked_why)
    refused = isinstance(error, ExchangeError) and error.fault in KEY_FAULTS
    if refused and work.manager_unseen:
        # Another may have stood in its place for a second: ask again with the one that does now.
        work.world.managers.pop(work.rotation.account, None)
        return await work.defer(backoff(work.rotation), f"{error.what} {error.todo}".strip())
    if (park := _park_for(error)) is not None:
        return await work.park(park, error.what, _todo(work, error))
    problem, pause = f"{error.what} {error.todo}".strip(), pause_after(work.rotation, error)
    if isinstance(error, ExchangeError) and error.unexplained:
        answers = [*await unexplained.told(work), error.what]
        if unexplained.is_enough(answers):
            return await unexplained.park(work, answers)
        return await work.defer(pause, problem, unexplained.note(error))
    return await work.defer(pause, problem, barring.note(error, work.after(asked(error))))


def _park_for(error: KeyturnError) -> Park | None:
    if isinstance(error, ExchangeError):
        return _PARKED_EXCHANGE.get(error.fault)
    if isinstance(error, StoreError):
        return _PARKED_STORE.get(error.fault)
    if isinstance(error, ConsumerError) and error.fault is ConsumerFault.MISCONFIGURED:
        return Park.CONSUMER
    return Park.INVENTORY if isinstance(error, RefusedError) else None


def _todo(work: Work, error: KeyturnError) -> str:
    """Say what to do, and that the rotation waits until it is told so."""
    todo = error.todo or "Mend it"
    r = work.rotation
    if isinstance(error, ExchangeError) and r.state is State.ABORTING and r.new_ref:
        label = r.current_attempt.label(work.driver.manifest.label.separator)
        todo = f"The key that is given up lives still, perhaps open to every address: {label}. {todo}"
    if isinstance(error, ExchangeError) and error.fault is ExchangeFault.CANNOT_SIGN:
        # Of the credential's own keys the step has judged already: this is the manager key.
        todo = f"{todo.removesuffix('.')}: keyturn put --manager {r.account}."
    if "keyturn resume" in todo:
        return todo
    return f"{todo.removesuffix('.')}. Then: keyturn resume {work.rotation.credential}"
