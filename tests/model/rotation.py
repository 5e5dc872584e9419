"""Two workers rotate one credential: every interleaving of their calls, with deaths and lost answers.

A step is one call to a port, so a worker may be slow before and after any of them: between the store's
"staged" and the journal's STAGED, say, which is what a slow journal is. Time is not in the model: whoever
finds an attempt unfinished may take it over at once. The engine takes over later than that, never earlier.

A key bears the number of its attempt; 0 is the key from before. Grace, consumers and mirrors are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

# What can happen in a run: enough for one worker to lose its way twice, and small enough for seconds.
_MOST_ATTEMPTS = 2


class Rules(NamedTuple):
    """What may be left out, to see it break."""

    #: Before a key is revoked: no write can make it current any more.
    fence: bool = True
    #: And then: no slot shows it.
    look: bool = True
    #: Whose STAGED comes too late for the journal asks for a licence, in place of revoking its key.
    licence_when_slow: bool = True
    #: Whose `stage` is refused does so, too.
    licence_when_refused: bool = True


class Bounds(NamedTuple):
    """How much may go wrong in one run."""

    deaths: int = 1
    #: Answers of `stage` that are lost, when the store has done it.
    lost: int = 1
    #: Aborts that a person asks for.
    aborts: int = 1


class World(NamedTuple):
    """What outlives the workers."""

    live: frozenset[int] = frozenset({0})
    current: int = 0
    #: The attempt that holds pending, and whether its secret stands there.
    pending: int = 0
    staged: bool = False
    #: Grows with every write to pending; a claim is one.
    version: int = 0
    #: The latest attempt that has claimed.
    fence: int = 0
    state: str = "planned"
    attempt: int = 0
    seq: int = 0
    intended: frozenset[int] = frozenset()
    deaths: int = 0
    lost: int = 0
    aborts: int = 0


class Worker(NamedTuple):
    """A worker: what it does next, and what it knows."""

    at: str = "start"
    seq: int = 0
    attempt: int = 0
    claim: int = 0
    #: The version of pending that its last look showed.
    seen: int = 0
    #: The key that it wants gone, whether it has just made it, and where it goes on then.
    doomed: int = 0
    own: bool = False
    back: str = "start"


START, END = Worker(), Worker("end")
Move = tuple[World, Worker]


class BrokenError(AssertionError):
    """A rule of the protocol does not hold."""


def commit(world: World, worker: Worker, **changes: object) -> World | None:
    """The journal's compare-and-set; None when another worker was faster."""
    if world.seq != worker.seq:
        return None
    return world._replace(seq=world.seq + 1, **changes)  # type: ignore[arg-type]


def journal(world: World, worker: Worker, then: str, **changes: object) -> Move:
    """Write, and go on; whoever lost begins again from what the journal says."""
    after = commit(world, worker, **changes)
    return (world, START) if after is None else (after, worker._replace(at=then, seq=after.seq))


def want_gone(worker: Worker, key: int, back: str, *, own: bool = False) -> Worker:
    return worker._replace(at="read journal", doomed=key, own=own, back=back)


def leftovers(world: World) -> list[int]:
    """What a list of keys shows that is neither the credential's key nor one that is being made."""
    closed = world.state in {"completed", "aborted"}
    over = {key for key in world.live if closed or key < world.attempt}
    return sorted(over - {0, world.current})


# -- the steps: what stands between two calls ------------------------------------------------------


def start(world: World, worker: Worker, rules: Rules) -> Move:
    worker = Worker(seq=world.seq, attempt=world.attempt)
    if world.state in {"completed", "aborted"}:
        left = leftovers(world)
        return world, want_gone(worker, left[0], "start") if left else END
    return world, worker._replace(at=_FIRST[world.state])


_FIRST = {
    "planned": "next attempt",
    "minting": "find staged",
    "staged": "promote",
    "promoted": "look before the revoke",
    "revoking": "revoke old",
    "aborting": "clear pending",
}


def next_attempt(world: World, worker: Worker, rules: Rules) -> Move:
    number = world.attempt + 1
    after = commit(world, worker, state="minting", attempt=number)
    if after is None:
        return world, START
    return after, worker._replace(at="claim", attempt=number, seq=after.seq)


def find_staged(world: World, worker: Worker, rules: Rules) -> Move:
    ours = world.pending == worker.attempt and world.staged
    return world, worker._replace(at="journal staged" if ours else "next attempt")


