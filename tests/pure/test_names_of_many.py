"""This is where the names of many entries are made together, and are those that are made one by one."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from taskcache.calls.primitives import Plain, redis_key_of
from taskcache.codec import Codec
from taskcache.drivers.stores import look_for_flights
from taskcache.protocol.entry import EntryKey
from taskcache.settings import Settings

# What names are put together with, and what is hard to encode, more often than chance would have it.
TEXT = st.text(st.sampled_from("ab{}:\0é\ud800") | st.characters())


@given(TEXT, st.lists(TEXT))
def test_redis_keys_of_many(name: str, keys: list[str]) -> None:
    """Whatever is in them."""
    made = Plain(name, Codec(Settings()), False).redis_keys(keys)

    assert [redis_key_of(name, key) for key in keys] == list(made)


@given(st.lists(TEXT, min_size=1))
def test_flights_of_many(keys: list[str]) -> None:
    """With hash tags, halves of them, and without, in whatever order."""
    redis_keys = [redis_key_of("cache", key) for key in keys]

    reader = hiredis.Reader()
    reader.feed(look_for_flights(redis_keys))
    command, *flights = reader.gets()

    assert b"EXISTS" == command
    assert sorted(EntryKey.of(redis_key).flight for redis_key in redis_keys) == sorted(flights)
    assert reader.gets() is False
