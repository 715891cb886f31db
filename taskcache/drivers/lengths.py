"""
This is where a value is recognised that is longer than the server takes.

The server says so and hangs up while the value is still being sent. What it said is lost then: whoever sends sees a broken
connection. So a server that broke off within a long value is told the length alone, of which it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from taskcache.protocol.steps import Call

# What every server takes: none can be given a lower `proto-max-bulk-len`.
ALWAYS_BYTES: Final = 1024 * 1024
_SAID: Final = "invalid bulk length"
# A length that it takes, it does not answer: it waits for the value.
ANSWER_S: Final = 1.0


def is_long(calls: Sequence[Call]) -> bool:
    """Whether there is a value in these calls that a server may refuse."""
    return _longest(calls)[0] > ALWAYS_BYTES


def refused_bytes(client: Any, error: Exception, calls: Sequence[Call]) -> int:
    """The length that the server of `client` refuses, when that is why these calls ended with `error`; 0 otherwise."""
    size, call = _longest(calls)
    if call is None or size <= ALWAYS_BYTES:
        return 0
    is_refused = _SAID in str(error) or (isinstance(error, RedisConnectionError) and _refuses(client, call, size))
    return size if is_refused else 0


def _longest(calls: Sequence[Call]) -> tuple[int, Call | None]:
    longest: tuple[int, Call | None] = (0, None)
    for call in calls:
        for word in call.args:
            if isinstance(word, bytes) and len(word) > longest[0]:
                longest = len(word), call
    return longest


def _refuses(client: Any, call: Call, size: int) -> bool:
    connection: Any = None
    try:
        if hasattr(client, "get_node_from_key"):
            client = client.get_redis_connection(client.get_node_from_key(call.keys[0]))
        connection = client.connection_pool.get_connection()
        connection.send_packed_command([b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % size])
        if connection.can_read(ANSWER_S):
            connection.read_response()
    except (RedisError, OSError) as error:
        return _SAID in str(error)
    finally:
        if connection is not None:
            connection.disconnect()
            client.connection_pool.release(connection)
    return False
