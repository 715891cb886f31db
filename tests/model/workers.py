"""This is where we move the workers: take, ensure, claim, compute, publish, retry, and the main process beside them."""

from __future__ import annotations

from collections.abc import Callable

from tests.model import scripts
from tests.model.state import (
    BUSY,
    CANCELLED,
    COMPUTING,
    ERROR,
    FINISHED,
    FRESH,
    IDLE,
    KILLED,
    LATE,
    NOBODY,
    QUEUED,
    RELEASED,
    REPUBLISHING,
    RETRY_SENT,
    RETRYING,
    RUNNING,
    SELF_ELECTING,
    STAMPED,
    TAKEN,
    Entry,
    Flight,
    Main,
    Message,
    State,
    Store,
    Worker,
    new_owner,
    new_token,
    usable,
    with_message,
    with_worker,
    without_message,
)
from tests.model.world import Moves, World

NO_INBOX: frozenset[int] = frozenset()


def worker_moves(world: World, state: State) -> Moves:
    """Move each worker that can; of several in the same step one is enough, they are alike."""
    before: Worker | None = None
    for place, worker in enumerate(state.workers):
        if worker == before:
            continue
        before = worker
        yield from _STEPS[worker.step](world, state, place, worker)
        if worker.step != IDLE:
            yield from _crash(world, state, place, worker)
    for main in state.mains:
        yield from _main_moves(world, state, main)


def is_held(world: World, state: State, flight: Flight) -> bool:
    """Say whether somebody alive renews this flight's lease."""
    token, owner = flight.token, flight.owner
    if any(caller.step == COMPUTING and caller.owner == owner for caller in state.callers):
        return True
    if world.run.apart:
        return any(main.token == token and main.owner == owner for main in state.mains)
    return any(worker.owner == owner and worker.step in _HOLDING for worker in state.workers)


def kill_running(world: World, state: State, token: int) -> State:
    """Revoke a token with terminate: its children die, its messages will be discarded."""
    state = state._replace(revoked=tuple(sorted({*state.revoked, token})))
    while True:
        place = next((p for p, w in enumerate(state.workers) if w.token == token and w.step != IDLE), None)
        if place is None:
            return state
        owner = state.workers[place].owner
        state = _rest(state, place, KILLED)
        if not world.run.apart:
            state = state._replace(store=_fail(world, state.store, token, owner, CANCELLED))


def _take(world: World, state: State, place: int, worker: Worker) -> Moves:
    if len(state.mains) == len(state.workers):
        return  # The main process gives a slot its next message only when it knows that the slot is free.
    for message in sorted(set(state.messages)):
        token = message.token
        without = without_message(state, message)
        if token in state.revoked:
            failed = without._replace(store=_fail(world, state.store, token, NOBODY, CANCELLED))
            yield f"a worker discards the revoked T{token}", False, failed
            continue
        yield f"a worker takes T{token}", False, _start(world, without, place, token, message.since)
    flight = state.store.flight
    if world.run.inline and flight is not None and flight.phase in (QUEUED, RETRYING):
        # A waiter inside a worker: it claims without a message.
        yield f"a waiter takes T{flight.token} inline", False, _start(world, state, place, flight.token, FRESH)


def _start(world: World, state: State, place: int, token: int, since: int) -> State:
    """Give a message to a child; a main process apart names the owner on receipt, else the claim does."""
    if not world.run.apart:
        return with_worker(state, place, Worker(TAKEN, token, born=since))
    owner = new_owner(state)
    known = state._replace(mains=tuple(sorted((*state.mains, Main(token, owner)))))
    return with_worker(known, place, Worker(TAKEN, token, owner, born=since))


def _rest(state: State, place: int, child: str = FINISHED) -> State:
    """Make a worker idle; its main process, when apart, has yet to hear how the child ended."""
    owner = state.workers[place].owner
    if state.mains:
        told = [main._replace(child=child) if main.owner == owner else main for main in state.mains]
        state = state._replace(mains=tuple(sorted(told)))
    return with_worker(state, place, Worker(IDLE))


def _ensure(world: World, state: State, place: int, worker: Worker) -> Moves:
    stamp = world.stamp_for(state)
    ensured = state._replace(store=state.store._replace(stamp=stamp))
    stamped = worker._replace(step=STAMPED, stamp=stamp)
    yield f"the worker of T{worker.token} reads stamp {stamp}", False, with_worker(ensured, place, stamped)


