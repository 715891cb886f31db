"""This is where near values are held by hand: no server, no clock, no threads."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

from taskcache.near.entries import NEVER, OVERHEAD_BYTES, Entries, Held

STAMP, TAG = b"cache~fn:f", b"cache~tag:t"


def entries(max_entries: int = 100, max_bytes: int = 2**20) -> Entries:
    return Entries(b"cache~", max_entries, max_bytes)


def keep(held: Entries, key: bytes, value: Any = 1, *, until: float = 100.0, size: int = 50, **options: Any) -> Any:
    """Read a value into its place with nothing happening meanwhile."""
    place = held.expect(key)
    return put(held, place, value, until=until, size=size, **options)


def put(held: Entries, place: Any, value: Any = 1, *, until: float = 100.0, size: int = 50, **options: Any) -> Any:
    stamps = options.get("stamps", ((STAMP, b"s" * 12),))
    return held.keep(place, value, None, until=until, size_bytes=size, stamps=stamps, created_ms=0)


def test_a_kept_value_is_found() -> None:
    """What was put into its place is there."""
    near = entries()
    keep(near, b"cache:a", "value")

    assert "value" == found(near, b"cache:a")


def found(near: Entries, key: bytes) -> Any:
    held = near.find(key)
    return None if held is None else held.take()


def test_a_value_that_changed_while_it_was_read_is_not_kept() -> None:
    """The report of a change overtakes the reply of the read: the place is gone, and the old value has nowhere to go."""
    near = entries()
    place = near.expect(b"cache:a")
    near.changed([b"cache:a"])

    assert (None, None) == (put(near, place, "old"), found(near, b"cache:a"))


def test_a_stamp_that_changed_while_a_value_was_read_keeps_it_out() -> None:
    """Also a stamp that nobody here has heard of: the value may be the first to carry it."""
    near = entries()
    place = near.expect(b"cache:a")
    near.changed([b"cache~tag:new"])

    assert (None, None) == (put(near, place), found(near, b"cache:a"))


def test_another_entry_that_changed_meanwhile_does_no_harm() -> None:
    """Traffic on other keys does not keep values out."""
    near = entries()
    place = near.expect(b"cache:a")
    near.changed([b"cache:b", b"other~fn:f"])
    put(near, place, "value")

    assert "value" == found(near, b"cache:a")


def test_the_later_of_two_readers_keeps_its_value() -> None:
    """A place belongs to who asked last; the other one's value came from an older read."""
    near = entries()
    first, second = near.expect(b"cache:a"), near.expect(b"cache:a")
    put(near, first, "older")
    put(near, second, "newer")

    assert "newer" == found(near, b"cache:a")


def test_a_changed_entry_is_gone() -> None:
    """The report of a change takes one value away."""
    near = entries()
    keep(near, b"cache:a")
    keep(near, b"cache:b", 2)
    near.changed([b"cache:a"])

    assert (None, 2, 1) == (found(near, b"cache:a"), found(near, b"cache:b"), len(near))


def test_a_touched_stamp_hides_values_until_it_is_read_again() -> None:
    """Extending a stamp's life looks like a change; the next read that finds it the same brings all values back."""
    near = entries()
    keep(near, b"cache:a", 1)
    keep(near, b"cache:b", 2)
    near.changed([STAMP])
    hidden = (found(near, b"cache:a"), found(near, b"cache:b"))
    keep(near, b"cache:a", 1)

    assert ((None, None), 1, 2) == (hidden, found(near, b"cache:a"), found(near, b"cache:b"))


def test_a_stamp_that_is_another_afterwards_ends_all_values_under_the_old_one() -> None:
    """What was computed under another stamp never comes back."""
    near = entries()
    keep(near, b"cache:a", 1)
    keep(near, b"cache:b", 2)
    near.changed([STAMP])
    keep(near, b"cache:a", 3, stamps=((STAMP, b"t" * 12),))

    assert (3, None) == (found(near, b"cache:a"), found(near, b"cache:b"))


def test_two_reads_that_disagree_about_a_stamp_are_both_doubted() -> None:
    """One of them is older than a change whose report is still on its way; which, nobody knows yet."""
    near = entries()
    keep(near, b"cache:a", 1)
    keep(near, b"cache:b", 2, stamps=((STAMP, b"t" * 12),))

    assert (None, None) == (found(near, b"cache:a"), found(near, b"cache:b"))