def claim(world: World, worker: Worker, rules: Rules) -> Move:
    if world.fence > worker.attempt or worker.attempt == world.current:
        return world, START
    world = world._replace(
        pending=worker.attempt, staged=False, version=world.version + 1, fence=worker.attempt
    )
    return world, worker._replace(at="clean up", claim=world.version)


def clean_up(world: World, worker: Worker, rules: Rules) -> Move:
    stale = [key for key in leftovers(world) if key < worker.attempt]
    return world, want_gone(worker, stale[0], "clean up") if stale else worker._replace(at="create")


def create(world: World, worker: Worker, rules: Rules) -> Move:
    return world._replace(live=world.live | {worker.attempt}), worker._replace(at="stage")


def stage(world: World, worker: Worker, rules: Rules) -> Move:
    if world.version != worker.claim:
        return world, worker._replace(at="already staged?")
    world = world._replace(staged=True, version=world.version + 1)
    return world, worker._replace(at="journal staged")


def already_staged(world: World, worker: Worker, rules: Rules) -> Move:
    if world.pending == worker.attempt and world.staged:
        return world, worker._replace(at="journal staged")
    return world, _give_up(worker, licensed=rules.licence_when_refused)


def journal_staged(world: World, worker: Worker, rules: Rules) -> Move:
    after = commit(world, worker, state="staged") if world.attempt == worker.attempt else None
    if after is None:
        return world, _give_up(worker, licensed=rules.licence_when_slow)
    return after, START


def _give_up(worker: Worker, *, licensed: bool) -> Worker:
    if licensed:
        return want_gone(worker, worker.attempt, "start", own=True)
    return worker._replace(at="revoke", doomed=worker.attempt, back="start")


def promote(world: World, worker: Worker, rules: Rules) -> Move:
    if world.pending == worker.attempt and world.staged:
        world = world._replace(current=worker.attempt, pending=0, staged=False, version=world.version + 1)
    elif world.current != worker.attempt:
        return world, worker._replace(at="journal aborting")
    return world, worker._replace(at="journal promoted")


def journal_promoted(world: World, worker: Worker, rules: Rules) -> Move:
    return journal(world, worker, "start", state="promoted")


def journal_aborting(world: World, worker: Worker, rules: Rules) -> Move:
    return journal(world, worker, "start", state="aborting")


def look_before_revoke(world: World, worker: Worker, rules: Rules) -> Move:
    if world.current == 0:
        raise BrokenError("the journal says promoted, and the old key is current")
    return journal(world, worker, "revoke old", state="revoking", intended=world.intended | {0})


def revoke_old(world: World, worker: Worker, rules: Rules) -> Move:
    return _revoked(world, 0), worker._replace(at="journal completed")


def journal_completed(world: World, worker: Worker, rules: Rules) -> Move:
    return journal(world, worker, "start", state="completed")


def clear_pending(world: World, worker: Worker, rules: Rules) -> Move:
    world = world._replace(pending=0, staged=False, version=world.version + 1)
    return world, worker._replace(at="lost against the promotion?")


def lost_against_promotion(world: World, worker: Worker, rules: Rules) -> Move:
    if world.current:
        # The way back leads over a roll-back, which is not in the model: it goes forward again.
        return journal(world, worker, "start", state="promoted")
    made = sorted(world.live - {0})
    return world, want_gone(worker, made[0], "start") if made else worker._replace(at="journal aborted")


def journal_aborted(world: World, worker: Worker, rules: Rules) -> Move:
    return journal(world, worker, "start", state="aborted")


# -- the licence -----------------------------------------------------------------------------------


def read_journal(world: World, worker: Worker, rules: Rules) -> Move:
    wanted = worker.doomed == world.attempt and world.state not in {"aborting", "aborted"}
    if wanted and not (worker.own and world.state == "minting"):
        return world, START
    return world, worker._replace(at="look at pending" if rules.fence else "look at current", seq=world.seq)


def look_at_pending(world: World, worker: Worker, rules: Rules) -> Move:
    holds = world.pending == worker.doomed
    if not holds:
        return world, worker._replace(at="look at current")
    return world, worker._replace(at="discard", seen=world.version)


def discard(world: World, worker: Worker, rules: Rules) -> Move:
    if world.version == worker.seen:
        world = world._replace(pending=0, staged=False, version=world.version + 1)
        return world, worker._replace(at="look at current", seen=0)
    return world, worker._replace(at="look at pending", seen=0)


def look_at_current(world: World, worker: Worker, rules: Rules) -> Move:
    if rules.look and world.current == worker.doomed:
        return world, START
    return world, worker._replace(at="intend")