def _claim(world: World, state: State, place: int, worker: Worker) -> Moves:
    token = worker.token
    owner = worker.owner or new_owner(state)
    is_retry = worker.born != FRESH
    reply, store = scripts.claim(state.store, world.rules, token=token, owner=owner, stamp=worker.stamp, again=is_retry)
    label = f"the worker of T{token} claims: {reply}"
    after = state._replace(store=store)
    if reply == "run":
        yield label, False, with_worker(after, place, _busy(world, state, worker, token, owner))
        spent = world.spend(after, "lost_reply")
        if spent is not None:
            lost = with_worker(spent, place, worker._replace(owner=owner))
            yield f"{label}, the reply is lost", True, lost
    elif reply == "taken" and not world.rules.taken_drops:
        again = Message(token, worker.born)
        is_there = any(message.token == token for message in state.messages)
        rested = _rest(state, place)
        yield f"{label}, sends it again", False, rested if is_there else with_message(rested, again)
    elif reply == "gone" and (worker.born == FRESH or world.rules.retry_elects):
        late = worker._replace(step=LATE, stamp=0)
        yield label, False, with_worker(after, place, late)
    else:
        yield label, False, _rest(state, place)


def _busy(world: World, state: State, worker: Worker, token: int, owner: int) -> Worker:
    """Begin the body; a retry's arguments may come from work that began with the first attempt."""
    born = worker.born if worker.born != FRESH else state.invalidations
    stamp = worker.stamp if world.rules.keeps_stamp else 0
    return Worker(BUSY, token, owner, stamp, born=born)


def _read_late(world: World, state: State, place: int, worker: Worker) -> Moves:
    stamp = world.stamp_for(state)
    ensured = state._replace(store=state.store._replace(stamp=stamp))
    entry = state.store.entry
    if usable(entry, stamp):
        yield f"the late worker of T{worker.token} finds the entry fresh", False, _rest(ensured, place)
        return
    electing = worker._replace(step=SELF_ELECTING, stamp=stamp, seen=entry.token if entry is not None else 0)
    yield f"the late worker of T{worker.token} reads stamp {stamp}", False, with_worker(ensured, place, electing)


def _self_elect(world: World, state: State, place: int, worker: Worker) -> Moves:
    token = worker.token if world.rules.reuse_token else worker.spare or new_token(state)
    owner = worker.owner or new_owner(state)
    reply, about, store = scripts.elect(
        state.store,
        world.rules,
        token=token,
        seen=worker.seen,
        stamp=worker.stamp,
        outdated=0,
        inbox=None,
        owner=owner,
    )
    label = f"the late worker of T{worker.token} elects: {reply} T{about}"
    if reply != "lead":
        yield label, False, _rest(state, place)
        return
    after = state._replace(store=store)
    if not world.rules.spare_unrenewed:
        moved = [main._replace(token=token) if main.owner == owner else main for main in state.mains]
        after = after._replace(mains=tuple(sorted(moved)))
    yield label, False, with_worker(after, place, _busy(world, state, worker, token, owner))
    spent = world.spend(after, "lost_reply")
    if spent is not None:
        waits = worker._replace(spare=token, owner=owner)
        yield f"{label}, the reply is lost", True, with_worker(spent, place, waits)


def _compute(world: World, state: State, place: int, worker: Worker) -> Moves:
    token, owner = worker.token, worker.owner
    yield from _publish(world, state, place, worker)
    if not world.run.apart:
        reply, store = scripts.renew(state.store, world.rules, token=token, owner=owner, held=True)
        if reply == "asserted":
            world.check_asserting(token)
            if world.rules.live_reassert and state.store.flight is None:
                back = Flight(token, RUNNING, owner, worker.stamp, NO_INBOX)
                store = state.store._replace(flight=back)
            yield f"the renewer asserts T{token}", False, state._replace(store=store)
    failing = world.spend(state, "fail")
    if failing is not None:
        failed = failing._replace(store=_fail(world, state.store, token, owner))
        yield f"the body of T{token} fails", True, _rest(failed, place)
    retrying = world.spend(state, "retry")
    if retrying is not None and world.rules.message_first:
        sent = with_message(retrying, Message(token, worker.born if world.run.retry_args else FRESH))
        yield f"T{token} retries: sends the message", True, with_worker(sent, place, worker._replace(step=RETRY_SENT))
    elif retrying is not None:
        reply, store = scripts.release(state.store, token=token, owner=owner)
        released = with_worker(retrying._replace(store=store), place, worker._replace(step=RELEASED))
        yield f"T{token} retries: release says {reply}", True, released