def test_each_tag_counts() -> None:
    """A value holds while all its stamps do."""
    near = entries()
    keep(near, b"cache:a", 1, stamps=((STAMP, b"s" * 12), (TAG, b"t" * 12)))
    keep(near, b"cache:b", 2)
    near.changed([TAG])

    assert (None, 2) == (found(near, b"cache:a"), found(near, b"cache:b"))


def test_values_expire() -> None:
    """A sweep removes what has reached its time, and the next time is known."""
    near = entries()
    keep(near, b"cache:a", until=10)
    keep(near, b"cache:b", until=20)
    before = near.next_expiry
    near.sweep(10)

    assert (10, None, 1, 20) == (before, found(near, b"cache:a"), found(near, b"cache:b"), near.next_expiry)


def test_there_are_never_more_entries_than_allowed() -> None:
    """The one that would expire first goes first."""
    near = entries(max_entries=10)
    for number in range(100):
        keep(near, b"cache:%d" % number, number, until=100 + number)

    assert (10, list(range(90, 100))) == (len(near), [found(near, b"cache:%d" % number) for number in range(90, 100)])


def test_there_are_never_more_bytes_than_allowed() -> None:
    """Large values make room by themselves, and one larger than everything is not kept at all."""
    near = entries(max_entries=1000, max_bytes=20_000)
    for number in range(100):
        keep(near, b"cache:%d" % number, until=100 + number, size=5_000 - OVERHEAD_BYTES)
    too_large = keep(near, b"cache:huge", size=20_001)

    assert (4, 20_000, None) == (len(near), near.size_bytes, too_large)


def test_a_value_that_is_replaced_counts_once() -> None:
    """The same key again takes the place of the old one."""
    near = entries()
    for _ in range(10):
        keep(near, b"cache:a", size=100)

    assert (1, 100 + OVERHEAD_BYTES) == (len(near), near.size_bytes)


def test_clearing_forgets_what_is_being_read_too() -> None:
    """After a lost connection nothing that was read before it may be kept."""
    near = entries()
    keep(near, b"cache:a")
    place = near.expect(b"cache:b")
    near.clear()

    assert (None, None, 0, 0, NEVER) == (
        put(near, place),
        found(near, b"cache:a"),
        len(near),
        near.size_bytes,
        near.next_expiry,
    )


def test_churn_leaves_nothing_behind() -> None:
    """A key that changes again and again, long before it would expire, takes the room of one entry."""
    near = entries()
    for _ in range(1000):
        keep(near, b"cache:a", until=1e9, stamps=((STAMP, b"s" * 12), (b"cache~tag:%d" % _, b"t" * 12)))
        near.changed([b"cache:a"])

    assert (0, 0) == (len(near), near.size_bytes)
    assert len(near._by_expiry) < 100
    assert len(near._stamps) <= 1


def test_an_index_loses_what_is_gone() -> None:
    """Whatever takes a value away takes it out of the index by arguments too."""
    near, index = entries(max_entries=3), dict[Any, Held]()
    for number in range(4):
        held = keep(near, b"cache:%d" % number, until=10.0 + number)
        held.index, held.index_key = index, (number,)
        index[number,] = held
    near.changed([b"cache:1"])
    near.sweep(12.0)

    assert [(3,)] == list(index)


def test_the_books_agree_with_what_is_held() -> None:
    """Whatever happens in whatever order: bytes and expiry are those of the entries, and bounds hold."""
    chance = random.Random(4)
    near, sizes = entries(max_entries=20, max_bytes=30_000), {}
    for turn in range(3000):
        key = b"cache:%d" % chance.randrange(40)
        action = chance.random()
        if action < 0.6:
            size = chance.randrange(2000)
            if keep(near, key, until=turn + chance.randrange(200), size=size):
                sizes[key] = size + OVERHEAD_BYTES
        elif action < 0.9:
            near.changed([key])
        else:
            near.sweep(turn)
        assert near.size_bytes == sum(sizes[key] for key in near._held) <= 30_000
        assert len(near) <= 20
        assert near.next_expiry <= min((held.until for held in near._held.values()), default=NEVER)


def test_the_overhead_is_what_an_entry_costs_besides_its_bytes() -> None:
    """Counted bytes are never less than what an entry takes in memory, its index by arguments included."""
    near, index, count = entries(max_entries=20_000, max_bytes=2**30), dict[Any, Held](), 5000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            key, value = b"cache:shop.price:%032x" % number, "v" * 100
            held = keep(near, key, value + str(number), until=100.0 + number, size=200)
            held.index, held.index_key = index, (number, f"name-{number}")
            index[held.index_key] = held
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before <= near.size_bytes
