"""This is where we move the callers: read, ensure, elect, dispatch, follow, compute, refresh, leave."""

from __future__ import annotations

from collections.abc import Callable

from tests.model import scripts
from tests.model.state import (
    ABSENT,
    BUSY,
    CANCELLED,
    COMPUTING,
    DISPATCHING,
    DONE,
    ELECTING,
    ENTRY_READ,
    ERROR,
    FOLLOWING,
    LEADING,
    LEAVING,
    LOOK,
    MISSING,
    NOBODY,
    READING,
    REFRESHING,
    RELEASED,
    REVOKING,
    RUNNING,
    STAMP_READ,
    STAMPED,
    TAKEN,
    Caller,
    Flight,
    Message,
    State,
    Violation,
    new_owner,
    new_token,
    usable,
    with_caller,
    with_message,
)
from tests.model.workers import kill_running
from tests.model.world import Moves, World


def caller_moves(world: World, state: State) -> Moves:
    """Move each caller that can; calls are alike, so they begin in order."""
    for index, caller in enumerate(state.callers):
        step = caller.step
        if step == ABSENT:
            yield from _begin(world, state, index)
            return
        if step != DONE:
            yield from _STEPS[step](world, state, index, caller)


def _begin(world: World, state: State, index: int) -> Moves:
    reading = Caller(READING, began=state.invalidations)
    yield f"C{index} begins", False, with_caller(state, index, reading)
    first = state.callers[0]
    if world.rules.share_wait and index and first.step == FOLLOWING:
        joined = Caller(FOLLOWING, began=state.invalidations, token=first.token)
        yield f"C{index} begins, joins C0's wait", False, with_caller(state, index, joined)


def _read(world: World, state: State, index: int, caller: Caller) -> Moves:
    if world.run.order != "entry first":
        stamp = world.stamp_for(state)
        ensured = state._replace(store=state.store._replace(stamp=stamp))
        read = with_caller(ensured, index, caller._replace(step=STAMP_READ, stamp=stamp))
        yield f"C{index} reads stamp {stamp}", False, read
    if world.run.order != "stamp first":
        entry = state.store.entry
        read = with_caller(state, index, caller._replace(step=ENTRY_READ, entry=entry))
        yield f"C{index} reads entry {_name(entry)}", False, read


def _read_entry(world: World, state: State, index: int, caller: Caller) -> Moves:
    entry = state.store.entry
    seen = entry.token if entry is not None else 0
    if entry is None or not usable(entry, caller.stamp):
        missed = caller._replace(step=ELECTING, seen=seen)
        yield f"C{index} reads entry {_name(entry)}: miss", False, with_caller(state, index, missed)
        return
    hit = world.hand_over(state, index, entry.born, "hit")
    yield f"C{index} hits T{entry.token}", False, hit
    if world.run.stale:
        refreshing = Caller(REFRESHING, stamp=caller.stamp, seen=seen)
        yield f"C{index} hits T{entry.token}, which is stale", False, with_caller(hit, index, refreshing)


def _read_stamp(world: World, state: State, index: int, caller: Caller) -> Moves:
    entry = caller.entry
    if entry is not None and usable(entry, state.store.stamp):
        hit = world.hand_over(state, index, entry.born, "hit")
        yield f"C{index} reads stamp {state.store.stamp}: hit", False, hit
        return
    stamp = world.stamp_for(state)
    ensured = state._replace(store=state.store._replace(stamp=stamp))
    missed = caller._replace(step=ELECTING, stamp=stamp, seen=entry.token if entry is not None else 0, entry=None)
    yield f"C{index} reads stamp {stamp}: miss", False, with_caller(ensured, index, missed)


