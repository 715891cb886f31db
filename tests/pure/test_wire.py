"""This is where replies arrive in pieces, cut anywhere: what is read does not depend on where."""

from __future__ import annotations

from typing import Any

import pytest

from taskcache.drivers.wire import BUFFER_BYTES, Unusual, Wire

STAMP, OTHER = b"s" * 12, b"longer than a stamp is"
VALUES: dict[str, list[bytes | None]] = {
    "both": [STAMP, b"value"],
    "an empty value": [STAMP, b""],
    "a value like a reply": [STAMP, b"\r\n$5\r\n*2\r\n$12\r\n"],
    "no stamp": [None, b"value"],
    "no value": [STAMP, None],
    "nothing": [None, None],
    "another first value": [OTHER, b"value"],
    "a long value": [STAMP, b"x" * 3 * BUFFER_BYTES],
    "a value as long as the buffer": [STAMP, b"x" * (BUFFER_BYTES - 40)],
}


class Wired:
    """The pool, the connection and the socket of a server that says what it is told to, piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self._sock = self
        self.ended = 0

    def get_connection(self) -> Wired:
        return self

    def gettimeout(self) -> None:
        return None

    def sendall(self, packed: bytes) -> None:
        """Take a question; the answer is known."""

    def recv_into(self, place: bytearray | memoryview) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        taken, rest = piece[: len(place)], piece[len(place) :]
        place[: len(taken)] = taken
        if rest:
            self._pieces.insert(0, rest)
        return len(taken)

    def disconnect(self) -> None:
        self.ended += 1

    def release(self, connection: object) -> None:
        pass


def reply_of(values: list[bytes | None], missing: bytes) -> bytes:
    """An array of bulk strings, as RESP2 and RESP3 differ in what is not there."""
    return b"*%d\r\n" % len(values) + b"".join(
        missing if value is None else b"$%d\r\n%b\r\n" % (len(value), value) for value in values
    )


def read(*pieces: bytes) -> tuple[Any, Any]:
    """What both ways to read two values make of these pieces."""
    return Wire(Wired(*pieces)).pair(b""), Wire(Wired(*pieces)).mget(b"", 2)  # type: ignore[arg-type]  # stands for one


@pytest.mark.parametrize("missing", [b"$-1\r\n", b"_\r\n"])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_reply_is_read_wherever_it_is_cut(values: list[bytes | None], missing: bytes) -> None:
    """In one piece, in two at each place of its first and last bytes, and byte by byte up to where values begin."""
    reply = reply_of(values, missing)
    # Shorter first pieces than the first line of a reply do not come from a server: it is one write.
    cuts = {*range(4, min(len(reply), 60)), *range(max(4, len(reply) - 30), len(reply))}
    found = [read(reply), *(read(reply[:cut], reply[cut:]) for cut in sorted(cuts))]
    found.append(read(reply[:4], *(reply[at : at + 1] for at in range(4, min(len(reply), 60))), reply[60:]))

    assert [(values, values)] * len(found) == found


def test_the_last_reply_is_not_read_into_the_next() -> None:
    """A buffer is used again; what it held is not taken for what has come."""
    first, second = reply_of([STAMP, b"first"], b"_\r\n"), reply_of([STAMP, b"other"], b"_\r\n")
    server = Wired(first, second[:20], second[20:-3], second[-3:])
    wire = Wire(server)  # type: ignore[arg-type]  # stands for one

    assert [[STAMP, b"first"], [STAMP, b"other"]] == [wire.pair(b""), wire.pair(b"")]


@pytest.mark.parametrize(
    "reply",
    [
        b"-ERR no\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"*2\r\n:1\r\n$1\r\na\r\n",
        reply_of([STAMP, b"value"], b"") + b"+more\r\n",
        reply_of([STAMP, None], b"_\r\n") + b"+more\r\n",
    ],
)
def test_anything_else_is_left_to_redis_py(reply: bytes) -> None:
    """And the connection with it is not used again."""
    server = Wired(reply)
    with pytest.raises(Unusual):
        Wire(server).pair(b"")  # type: ignore[arg-type]  # stands for one

    assert 1 == server.ended


@pytest.mark.parametrize("said", [b"", *(reply_of([STAMP, b"value"], b"")[:cut] for cut in (4, 12, 24, 28, 33))])
def test_an_end_in_the_middle_is_an_error(said: bytes) -> None:
    """What came before it is no value."""
    server = Wired(*([said] if said else []))
    with pytest.raises((Unusual, ConnectionError)):
        Wire(server).pair(b"")  # type: ignore[arg-type]  # stands for one

    assert 1 == server.ended