def _publish(world: World, state: State, place: int, worker: Worker) -> Moves:
    token = worker.token
    again = worker.step == REPUBLISHING
    for lifetime in world.run.lifetimes:
        reply, inboxes, store = scripts.publish(
            state.store,
            world.rules,
            token=token,
            owner=worker.owner,
            says=worker.born,
            stores=lifetime != "zero",
            lasts=lifetime == "lasting",
        )
        if reply == "kept" and world.rules.missing_stores and state.store.flight is None:
            store = state.store._replace(entry=Entry(token, worker.born, worker.stamp))
        label = f"T{token} is published ({lifetime}{', again' if again else ''}): {reply}"
        after = state._replace(store=store)
        yield from world.wake(label, _rest(after, place), token, inboxes, worker.born)
        spent = world.spend(after, "lost_reply")
        if spent is not None and store is not state.store:
            lost = with_worker(spent, place, worker._replace(step=REPUBLISHING))
            for text, _, woken in world.wake(f"{label}, the reply is lost", lost, token, inboxes, worker.born):
                yield text, True, woken


def _send_retry(world: World, state: State, place: int, worker: Worker) -> Moves:
    token = worker.token
    message = Message(token, worker.born if world.run.retry_args else FRESH)
    yield f"T{token} retries: sends the message", False, with_message(_rest(state, place), message)
    spent = world.spend(state, "fail_launch")
    if spent is not None:
        failed = spent._replace(store=_fail(world, state.store, token, worker.owner))
        yield f"T{token} cannot send its retry", True, _rest(failed, place)


def _release_after_sending(world: World, state: State, place: int, worker: Worker) -> Moves:
    reply, store = scripts.release(state.store, token=worker.token, owner=worker.owner)
    yield f"T{worker.token} is released late: {reply}", False, _rest(state._replace(store=store), place)


def _crash(world: World, state: State, place: int, worker: Worker) -> Moves:
    """Kill the child alone, or the machine with its main process; with acks_late the broker delivers again."""
    token, owner = worker.token, worker.owner
    spent = world.spend(state, "crash_worker")
    if spent is not None:
        mains = tuple(main for main in state.mains if main.owner != owner)
        gone = with_worker(spent._replace(mains=mains), place, Worker(IDLE))
        if world.run.acks_late:
            gone = with_message(gone, Message(token, worker.born if worker.step in (TAKEN, STAMPED) else FRESH))
        yield f"the worker of T{token} is killed", True, gone
    spent = world.spend(state, "crash_child") if world.run.apart else None
    if spent is not None:
        yield f"the child of T{token} is killed", True, _rest(spent, place, KILLED)


def _main_moves(world: World, state: State, main: Main) -> Moves:
    token, owner = main.token, main.owner
    others = tuple(other for other in state.mains if other != main)
    reply, store = scripts.renew(state.store, world.rules, token=token, owner=owner, held=main.held)
    held = main.held or reply in ("live", "retired")
    renewed = state._replace(store=store)
    if held != main.held:
        renewed = renewed._replace(mains=tuple(sorted((*others, main._replace(held=held)))))
    if reply == "asserted":
        world.check_asserting(token)
    if renewed != state:
        yield f"the main process renews T{token}: {reply}", False, renewed
    without = state._replace(mains=others)
    if main.child == FINISHED:
        yield f"the main process hears that T{token} is done", False, without
    elif main.child == KILLED and world.run.acks_late:
        _, store = scripts.release(state.store, token=token, owner=owner)
        back = with_message(without._replace(store=store), Message(token))
        yield f"the main process releases T{token}, the broker has it again", False, back
    elif main.child == KILLED:
        failed = without._replace(store=_fail(world, state.store, token, owner))
        yield f"the main process fails T{token}", False, failed


def _fail(world: World, store: Store, token: int, owner: int, says: int = ERROR) -> Store:
    """Publish an error as this owner, then for a flight that nobody runs."""
    for name in dict.fromkeys((owner, NOBODY)):
        reply, _, store = scripts.publish(
            store, world.rules, token=token, owner=name, says=says, stores=False, lasts=False
        )
        if reply != "refused":
            break
    return store


_HOLDING = (BUSY, REPUBLISHING, RETRY_SENT)
_STEPS: dict[str, Callable[[World, State, int, Worker], Moves]] = {
    IDLE: _take,
    TAKEN: _ensure,
    STAMPED: _claim,
    LATE: _read_late,
    SELF_ELECTING: _self_elect,
    BUSY: _compute,
    RELEASED: _send_retry,
    RETRY_SENT: _release_after_sending,
    REPUBLISHING: _publish,
}
