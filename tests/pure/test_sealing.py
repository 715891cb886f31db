"""This is where we hold that bytes are trusted only when they are ours, and that nothing is decoded before we know."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from taskcache.codec import Codec, compression, pack, unpack
from taskcache.codec.envelope import MAC_BYTES, Flags
from taskcache.errors import RemoteError, UnstorableValue, UntrustedValue, ValueTooLarge
from taskcache.settings import PERSIST, Settings
from tests.pure.damage import damaged, flip_a_bit

unhurried = hypothesis_settings(deadline=None, max_examples=200)
NEW, OLD = b"new secret of 32 bytes or more...", b"old secret of 32 bytes or more..."
PLAIN = Codec(Settings())
SIGNED = Codec(Settings(secrets=(NEW,)))
ROTATED = Codec(Settings(secrets=(NEW, OLD)))
OUTDATED = Codec(Settings(secrets=(OLD,)))
SAFE = Codec(Settings(secrets=(NEW,), codec="safe"))
PICKLING = Codec(Settings(secrets=(NEW,), codec="pickle"))
FACTS: dict[str, Any] = {
    "token": bytes(16),
    "created_ms": 1_700_000_000_000,
    "fresh_ms": 60_000,
    "cost_ms": 12,
    "label_bytes": 5,
    "stamps": b"f" * 12 + b"t" * 12,
    "tags": ("tag",),
}

flags_set: list[str] = []


def set_flag(flag: str) -> str:
    flags_set.append(flag)
    return flag


class Bomb:
    """What an attacker stores: unpickling it runs code."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return set_flag, ("exploded",)


class Row:
    def __init__(self, key: int) -> None:
        self.key = key


def refer(value: object) -> object | None:
    return ["row", value.key] if isinstance(value, Row) else None


def resolve(reference: Any) -> object:
    return f"{reference[0]} {reference[1]}"


@pytest.mark.parametrize(
    "codec", [PLAIN, SIGNED, SAFE, PICKLING, ROTATED], ids=["plain", "signed", "safe", "pickle", "rotated"]
)
@pytest.mark.parametrize(
    "value", [None, {"a": (1, 2)}, "word " * 5000, b"x" * 100], ids=["none", "dict", "long", "bytes"]
)
def test_a_value_is_sealed_and_opened(codec: Codec, value: object) -> None:
    """What is sealed for a key opens for that key, as bytes and as an envelope, with all that is known about it."""
    sealed = codec.seal(b"cache:k", value, **FACTS)
    envelope = unpack(sealed)

    assert value == codec.open(b"cache:k", sealed) == codec.open(b"cache:k", envelope)
    assert FACTS == {name: getattr(envelope, name) for name in FACTS}
    assert (value == "word " * 5000) == bool(envelope.flags & Flags.COMPRESSED)


def test_a_lifetime_without_end_is_none_stated() -> None:
    """PERSIST has no place in the header, which says 0."""
    assert unpack(PLAIN.seal(b"k", 1, **{**FACTS, "fresh_ms": PERSIST})).fresh_ms == 0


def test_a_flight_without_stamps_is_sealed_without_tags() -> None:
    """A retired flight still delivers its value; its tags have no stamps left to belong to."""
    envelope = unpack(PLAIN.seal(b"k", 1, **{**FACTS, "stamps": b""}))

    assert (b"", (), 5) == (envelope.stamps, envelope.tags, envelope.label_bytes)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [(PLAIN, SIGNED), (OUTDATED, SIGNED), (SIGNED, OUTDATED), (PLAIN, SAFE)],
    ids=["unsigned", "old secret", "new secret", "unsigned, safe"],
)
def test_a_stranger_is_not_read(writer: Codec, reader: Codec) -> None:
    """Entries, failures, messages and arguments of somebody without our secret are a miss."""
    with pytest.raises(UntrustedValue):
        reader.open(b"k", writer.seal(b"k", 1, **FACTS))
    with pytest.raises(UntrustedValue):
        reader.open_failure(b"k", writer.seal_failure(b"k", ValueError(), token=bytes(16)))
    with pytest.raises(UntrustedValue):
        reader.open_message(writer.seal_message(1))
    with pytest.raises(UntrustedValue):
        reader.open_arguments(writer.seal_arguments((1,), {}))


def test_a_rotated_secret_is_still_read() -> None:
    """While two secrets are configured, both are read and the newest signs."""
    assert ROTATED.open(b"k", OUTDATED.seal(b"k", 1, **FACTS)) == 1
    assert ROTATED.open(b"k", SIGNED.seal(b"k", 1, **FACTS)) == 1
    assert SIGNED.open(b"k", ROTATED.seal(b"k", 1, **FACTS)) == 1


def test_a_signed_plain_value_needs_no_secret_to_read() -> None:
    """Without a secret there is nothing to check and nothing to fear in a typed value."""
    assert PLAIN.open(b"k", SIGNED.seal(b"k", 1, **FACTS)) == 1