def _elect(world: World, state: State, index: int, caller: Caller) -> Moves:
    """Elect; a caller whose reply was lost (`token` is set) sends the same arguments again."""
    again = caller.token != 0
    token = caller.token if again else new_token(state)
    computes = index < world.run.computing
    owner = caller.owner if again or not computes else new_owner(state)
    inbox = None if computes and world.rules.leader_unnoted else world.inbox_of(index)
    reply, about, store = scripts.elect(
        state.store,
        world.rules,
        token=token,
        seen=caller.seen,
        stamp=caller.stamp,
        outdated=caller.outdated,
        inbox=inbox,
        owner=owner,
    )
    label = f"C{index} elects{' again' if again else ''}: {reply} T{about}"
    if reply == "lead":
        world.check_displacing(state, store, f"C{index}")
    after = state._replace(store=store)
    if reply == "hit":
        entry = store.entry
        if entry is not None and usable(entry, caller.stamp):
            yield label, False, world.hand_over(after, index, entry.born, "elect's hit")
            return
        began = Caller(READING, began=caller.began, outdated=caller.outdated)
        yield f"{label}, unusable", False, with_caller(after, index, began)
    elif reply == "lead" and computes:
        leading = Caller(COMPUTING, began=caller.began, token=token, owner=owner, born=state.invalidations)
        yield label, False, with_caller(after, index, leading)
    elif reply == "lead":
        yield label, False, with_caller(after, index, Caller(LEADING, began=caller.began, token=token))
    elif reply == "follow":
        # A computing caller notes its inbox only now: elect had none.
        yield label, False, with_caller(after, index, Caller(FOLLOWING, began=caller.began, token=about))
    else:
        rereads = Caller(READING, began=caller.began, outdated=about)
        yield label, False, with_caller(after, index, rereads)
    spent = world.spend(after, "lost_reply") if reply == "lead" else None
    if spent is not None:
        waits = caller._replace(token=token, owner=owner)
        yield f"{label}, the reply is lost", True, with_caller(spent, index, waits)


def _dispatch(world: World, state: State, index: int, caller: Caller) -> Moves:
    token = caller.token
    sent = with_message(state, Message(token))
    following = Caller(FOLLOWING, began=caller.began, token=token)
    yield f"C{index} dispatches T{token}", False, with_caller(sent, index, following)
    spent = world.spend(state, "fail_launch")
    if spent is not None:
        _, _, store = scripts.publish(
            state.store, world.rules, token=token, owner=NOBODY, says=ERROR, stores=False, lasts=False
        )
        failed = with_caller(spent._replace(store=store), index, Caller(DONE))
        yield f"C{index} cannot dispatch T{token}", True, failed
    yield from _die(world, state, index, "before dispatch")


def _dispatch_refresh(world: World, state: State, index: int, caller: Caller) -> Moves:
    sent = with_message(state, Message(caller.token))
    yield f"C{index} dispatches T{caller.token}", False, with_caller(sent, index, Caller(DONE))
    yield from _die(world, state, index, "before dispatch")


def _refresh(world: World, state: State, index: int, caller: Caller) -> Moves:
    token = new_token(state)
    reply, about, store = scripts.elect(
        state.store, world.rules, token=token, seen=caller.seen, stamp=caller.stamp, outdated=0, inbox=None
    )
    after = state._replace(store=store)
    refreshed = Caller(DISPATCHING, token=token) if reply == "lead" else Caller(DONE)
    yield f"C{index} elects for a refresh: {reply} T{about}", False, with_caller(after, index, refreshed)


def _follow(world: World, state: State, index: int, caller: Caller) -> Moves:
    token = caller.token
    reply, says, store = scripts.follow(state.store, token=token, inbox=world.inbox_of(index))
    loops = Caller(READING, began=caller.began)
    if reply == "gone" and world.rules.waiter_reasserts and store.flight is None:
        holder = next((w.owner for w in state.workers if w.step == BUSY and w.token == token), NOBODY)
        back = Flight(token, RUNNING, holder, store.stamp, frozenset((index,)))
        yield f"C{index} re-asserts T{token}", False, state._replace(store=store._replace(flight=back))
    elif reply == "gone":
        yield f"C{index} finds T{token} gone", False, with_caller(state, index, loops)
    elif reply == "ended" and says == LOOK:
        yield f"C{index} is told to look at the entry", False, with_caller(state, index, loops)
    elif reply == "ended" and says == CANCELLED:
        if "leave" not in world.kinds:
            yield f"C{index} hears that an operator revoked T{token}", False, with_caller(state, index, Caller(DONE))
            return
        if world.rules.cancelled_ends:
            raise Violation(f"I7: C{index} never left T{token}, and hears that it was cancelled")
        yield f"C{index} finds T{token} cancelled by others", False, with_caller(state, index, loops)
    elif reply == "ended" and says == ERROR:
        yield f"C{index} hears the error of T{token}", False, with_caller(state, index, Caller(DONE))
    elif reply == "ended":
        yield f"C{index} finds the outcome of T{token}", False, world.hand_over(state, index, says, "outcome")
    elif store is not state.store:
        yield f"C{index} notes its inbox at T{token}", False, state._replace(store=store)
    if reply == "waiting" and not world.rules.never_resend and _is_unsent(state, token):
        yield f"C{index} sends T{token} again", False, with_message(state, Message(token))
    missing = world.spend(state, "missing") if reply == "waiting" else None
    if missing is not None:
        asked = with_caller(missing, index, caller._replace(step=MISSING))
        yield f"C{index} finds T{token} unclaimed, and is told that its message is missing", True, asked
    yield from _die(world, state, index, "waiting")
    leaving = world.spend(state, "leave")
    if leaving is not None:
        yield from _decide_to_leave(leaving, index, caller)


