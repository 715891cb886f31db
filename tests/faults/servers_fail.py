"""This is where the cache's server dies, forgets, hangs, and refuses to write."""

from __future__ import annotations

import contextlib
import threading
import time

import redis

from tests.faults.scenario import ALL, Play, row
from tests.faults.stage import BACKEND_DB, LONG_S
from tests.nodes.waiting import wait_until


def _running(play: Play, function: str = "held") -> None:
    play.worker()
    play.ask(function)
    play.begun()
    play.renewed()


def _pass(seconds: float) -> None:
    """Let a fault last: nothing announces its end but the clock."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, "time to pass", seconds + 5)


def _later_callers_hit(play: Play, at_most: int) -> None:
    """Whoever comes afterwards starts at most one more run, and the value is stored then."""
    client = play.clients[1]
    wait_until(lambda: client.ask("reaches_cache()"), "the cache to be reached", LONG_S)
    tickets = [int(client.ask(f"ask('held', {play.name!r}, 30)")) for _ in range(3)]
    for ticket in tickets:
        assert "value" == client.ask(f"answer({ticket})")[0]
    assert play.runs() <= at_most, f"{play.runs()} runs"
    assert client.ask(f"app.held.peek({play.name!r}) is not None"), "nothing is stored"


@row("cache server restarted empty while the body runs", at_most=2, within_s=5, pools=ALL)
def cache_emptied(play: Play) -> None:
    """Who waited gets the finished value without a second run; later callers start one more. Times from the body's end."""
    _running(play)
    play.stage.cache.restart(keep_data=False)
    _pass(1.0)
    with play.fault():
        play.open()
    play.answered()
    assert 1 == play.runs(), "those who waited need no second run"
    _later_callers_hit(play, 2)


@row("cache server restarted with its data while the body runs", within_s=5, pools=ALL)
def cache_restarted(play: Play) -> None:
    """Nothing is lost: the value is stored under its flight. Times from the body's end."""
    _running(play)
    play.stage.cache.restart(keep_data=True)
    with play.fault():
        play.open()
    play.answered()
    _later_callers_hit(play, 1)


@row("cache server dead for 20 s, then empty; the body ends meanwhile", at_most=2, within_s=5, pools=ALL)
def cache_dead_at_publish(play: Play) -> None:
    """The finished value is offered until the server is back; no second run for those who waited. Times from its return."""
    _running(play)
    play.stage.cache.kill()
    play.open()
    _pass(20)
    play.stage.cache.start()
    with play.fault():
        pass
    play.answered()
    assert 1 == play.runs(), "those who waited need no second run"
    _later_callers_hit(play, 2)


@row("cache server dies while the body runs and does not come back", sees="NoServer", words=("NoServer",), within_s=45)
def cache_dead_for_good(play: Play) -> None:
    """There is no way left for the value; after half a minute of trying every waiter is told so."""
    _running(play)
    with play.fault():
        play.stage.cache.kill()
    play.open()
    play.answered()


@row(
    "cache server dies while the body runs and does not come back; Celery's result backend is another",
    sees="NoServer",
    words=("NoServer",),
    within_s=15,
    without_celery="its result is not in the cache",
)
def publish_given_up(play: Play) -> None:
    """After 3 s here: a warning names what is not stored, and to Celery the task has failed; one sent by `.delay()` has not."""
    play.alone()
    elsewhere = {"FAULTS_BACKEND": play.stage.calm.url(BACKEND_DB + 1), "FAULTS_PATIENCE": "3"}
    worker = play.worker(env=elsewhere)
    client = play.people(env=elsewhere)[0]
    play.ask("held")
    play.begun()
    direct = f"{play.name}-direct"
    sent = client.ask(f"app.held.task.delay({direct!r}).id")
    play.stage.ledger.wait_runs(direct, timeout=LONG_S)
    play.renewed()
    id = play.dispatched()
    with play.fault():
        play.stage.cache.kill()
    play.open()
    play.stage.ledger.open(direct)
    play.answered()
    worker.wait_for_log("a result of tests.faults.app.held could not be stored (", timeout=LONG_S)
    worker.wait_for_log(f"[{id}] raised unexpected: NoServer", timeout=LONG_S)
    # Its sender reads the value from Celery, where it is; nobody asks Celery for the other one, which stores nothing there.
    wait_until(lambda: client.ask(f"told_by_celery({sent!r})") == ["SUCCESS", f"{direct} 1"], "Celery's value", LONG_S)


@row("cache server dead when the call is made", sees="the value, computed by each process", at_most=4, within_s=8)
def cache_dead(play: Play) -> None:
    """Each process computes for itself, is told once in its log, and a breaker leaves the dead server alone."""
    play.worker()
    play.people()
    play.open()
    play.stage.cache.kill()
    with play.fault():
        play.ask("held")
    play.answered()
    assert play.runs() <= 3, "one for each process"
    play.stage.cache.start()
    _later_callers_hit(play, play.runs() + 1)


@row(
    "cache server accepts and never answers when the call is made",
    sees="the value, computed by each process",
    at_most=4,
    within_s=25,
)
def cache_blackholed(play: Play) -> None:
    """The first command gives up after its timeouts; calls of the next second do not try."""
    play.worker()
    play.people()
    play.open()
    play.stage.cache_net.blackhole = True
    with play.fault():
        play.ask("held")
    play.answered()
    assert play.runs() <= 3, "one for each process"
    play.stage.cache_net.blackhole = False
    _later_callers_hit(play, play.runs() + 1)


@row("the clients' network to the cache hangs for 8 s while they wait", within_s=16)
def cache_network_hangs(play: Play) -> None:
    """The worker publishes; the clients find the value when the network is back. Times from the begin of the hang."""
    _running(play)
    with play.fault():
        play.stage.cache_net.blackhole = True
    play.open()
    _pass(8)
    play.stage.cache_net.blackhole = False
    play.answered()
    _later_callers_hit(play, 1)