def test_a_value_moved_to_another_key_is_untrusted() -> None:
    """A signature is bound to the key: one user's entry cannot be copied over another's."""
    sealed = SIGNED.seal(b"cache:alice", "hers", **FACTS)

    with pytest.raises(UntrustedValue):
        SIGNED.open(b"cache:bob", sealed)
    with pytest.raises(UntrustedValue):
        SIGNED.open_failure(b"cache:bob", SIGNED.seal_failure(b"cache:alice", ValueError(), token=bytes(16)))


def test_a_value_is_no_failure_and_a_failure_no_value() -> None:
    """Each is opened by its own verb only."""
    with pytest.raises(UntrustedValue):
        PLAIN.open(b"k", PLAIN.seal_failure(b"k", ValueError(), token=bytes(16)))
    with pytest.raises(UntrustedValue):
        PLAIN.open_failure(b"k", PLAIN.seal(b"k", 1, **FACTS))


def test_uses_are_kept_apart() -> None:
    """A message is no arguments and neither is an entry, even signed with the right secret."""
    message, arguments, entry = SIGNED.seal_message(1), SIGNED.seal_arguments((), {}), SIGNED.seal(b"", 1, **FACTS)

    with pytest.raises(UntrustedValue):
        SIGNED.open_arguments(message)
    with pytest.raises(UntrustedValue):
        SIGNED.open_message(arguments)
    with pytest.raises(UntrustedValue):
        SIGNED.open(b"", message)
    with pytest.raises(UntrustedValue):
        SIGNED.open_message(entry)


def test_a_failure_is_sealed_and_opened() -> None:
    """An error comes back under its key with the ERROR flag and the flight's token."""
    sealed = SIGNED.seal_failure(b"k", ValueError("bad"), token=b"t" * 16, created_ms=5, cost_ms=6)
    envelope = unpack(sealed)

    assert (b"t" * 16, 5, 6, None) == (envelope.token, envelope.created_ms, envelope.cost_ms, envelope.label_bytes)
    assert repr(ValueError("bad")) == repr(SIGNED.open_failure(b"k", sealed))


def test_pickle_is_written_only_with_a_secret() -> None:
    """What the typed codec refuses is pickled and signed where there is a secret, and refused where there is none."""
    assert Fraction(1, 3) == SIGNED.open(b"k", SIGNED.seal(b"k", Fraction(1, 3), **FACTS))
    for codec in (PLAIN, SAFE):
        with pytest.raises(UnstorableValue, match=r"fractions\.Fraction"):
            codec.seal(b"k", Fraction(1, 3), **FACTS)
        with pytest.raises(UnstorableValue, match="the message"):
            codec.seal_message(Fraction(1, 3))
        with pytest.raises(UnstorableValue, match=r"the arguments\['args'\]\[1\]"):
            codec.seal_arguments((1, Fraction(1, 3)), {})


def test_what_not_even_pickle_writes_is_unstorable() -> None:
    """A value nobody can write is the caller's error, whatever the codec."""
    for codec in (PLAIN, SIGNED, PICKLING):
        with pytest.raises(UnstorableValue):
            codec.seal(b"k", lambda: 0, **FACTS)


@pytest.mark.parametrize(
    "reader", [PLAIN, SIGNED, SAFE, ROTATED, PICKLING], ids=["plain", "signed", "safe", "rotated", "pickle"]
)
@pytest.mark.parametrize("flags", [Flags.PICKLE, Flags.PICKLE | Flags.SIGNED, Flags.PICKLE | Flags.COMPRESSED])
def test_an_unsigned_pickle_is_never_loaded(reader: Codec, flags: Flags) -> None:
    """A pickle somebody put into Redis runs nothing, with every codec and every flag."""
    mac = b"m" * MAC_BYTES if flags & Flags.SIGNED else b""
    envelope = replace(
        unpack(PLAIN.seal(b"k", 1, **FACTS)), flags=flags | Flags.TAGGED, mac=mac, payload=pickle.dumps(Bomb())
    )
    flags_set.clear()
    with pytest.raises(UntrustedValue):
        reader.open(b"k", pack(envelope))
    for opener in (reader.open_message, reader.open_arguments):
        with pytest.raises(UntrustedValue):
            opener(bytes((0xC6, 1, flags, 0)) + mac + pickle.dumps(Bomb()))

    assert not flags_set


@pytest.mark.parametrize("reader", [PLAIN, SAFE], ids=["plain", "safe"])
def test_a_signed_pickle_is_loaded_only_where_pickle_is_allowed(reader: Codec) -> None:
    """Our own signature opens a pickle, but not where there is no secret or the codec is "safe"."""
    sealed = SIGNED.seal(b"k", Bomb(), **FACTS)
    message = SIGNED.seal_message(Bomb())
    flags_set.clear()
    with pytest.raises(UntrustedValue):
        reader.open(b"k", sealed)
    with pytest.raises(UntrustedValue):
        reader.open_message(message)
    assert not flags_set
    SIGNED.open(b"k", sealed)

    assert ["exploded"] == flags_set