def intend(world: World, worker: Worker, rules: Rules) -> Move:
    return journal(world, worker, "revoke", intended=world.intended | {worker.doomed})


def revoke(world: World, worker: Worker, rules: Rules) -> Move:
    licensed = rules.licence_when_slow and rules.licence_when_refused
    if licensed and worker.doomed in world.live and worker.doomed not in world.intended:
        raise BrokenError("a key is revoked without an intent")
    world = _revoked(world, worker.doomed)
    # What it knew of the journal may be over: a worker in the midst of an attempt goes on with that alone.
    if worker.back == "start":
        return world, START
    return world, worker._replace(at=worker.back, doomed=0, back="start")


def _revoked(world: World, key: int) -> World:
    return world._replace(live=world.live - {key})


STEPS: dict[str, Callable[[World, Worker, Rules], Move]] = {
    "start": start,
    "next attempt": next_attempt,
    "find staged": find_staged,
    "claim": claim,
    "clean up": clean_up,
    "create": create,
    "stage": stage,
    "already staged?": already_staged,
    "journal staged": journal_staged,
    "promote": promote,
    "journal promoted": journal_promoted,
    "journal aborting": journal_aborting,
    "look before the revoke": look_before_revoke,
    "revoke old": revoke_old,
    "journal completed": journal_completed,
    "clear pending": clear_pending,
    "lost against the promotion?": lost_against_promotion,
    "journal aborted": journal_aborted,
    "read journal": read_journal,
    "look at pending": look_at_pending,
    "discard": discard,
    "look at current": look_at_current,
    "intend": intend,
    "revoke": revoke,
}


# -- every state ---------------------------------------------------------------------------------------


class State(NamedTuple):
    """The world and its workers."""

    world: World
    workers: tuple[Worker, Worker]


class Explored(NamedTuple):
    """What was found: how many states, and the rule that is broken first, with the shortest way there."""

    states: int
    broken: str = ""
    way: tuple[str, ...] = ()


def _moves(state: State, rules: Rules, bounds: Bounds) -> Iterator[tuple[str, State]]:
    world, workers = state
    if world.aborts < bounds.aborts and world.state in {"planned", "minting", "staged"}:
        asked = world._replace(state="aborting", seq=world.seq + 1, aborts=world.aborts + 1)
        yield "a person aborts", State(asked, workers)
    for number, worker in enumerate(workers):
        if worker.at == "end":
            continue
        moves = [(worker.at, STEPS[worker.at](world, worker, rules))]
        if worker.at == "stage" and world.lost < bounds.lost and world.version == worker.claim:
            done = stage(world, worker, rules)[0]
            # The same call again, by the same frame: it holds the only secret.
            moves.append(("stage, answer lost", (done._replace(lost=world.lost + 1), worker)))
        if world.deaths < bounds.deaths and worker.at != "start":
            moves.append((f"dies before: {worker.at}", (world._replace(deaths=world.deaths + 1), START)))
        for name, (after, moved) in moves:
            if after.attempt <= _MOST_ATTEMPTS:
                others = (moved, workers[1]) if number == 0 else (workers[0], moved)
                yield f"{'first' if number == 0 else 'second'}: {name}", State(after, others)


def _same(state: State) -> State:
    """Give one form for two states that differ in the workers' names alone."""
    one, other = state.workers
    return state if one <= other else State(state.world, (other, one))


def _judged(state: State) -> str:
    """Name the rule that a state breaks."""
    world, workers = state
    if world.current not in world.live:
        return "current names a dead key"
    if all(worker.at == "end" for worker in workers) and world.live != {world.current}:
        return "a key lives that nobody will revoke"
    return ""


def explore(rules: Rules, bounds: Bounds) -> Explored:
    """Look at every state that can be reached, in order of its distance; stop where a rule is broken."""
    first = State(World(), (START, START))
    came: dict[State, tuple[State, str] | None] = {_same(first): None}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        broken = _judged(state)
        try:
            moves = list(_moves(state, rules, bounds))
        except BrokenError as error:
            broken = str(error)
        if broken:
            return Explored(len(came), broken, _way(came, state))
        for name, after in moves:
            if _same(after) not in came:
                came[_same(after)] = (state, name)
                queue.append(after)
    return Explored(len(came))


def _way(came: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    way = []
    while (before := came[_same(state)]) is not None:
        state, name = before
        way.append(name)
    return tuple(reversed(way))