@row("CLIENT PAUSE for 8 s while the body runs", at_most=2, within_s=13, pools=ALL)
def cache_paused(play: Play) -> None:
    """The value comes after the pause. The lease is over then: who waits needs no second run, later callers start one."""
    _running(play)
    with play.stage.cache.client() as cache:
        cache.execute_command("CLIENT", "PAUSE", 8000, "ALL")
    with play.fault():
        play.open()
    play.answered()
    assert 1 == play.runs(), "those who waited need no second run"
    _later_callers_hit(play, 2)


@row("CLIENT PAUSE for 3 s when the call is made", within_s=8)
def cache_paused_at_call(play: Play) -> None:
    """The call is made when the pause is over: nobody computes beside its flight."""
    play.worker()
    play.people()
    play.open()
    with play.stage.cache.client() as cache:
        cache.execute_command("CLIENT", "PAUSE", 3000, "ALL")
    with play.fault():
        play.ask("held")
    play.answered()
    _later_callers_hit(play, 1)


@row("cache server SIGSTOPped for 8 s while the body runs", at_most=2, within_s=13, pools=ALL)
def cache_stopped(play: Play) -> None:
    """The same with the whole process frozen, beyond the lease."""
    _running(play)
    play.stage.cache.pause()
    with play.fault():
        play.open()
    _pass(8)
    play.stage.cache.resume()
    play.answered()
    assert 1 == play.runs(), "those who waited need no second run"
    _later_callers_hit(play, 2)


@row("cache server out of memory when the body ends, for 5 s", within_s=10, pools=ALL)
def cache_full(play: Play) -> None:
    """The publish is refused and tried again until there is room."""
    _running(play)
    with play.stage.cache.client() as cache:
        cache.config_set("maxmemory", 1)
    with play.fault():
        play.open()
    _pass(5)
    with play.stage.cache.client() as cache:
        cache.config_set("maxmemory", 0)
    play.answered()
    _later_callers_hit(play, 1)


@row(
    "cache server out of memory when the call is made",
    sees="the value, computed by each process",
    at_most=4,
    within_s=5,
)
def cache_full_before(play: Play) -> None:
    """A full server that refuses writes counts as away: each process computes."""
    play.worker()
    play.people()
    play.open()
    with play.stage.cache.client() as cache:
        cache.config_set("maxmemory", 1)
    with play.fault():
        play.ask("held")
    play.answered()
    assert play.runs() <= 3, "one for each process"
    with play.stage.cache.client() as cache:
        cache.config_set("maxmemory", 0)
    _later_callers_hit(play, play.runs() + 1)


@row(
    "cache server is a read-only replica when the call is made",
    sees="the value, computed by each process",
    at_most=4,
    within_s=5,
)
def cache_read_only(play: Play) -> None:
    """A client that was left with a demoted primary computes."""
    play.worker()
    play.people()
    play.open()
    with play.stage.cache.client() as cache:
        cache.replicaof("127.0.0.1", str(play.stage.calm.port))
        wait_until(lambda: cache.info("replication").get("master_link_status") == "up", "the replica", LONG_S)
    with play.fault():
        play.ask("held")
    play.answered()
    assert play.runs() <= 3, "one for each process"
    with play.stage.cache.client() as cache:
        cache.replicaof("NO", "ONE")
    _later_callers_hit(play, play.runs() + 1)


@row("cache server is a read-only replica for 5 s when the body ends", at_most=3, within_s=10, pools=ALL)
def cache_read_only_at_publish(play: Play) -> None:
    """The publish is tried again; those who wait may begin anew, since an empty replica lets nobody re-assert a flight."""
    _running(play)
    with play.stage.cache.client() as cache:
        cache.replicaof("127.0.0.1", str(play.stage.calm.port))
    with play.fault():
        play.open()
    _pass(5)
    with play.stage.cache.client() as cache:
        cache.replicaof("NO", "ONE")
    play.answered()
    _later_callers_hit(play, play.runs() + 1)


@row(
    "a script of somebody else's keeps the cache server busy for 3 s when the call is made",
    sees="the value, computed by each process or after the script",
    at_most=4,
    within_s=12,
)
def cache_busy(play: Play) -> None:
    """BUSY counts as away: each process computes."""
    play.worker()
    play.people()
    play.open()
    thread = threading.Thread(target=_keep_busy, args=(play, 3.0))
    thread.start()
    _pass(0.3)
    with play.fault():
        play.ask("held")
    play.answered()
    assert play.runs() <= 3, "one for each process"
    thread.join()
    _later_callers_hit(play, play.runs() + 1)


@row(
    "a script of somebody else's keeps the cache server busy for 5 s when the body ends",
    at_most=2,
    within_s=10,
    pools=ALL,
)
def cache_busy_at_publish(play: Play) -> None:
    """The publish is refused and tried again, past its lease: later callers start one more run."""
    _running(play)
    thread = threading.Thread(target=_keep_busy, args=(play, 5.0))
    thread.start()
    _pass(0.3)
    with play.fault():
        play.open()
    play.answered()
    thread.join()
    assert 1 == play.runs(), "those who waited need no second run"
    _later_callers_hit(play, 2)


def _keep_busy(play: Play, seconds: float) -> None:
    script = "local n = 0 while n < 1e15 do n = n + 1 end"
    with play.stage.cache.client() as cache, play.stage.cache.client() as other:
        timer = threading.Timer(seconds, lambda: other.script_kill())
        timer.start()
        with contextlib.suppress(redis.ResponseError, redis.TimeoutError):  # however its end is said
            cache.eval(script, 0)
        timer.join()