@unhurried
@given(st.data())
def test_a_damaged_entry_never_opens(data: st.DataObject) -> None:
    """No bit of a signed entry can change, no byte can be missing or added: it is a miss, and no pickle is loaded."""
    sealed = SIGNED.seal(b"k", Bomb(), **FACTS)
    raw = damaged(data, sealed)
    flags_set.clear()
    with pytest.raises(UntrustedValue):
        SIGNED.open(b"k", raw)
    with pytest.raises(UntrustedValue):
        SIGNED.open_failure(b"k", raw)

    assert not flags_set


@unhurried
@given(st.data())
def test_a_damaged_unsigned_entry_gives_a_value_or_a_miss(data: st.DataObject) -> None:
    """Without a secret damage may go unseen, but it raises nothing but `UntrustedValue` and loads no pickle."""
    raw = bytearray(PLAIN.seal(b"k", {"text": "word " * 1000, "at": (1, 2)}, **FACTS))
    flip_a_bit(data, raw)
    with suppress(UntrustedValue):
        PLAIN.open(b"k", raw)


@unhurried
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: bytes((0xC6, 1)) + rest))
def test_arbitrary_messages_are_untrusted(data: bytes) -> None:
    """Whatever arrives as a message or as arguments is refused in one way."""
    for opener in (SIGNED.open_message, SIGNED.open_arguments, PLAIN.open_arguments):
        with pytest.raises(UntrustedValue):
            opener(data)
    with suppress(UntrustedValue):
        PLAIN.open_message(data)


@pytest.mark.parametrize("codec", [PLAIN, SIGNED, PICKLING], ids=["plain", "signed", "pickle"])
def test_arguments_are_fixed_when_they_are_sealed(codec: Codec) -> None:
    """What the caller changes afterwards, or the worker changes in its copy, is not seen by anybody else."""
    numbers = [1, 2]
    sealed = codec.seal_arguments((numbers, (3,)), {"by": {4}})
    numbers.append(9)
    args, kwargs = codec.open_arguments(sealed)
    args[0].append(10)

    assert (([1, 2], (3,)), {"by": {4}}) == codec.open_arguments(sealed)
    assert (([1, 2, 10], (3,)), {"by": {4}}) == (args, kwargs)


@pytest.mark.parametrize("codec", [PLAIN, SIGNED, PICKLING], ids=["plain", "signed", "pickle"])
def test_references_travel_with_every_codec(codec: Codec) -> None:
    """An object with an identity is sent as its reference, whether the rest is typed or pickled."""
    message = codec.seal_message({"row": Row(1)}, refer=refer)
    arguments = codec.seal_arguments((Row(2),), {"other": Row(3)}, refer=refer)

    assert {"row": "row 1"} == codec.open_message(message, resolve=resolve)
    assert (("row 2",), {"other": "row 3"}) == codec.open_arguments(arguments, resolve=resolve)
    with pytest.raises(UntrustedValue):
        codec.open_message(message)


@pytest.mark.parametrize("codec", [PLAIN, PICKLING], ids=["plain", "pickle"])
def test_an_error_of_resolve_reaches_the_caller(codec: Codec) -> None:
    """A row that is gone is not a damaged message."""

    def gone(_: object) -> object:
        raise LookupError("row is gone")

    with pytest.raises(LookupError, match="row is gone"):
        codec.open_message(codec.seal_message([Row(1)], refer=refer), resolve=gone)


class SoftTimeLimitExceeded(Exception):
    """Stands for Celery's, which is raised in the middle of anything."""


class Slow:
    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return interrupt, ()


def interrupt() -> object:
    raise SoftTimeLimitExceeded


def test_a_soft_time_limit_is_not_taken_for_damage() -> None:
    """A task that runs out of time while it decodes hears of its time limit."""
    with pytest.raises(SoftTimeLimitExceeded):
        SIGNED.open(b"k", SIGNED.seal(b"k", Slow(), **FACTS))


def test_a_value_beyond_redis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Redis would not store is refused with its size."""
    monkeypatch.setattr(compression, "MAX_BYTES", 1000)

    with pytest.raises(ValueTooLarge, match="2003 bytes"):
        PLAIN.seal(b"k", b"x" * 2000, **FACTS)


def test_code_that_travels_by_value_brings_its_values_and_errors() -> None:
    """With cloudpickle's pickler, what was defined at a prompt comes back: values and errors alike."""

    class Local(Exception):
        pass

    codec = Codec(Settings(secrets=(NEW,)), pickler=cloudpickle.Pickler)
    again = codec.open_failure(b"k", codec.seal_failure(b"k", Local("here"), token=bytes(16)))

    assert (Local, "here") == (type(again), str(again))
    assert Local is codec.open(b"k", codec.seal(b"k", Local, **FACTS))
    assert type(SIGNED.open_failure(b"k", SIGNED.seal_failure(b"k", Local("here"), token=bytes(16)))) is RemoteError


def test_no_secret_in_sight() -> None:
    """Nothing a codec shows of itself gives a secret away."""
    assert NEW.decode() not in f"{SIGNED!r}{vars(SIGNED)!r}"
