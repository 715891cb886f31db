"""This is where replies arrive in pieces, cut anywhere: what is read does not depend on where."""

from __future__ import annotations

from typing import Any

import pytest

from taskcache.drivers.wire import AHEAD, BUFFER_BYTES, PAGE, Broken, Unusual, Wire

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
        # How many questions had been asked when each receive began.
        self.asked_before: list[int] = []
        self._asked = 0

    def get_connection(self) -> Wired:
        return self

    def gettimeout(self) -> None:
        return None

    def sendall(self, packed: bytes) -> None:
        """Take a question; the answer is known."""
        self._asked += 1

    def recv_into(self, place: bytearray | memoryview) -> int:
        self.asked_before.append(self._asked)
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


def in_pages(keys: list[bytes], missing: bytes = b"_\r\n") -> list[bytes]:
    """What a server answers when it is asked for these keys page by page: each is there as its own value but b"no"."""
    found = [None if key == b"no" else key for key in keys]
    return [reply_of(found[start : start + PAGE], missing) for start in range(0, len(keys), PAGE)]


def test_pages_are_asked_for_ahead() -> None:
    """All pages of a few thousand keys are on their way before the first is read; of more, never more than so many."""
    keys = [b"%d" % number for number in range((AHEAD + 3) * PAGE + 7)]
    server = Wired(*in_pages(keys))
    pages = list(Wire(server).pages(keys))  # type: ignore[arg-type]  # stands for one

    assert keys == [value for page in pages for value in page]
    assert [AHEAD, AHEAD + 1, AHEAD + 2, AHEAD + 3, AHEAD + 4, AHEAD + 4] == server.asked_before[:6]
    assert 0 == server.ended


def test_pages_are_read_wherever_they_are_cut() -> None:
    """Two pages in one piece, and a page in many."""
    keys = [b"no" if number % 3 else b"%d" % number for number in range(3 * PAGE)]
    said = b"".join(in_pages(keys, b"$-1\r\n"))
    for cut in (1, 700, len(said) // 2, len(said) - 1):
        pages = list(Wire(Wired(said[:cut], said[cut:])).pages(keys))  # type: ignore[arg-type]  # stands for one

        assert [None if key == b"no" else key for key in keys] == [value for page in pages for value in page]


@pytest.mark.parametrize("second", [b"", b"-LOADING no\r\n", b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"])
def test_a_page_that_is_none_ends_the_connection(second: bytes) -> None:
    """The pages before it are good."""
    keys = [b"%d" % number for number in range(2 * PAGE)]
    server = Wired(in_pages(keys)[0], second)
    pages = Wire(server).pages(keys)  # type: ignore[arg-type]  # stands for one

    assert keys[:PAGE] == next(pages)
    with pytest.raises(Broken):
        next(pages)
    assert 1 == server.ended


def test_more_than_the_pages_ends_the_connection() -> None:
    """The values are good; what follows them is nobody's."""
    keys = [b"%d" % number for number in range(2 * PAGE)]
    server = Wired(*in_pages(keys), b"+more\r\n")
    server._pieces[1:] = [b"".join(server._pieces[1:])]
    with pytest.raises(Unusual):
        list(Wire(server).pages(keys))  # type: ignore[arg-type]  # stands for one

    assert 1 == server.ended


def test_pages_that_nobody_reads_end_the_connection() -> None:
    """What is still to come must not become the next reader's."""
    keys = [b"%d" % number for number in range(3 * PAGE)]
    server = Wired(*in_pages(keys))
    pages = Wire(server).pages(keys)  # type: ignore[arg-type]  # stands for one
    next(pages)
    pages.close()

    assert 1 == server.ended