def _send_missing(world: World, state: State, index: int, caller: Caller) -> Moves:
    """Send the message again, whatever has become of the flight since it was asked about, and of the other copies."""
    following = with_caller(state, index, caller._replace(step=FOLLOWING))
    sent = with_message(following, Message(caller.token))
    yield f"C{index} sends the missing T{caller.token}", False, sent
    yield from _die(world, state, index, "asking the broker")


def _is_unsent(state: State, token: int) -> bool:
    """Say whether no copy is under way: a copy more is the fault `dup`."""
    if any(message.token == token for message in state.messages):
        return False
    return not any(worker.token == token and worker.step in (TAKEN, STAMPED, RELEASED) for worker in state.workers)


def _decide_to_leave(state: State, index: int, caller: Caller) -> Moves:
    """Decide in the process, then tell the server: two steps, and the world may move between them."""
    yield f"C{index} decides to leave T{caller.token}", True, with_caller(state, index, caller._replace(step=LEAVING))


def _leave(world: World, state: State, index: int, caller: Caller) -> Moves:
    token = caller.token
    neighbours = any(
        other.step in (FOLLOWING, MISSING) and other.token == token and place != index
        for place, other in enumerate(state.callers)
        if world.run.one_process
    )
    if neighbours:
        yield f"C{index} leaves T{token} to its neighbour", False, with_caller(state, index, Caller(DONE))
        return
    reply, store = scripts.leave(state.store, token=token, inbox=world.inbox_of(index))
    if reply == "running" and any(other.step == COMPUTING and other.token == token for other in state.callers):
        raise Violation(f"I7: C{index} leaves T{token} as the last one, and outdates what its own leader computes")
    gone = Caller(REVOKING, token=token) if reply == "running" else Caller(DONE)
    yield f"C{index} leaves T{token}: {reply}", False, with_caller(state._replace(store=store), index, gone)
    spent = world.spend(state._replace(store=store), "lost_reply")
    if spent is not None:
        yield f"C{index} leaves T{token}: {reply}, the reply is lost", True, spent


def _revoke(world: World, state: State, index: int, caller: Caller) -> Moves:
    gone = with_caller(state, index, Caller(DONE))
    yield f"C{index} revokes T{caller.token}", False, kill_running(world, gone, caller.token)


def _compute(world: World, state: State, index: int, caller: Caller) -> Moves:
    """Publish what the caller computed itself; its own value ends its call whatever the reply is."""
    token = caller.token
    after = world.hand_over(state, index, caller.born, "its own computation")
    for lifetime in world.run.lifetimes:
        reply, inboxes, store = scripts.publish(
            state.store,
            world.rules,
            token=token,
            owner=caller.owner,
            says=caller.born,
            stores=lifetime != "zero",
            lasts=lifetime == "lasting",
        )
        label = f"C{index} publishes T{token} ({lifetime}): {reply}"
        yield from world.wake(label, after._replace(store=store), token, inboxes, caller.born)
    reply, store = scripts.renew(state.store, world.rules, token=token, owner=caller.owner, held=True)
    if reply == "asserted":
        world.check_asserting(token)
        yield f"C{index} asserts T{token}", False, state._replace(store=store)
    yield from _die(world, state, index, "computing")


def _die(world: World, state: State, index: int, when: str) -> Moves:
    spent = world.spend(state, "crash_caller")
    if spent is not None:
        yield f"C{index} dies {when}", True, with_caller(spent, index, Caller(DONE))


def _name(entry: object) -> str:
    return "(none)" if entry is None else f"T{getattr(entry, 'token', '?')}"


_STEPS: dict[str, Callable[[World, State, int, Caller], Moves]] = {
    READING: _read,
    STAMP_READ: _read_entry,
    ENTRY_READ: _read_stamp,
    ELECTING: _elect,
    LEADING: _dispatch,
    DISPATCHING: _dispatch_refresh,
    REFRESHING: _refresh,
    FOLLOWING: _follow,
    LEAVING: _leave,
    MISSING: _send_missing,
    REVOKING: _revoke,
    COMPUTING: _compute,
}
