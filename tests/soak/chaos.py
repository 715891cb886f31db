"""This is where things go wrong at random, and the same things again from the same seed."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import redis

if TYPE_CHECKING:
    from tests.soak.stage import Stage

# A pause may be longer than a lease: what wakes up then is a zombie.
LONGEST_PAUSE_S = 4.0
LONGEST_AWAY_S = 2.0


class Chaos(threading.Thread):
    """One event after the other, with a breath in between in which the fleet may recover or not."""

    def __init__(self, stage: Stage, seed: int) -> None:
        super().__init__(name="chaos", daemon=True)
        self.stage, self.draw = stage, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._ends = threading.Event()
        self.events: tuple[tuple[int, Callable[[], None]], ...] = (
            (3, self.kill_worker),
            (3, self.kill_pool_process),
            (3, self.pause_worker),
            (2, self.kill_client),
            (2, self.pause_client),
            (4, self.drop_connections),
            (2, self.drop_wakeups),
            (2, self.pause_server),
            (1, self.restart_broker),
            (1, self.lose_broker),
            (1, self.kill_cache),
            (1, self.lose_cache),
            (1, self.empty_cache),
        )

    def run(self) -> None:
        try:
            while not self._ends.wait(self.draw.uniform(0.3, 1.5)):
                weights = [weight for weight, _ in self.events]
                event = self.draw.choices([event for _, event in self.events], weights)[0]
                self.counts[event.__name__.replace("_", " ")] += 1
                with self.stage.lock:
                    event()
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self._ends.set()
        self.join(60)

    # -- the events

    def kill_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        worker.kill()
        worker.start(wait=False)

    def kill_pool_process(self) -> None:
        worker = self.draw.choice([each for each in self.stage.workers if each.pool == "prefork"])
        children = worker.pool_processes()
        if children:
            with suppress(psutil.NoSuchProcess):
                self.draw.choice(children).kill()

    def pause_worker(self) -> None:
        worker = self.draw.choice(self.stage.workers)
        with suppress(ProcessLookupError):
            worker.pause()
            time.sleep(self.draw.uniform(0.2, LONGEST_PAUSE_S))
            worker.resume()

    def kill_client(self) -> None:
        self.stage.restart_client(self.draw.randrange(len(self.stage.clients)))

    def pause_client(self) -> None:
        client = self.draw.choice(self.stage.clients)
        client.session.pause()
        time.sleep(self.draw.uniform(0.2, LONGEST_PAUSE_S))
        client.session.resume()

    def drop_connections(self) -> None:
        """Some of all connections to the cache, whatever they were doing."""
        with self.stage.cache.client() as client:
            for found in client.client_list():
                if self.draw.random() < 0.3:
                    with suppress(redis.ResponseError):
                        client.client_kill_filter(_id=found["id"], skipme=True)

    def drop_wakeups(self) -> None:
        with self.stage.cache.client() as client:
            client.client_kill_filter(_type="pubsub", skipme=True)

    def pause_server(self) -> None:
        with self.stage.cache.client() as client:
            client.client_pause(self.draw.randrange(100, 2_000), all=True)

    def restart_broker(self) -> None:
        self.stage.broker.restart(keep_data=True)

    def lose_broker(self) -> None:
        """With every message that nobody had begun; waiters see an empty queue and send them again."""
        self.stage.broker.restart(keep_data=False)

    def kill_cache(self) -> None:
        """It comes back with all it had acknowledged, which an invalidation that has returned is part of."""
        self._bring_cache_back(keep_data=True)

    def lose_cache(self) -> None:
        self._bring_cache_back(keep_data=False)

    def _bring_cache_back(self, *, keep_data: bool) -> None:
        cache = self.stage.cache
        cache.kill()
        if not keep_data:
            shutil.rmtree(cache.folder / "appendonlydir")
        time.sleep(self.draw.uniform(0, LONGEST_AWAY_S))
        cache.start()

    def empty_cache(self) -> None:
        self.stage.cache.empty()
