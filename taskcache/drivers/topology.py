"""This is where we reach the server: an address or a client becomes one `Server`, whatever stands behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis
from redis.cluster import RedisCluster
from redis.connection import BlockingConnectionPool, ConnectionPool
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from taskcache.drivers.clients import client_of, describe, hang_up_idle
from taskcache.drivers.commands import (
    as_command,
    by_node,
    joined,
    loading,
    node_of,
    packed,
    parted,
    scan_reply,
    unlinks,
)
from taskcache.drivers.lengths import refused_bytes
from taskcache.drivers.stores import Stores
from taskcache.drivers.subscription import ByHand, ByRedisPy, Subscription
from taskcache.drivers.wire import SILENT, Broken, wire_to
from taskcache.errors import NoServer, UsageError, ValueTooLarge
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Call

# Errors that say «not now»: the server is full, loading, a replica, or busy with somebody's script.
_REFUSALS = ("OOM", "READONLY", "LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "TRYAGAIN")
# redis-py makes classes of some of them and takes the word off the text. While a slot moves it goes after its keys for a
# few rounds, and ends with a ClusterError or with the last redirection.
_REFUSED = (OutOfMemoryError, ReadOnlyError, MasterDownError, NoScriptError, TryAgainError, AskError, ClusterError)
# What leaves entries and stamps as they are. A command that is missing here costs a copy, not a wrong value.
_HARMLESS: Final = frozenset(
    (
        *("MGET", "GET", "PTTL", "TIME", "HMGET", "PEXPIRE", "PERSIST", "PUBLISH"),
        *("elect", "claim", "renew", "release", "follow", "leave"),
    )
)
# What our own wire carries: it can be carried out twice, and its reply needs no redis-py to be made sense of.
_BY_WIRE: Final = frozenset(
    (*SCRIPTS, "SCRIPT", "MGET", "GET", "SET", "DEL", "UNLINK", "PTTL", "PEXPIRE", "PERSIST", "TIME", "HMGET", "PING")
)


# What redis-py raises when no good answer came. A cluster none of whose nodes can be reached is no RedisError there.
FAILURES: Final = (RedisError, RedisClusterException)


class Obstructed(NoServer):
    """A key of ours is of another type: this call goes without the cache, and the server is as well as ever."""


class Server:
    """One Redis or Valkey, or a Sentinel or Cluster of them, as the protocol sees it."""

    def __init__(self, database: Any, *, own_wire: bool = False) -> None:
        self.client: Any = client_of(database)
        self.wire = wire_to(self.client) if own_wire else None
        self.is_cluster = isinstance(self.client, RedisCluster)
        self.url = describe(self.client)
        self.stores = Stores()
        # Those who keep copies in this process; they forget what is written before the one who wrote it is told.
        self.keepers_of_copies: list[Callable[[Sequence[bytes]], None]] = []

    def call(self, call: Call) -> Any:
        """Run one command or script; raises NoServer when no good answer came."""
        try:
            if call.name == "INCRBY":
                return self._once(call)
            replies = self._by_wire((call,))
            return self._run(call) if replies is None else self._again(call, replies[0])
        except FAILURES as error:
            raise self.explain(error, (call,)) from error
        except BaseException:
            hang_up_idle(self.client)
            raise
        finally:
            self.wrote((call,))

    def wrote(self, calls: Sequence[Call]) -> None:
        """Have copies forgotten, also when no answer came: the command may have been carried out."""
        for forget in self.keepers_of_copies:
            for call in calls:
                if call.name not in _HARMLESS:
                    forget(call.keys)

    def calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run several in one round trip, of each node in a Cluster; raises NoServer when any of them failed."""
        if len(calls) == 1:
            return [self.call(calls[0])]
        replies = self._replies(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def replies(self, calls: Sequence[Call]) -> list[Any]:
        """
        Run several that have nothing to do with each other; what went wrong with one is an error in place of its reply.

        Raises NoServer when nothing was answered at all. Each node of a Cluster is asked by itself, one after the other:
        redis-py asks none of them when one cannot be reached.
        """
        if not self.is_cluster:
            return self._replies(calls)
        found: dict[int, Any] = {}
        lost: list[NoServer] = []
        groups = by_node(self.client, calls)
        for places in groups:
            try:
                replies = self._replies([calls[place] for place in places])
            except NoServer as error:
                lost.append(error)
                replies = [error] * len(places)
            found |= zip(places, replies, strict=True)
        # One node that is away says nothing of those that were not asked.
        if len(lost) == len(groups) > 1:
            raise lost[0]
        return [found[place] for place in range(len(calls))]

    def _replies(self, calls: Sequence[Call]) -> list[Any]:
        try:
            replies = self._by_wire(calls) or (self._by_pipeline(calls) if len(calls) > 1 else [self._alone(calls[0])])
            # A pipeline that swallows NOSCRIPT looks alive and does nothing: every reply is looked at.
            return [self._looked_at(call, reply) for call, reply in zip(calls, replies, strict=True)]
        except FAILURES as error:
            raise self.explain(error, calls) from error
        except BaseException:
            hang_up_idle(self.client)
            raise
        finally:
            self.wrote(calls)

    def _alone(self, call: Call) -> Any:
        """A reply, also where it is an error: a server that refuses is no server that does not answer."""
        try:
            return self._run(call)
        except ResponseError as error:
            return error

    def _looked_at(self, call: Call, reply: Any) -> Any:
        """The reply, after a second try where that helps, or the error in our words."""
        try:
            return self._again(call, reply)
        except FAILURES as error:
            explained = self.explain(error, (call,))
            if explained is not error:
                explained.__cause__ = error
            return explained

    def _by_wire(self, calls: Sequence[Call]) -> list[Any] | None:
        """The replies, errors among them; None where redis-py has to do it, be it a second time: scripts can be repeated."""
        if self.wire is None:
            return None
        commands = [packed(call) for call in calls if call.name in _BY_WIRE]
        if len(commands) < len(calls):
            return None
        try:
            return self.wire.commands(b"".join(commands), len(commands))
        except SILENT as error:
            # It has had its time, and a second try would have as much again.
            raise RedisTimeoutError("no reply within the client's time") from error
        except Broken:
            return None

    def _by_pipeline(self, calls: Sequence[Call]) -> list[Any]:
        parts = parted(calls) if self.is_cluster else calls
        with self.client.pipeline(transaction=False) as pipeline:
            for call in parts:
                command, options = as_command(call)
                if self.is_cluster:
                    options |= node_of(self.client, call)
                pipeline.execute_command(*command, **options)
            replies = list(pipeline.execute(raise_on_error=False))
        return joined(calls, replies) if self.is_cluster else replies

    def _again(self, call: Call, reply: Any) -> Any:
        if isinstance(reply, NoScriptError):
            replies = self._by_wire((loading(call), call))
            if replies is None:
                return self._run(call)
            reply = replies[1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _run(self, call: Call) -> Any:
        if self.is_cluster and call.name == "MGET":
            (reply,) = self._by_pipeline((call,))
            return self._again(call, reply)
        command, options = as_command(call)
        try:
            return self.client.execute_command(*command, **options)
        except NoScriptError:
            self.client.script_load(SCRIPTS[call.name].text)
            return self.client.execute_command(*command, **options)

    def _once(self, call: Call) -> Any:
        """Send what must not be carried out twice: redis-py sends again what it has sent on a connection that broke."""
        client = self.client
        if self.is_cluster:
            client = client.get_redis_connection(client.get_node_from_key(call.keys[0]))
        # The pool looks whether it was closed meanwhile, so an idle connection that died costs nobody a count.
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*as_command(call)[0])
            return connection.read_response()
        except (AskError, TryAgainError):
            return self._run(call)  # not counted: the key is elsewhere
        except BaseException:
            connection.disconnect()
            raise
        finally:
            client.connection_pool.release(connection)

    def scan(self, pattern: bytes, count: int = 1000) -> Iterator[list[bytes]]:
        """Yield pages of keys that match, without holding up other clients; a key may come twice."""
        nodes = self.client.get_primaries() if self.is_cluster else [None]
        try:
            for node in nodes:
                target = {"target_nodes": node} if node is not None else {}
                cursor = 0
                while True:
                    reply = self.client.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", count, **target)
                    cursor, page = scan_reply(reply)
                    if page:
                        yield page
                    if not cursor:
                        break
        except FAILURES as error:
            raise self.explain(error) from error

    def unlink(self, keys: Sequence[bytes]) -> int:
        """Remove keys, without holding up other clients while their memory is freed; how many were there."""
        return 0 if not keys else sum(self.calls(unlinks(keys, self.is_cluster)))

    def subscribe(self, channel: str) -> Subscription:
        """Listen to a channel on a connection of its own; raises OSError or RedisError."""
        if self.wire is None:
            return ByRedisPy(self.client, channel)
        return ByHand(self.client.connection_pool, channel)

    def explain(self, error: RedisError | RedisClusterException, calls: Sequence[Call] = ()) -> Exception:
        """Put the redis-py error of these calls into words that name the cure."""
        reason = str(error) or type(error).__name__
        size = refused_bytes(self.client, error, calls)
        if size:
            return ValueTooLarge(
                f"{self.url} takes no value of {size} bytes; raise its `proto-max-bulk-len`, return a reference to the "
                "value, or split it into several calls."
            )
        if isinstance(error, AuthenticationError):
            return NoServer(f"{self.url} refused the user name or password ({reason}); correct them in the URL.")
        if isinstance(error, NoPermissionError):
            return NoServer(f"{self.url} does not permit what taskcache needs ({reason}); see deploy/users.acl.")
        if isinstance(error, RedisTimeoutError):
            return NoServer(f"{self.url} did not answer in time ({reason}); check that it runs and is not overloaded.")
        if isinstance(error, RedisConnectionError | ClusterDownError | RedisClusterException):
            return NoServer(f"{self.url} cannot be reached ({reason}); check the address and that the server runs.")
        if reason.startswith(_REFUSALS) or isinstance(error, _REFUSED):
            return NoServer(f"{self.url} cannot serve now ({reason}).")
        if reason.startswith("WRONGTYPE"):
            return Obstructed(
                f"{self.url} holds something that is not taskcache's under a key of taskcache; remove it."
            )
        if "DB index" in reason or reason.startswith("SELECT "):
            # An answer to connecting, which every command and script meets that has to connect first.
            return NoServer(
                f"{self.url} has no such database ({reason}); correct the number at the end of the address."
            )
        if "not an integer" in reason:
            return UsageError("this key holds something else than a counter; delete it, or count with incr only")
        if "would overflow" in reason:
            return UsageError("this counter would go over 64 bits; count in larger units, or begin anew with `delete`")
        return error

    def copy_client(self) -> Any:
        """A client of the same server that shares no connection with this one."""
        pool: Any = getattr(self.client, "connection_pool", None)
        if type(pool) not in (ConnectionPool, BlockingConnectionPool):
            return self.client
        return redis.Redis(
            connection_pool=ConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs)
        )

    def after_fork(self) -> None:
        """Forget the parent's connections; redis-py notices the fork by itself, once it has its own locks."""
        pool = getattr(self.client, "connection_pool", None)
        for name in ("_lock", "_fork_lock"):
            # A thread that does not exist here may have held them: the first command would wait for it for ever.
            if hasattr(pool, name):
                setattr(pool, name, threading.RLock())
        if self.wire is not None:
            self.wire.after_fork()

    def close(self) -> None:
        """Close this process's connections; what the server could is found out anew."""
        self.stores = Stores()
        if self.wire is not None:
            self.wire.close()
        self.client.close()
