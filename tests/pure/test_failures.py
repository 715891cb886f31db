"""This is where we hold that an error reaches its waiters with its type, its parts and its remote traceback."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taskcache import errors
from taskcache.codec.failures import RemoteTraceback, pack_failure, unpack_failure
from taskcache.codec.typed import decode, encode
from taskcache.errors import RemoteError, UntrustedValue

unhurried = hypothesis_settings(deadline=None)


class Declined(Exception):
    """Its constructor takes something else than its args: the classic that pickle gets wrong."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"declined with {code}: {reason}")
        self.code = code
        self.reason = reason
        constructed.append(code)


class WithResponse(Exception):
    """Holds what cannot travel."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.response: object = object() if message != "plain" else None


class Swapped(Exception):
    """Cannot be constructed from its args, and holds what cannot travel."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")
        self.lock = object()


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Impossible(Exception):
    @property
    def __notes__(self) -> object:
        raise RuntimeError("no notes")


constructed: list[int] = []


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def delivered(error: BaseException, *, trusted: bool = False) -> BaseException:
    return unpack_failure(pack_failure(raised(error), trusted=trusted), trusted=trusted)


def failed_open() -> BaseException:
    try:
        os.stat("/nowhere/at/all")
    except OSError as error:
        return error
    raise AssertionError


def failed_json() -> BaseException:
    try:
        json.loads("{")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3, (1, {2})),
        KeyError("k"),
        failed_open(),
        failed_json(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
        ImportError("no", name="module", path="/p"),
        StopIteration(5),
        errors.Revoked(),
        errors.NoServer("gone"),
        errors.NotReady(),
        Declined(7, reason="no money"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_with_type_parts_and_text(error: Exception, trusted: bool) -> None:
    """Built-in, library and our own errors arrive as they were raised."""
    again = delivered(error, trusted=trusted)

    assert type(error) is type(again)
    assert (error.args, str(error), vars(error)) == (again.args, str(again), vars(again))
    for name in ("errno", "filename", "name", "path", "value", "reason"):
        assert getattr(error, name, None) == getattr(again, name, None)


def test_rebuilding_runs_no_constructor() -> None:
    """A constructor that takes other arguments than `args` is not run with the wrong ones."""
    packed = pack_failure(Declined(7, reason="no money"), trusted=False)
    constructed.clear()
    again: Any = unpack_failure(packed, trusted=False)

    assert (7, "no money", []) == (again.code, again.reason, constructed)


def test_what_cannot_travel_is_left_to_the_constructor() -> None:
    """When an attribute cannot travel, the class makes itself from its args, if that gives the same text."""
    again: Any = delivered(WithResponse("plain but for this"))

    assert type(again) is WithResponse
    assert "plain but for this" == str(again)
    assert again.response is not None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Swapped(1, 2), "Swapped: 1 2"),
        (ValueError(object), "ValueError: <class 'object'>"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit("x"), "GeneratorExit: x"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_cannot_be_rebuilt_is_named(error: BaseException, text: str) -> None:
    """An error that cannot be rebuilt, or would end this process, arrives as a RemoteError that says what it was."""
    again = delivered(error)

    assert type(again) is RemoteError
    assert str(again).endswith(text)
    assert "Traceback (most recent call last)" in str(again.__cause__)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_signature_does_not_let_exits_through(error: BaseException) -> None:
    """Another process's exit never ends this one, trusted or not."""
    assert type(delivered(error, trusted=True)) is RemoteError


def test_a_class_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a class this process has not imported is a RemoteError with its name and message."""
    packed = pack_failure(Declined(7, reason="no money"), trusted=False)
    monkeypatch.delattr(sys.modules[__name__], "Declined")
    again = unpack_failure(packed, trusted=False)

    assert type(again) is RemoteError
    assert f"{__name__}.Declined: declined with 7: no money" == str(again)


@pytest.mark.parametrize("name", ["builtins:int", "builtins:SystemExit", "builtins:eval", "this:Zen", "nonsense", ""])
def test_only_imported_exceptions_are_rebuilt(name: str) -> None:
    """A name from the wire that is no Exception we have leads to a RemoteError, and imports nothing."""
    again = unpack_failure(encode([name, "spelled", "said", "", [], encode((1,)), {}, True, None]), trusted=False)

    assert "spelled: said" == str(again)
    assert type(again) is RemoteError
    assert "this" not in sys.modules


def test_the_remote_traceback_is_printed() -> None:
    """Whoever prints the error sees where it happened in the other process."""
    again = delivered(ValueError("bad"))
    printed = "".join(traceback.format_exception(again))

    assert isinstance(again.__cause__, RemoteTraceback)
    assert "in raised" in printed
    assert "The above exception was the direct cause" in printed


def test_notes_and_causes_travel() -> None:
    """Notes stay notes; causes are in the text."""
    error = ValueError("bad")
    error.__notes__ = ["look here"]  # type: ignore[attr-defined, unused-ignore]  # Python 3.10 has no add_note
    error.__cause__ = KeyError("the root of it")
    again = delivered(error)

    assert ["look here"] == again.__notes__  # type: ignore[attr-defined, unused-ignore]  # as above
    assert "the root of it" in str(again.__cause__)


def test_a_failure_fits_a_wake_up() -> None:
    """Endless messages and tracebacks are cut in the middle, so that waiters still get the error at once."""
    error = raised(RuntimeError("x" * 10))
    error.__cause__ = ValueError("y" * 1_000_000)

    assert len(pack_failure(error, trusted=False)) < 65_536
    assert "characters" in str(delivered(error).__cause__)


@pytest.mark.parametrize("error", [Broken(), Impossible()], ids=lambda error: type(error).__name__)
def test_the_strangest_error_is_still_delivered(error: Exception) -> None:
    """An error whose own methods raise is delivered all the same, by name if need be."""
    again = delivered(error)

    assert type(error).__name__ in f"{type(again).__name__}{again.args}"


def test_a_pickle_serves_where_the_parts_do_not() -> None:
    """With a secret, an error whose attributes only pickle can carry arrives with them."""
    error: Any = ValueError("bad")
    error.kept = slice(1, 2)

    assert slice(1, 2) == delivered(error, trusted=True).kept  # type: ignore[attr-defined]
    assert not hasattr(delivered(error, trusted=False), "kept")


def test_a_pickle_is_not_read_without_trust() -> None:
    """A failure packed by a process with a secret is read without its pickle by one that has none."""
    packed: Any = decode(pack_failure(ValueError("bad"), trusted=True))
    packed[0] = None

    assert type(unpack_failure(encode(packed), trusted=True)) is ValueError
    assert type(unpack_failure(encode(packed), trusted=False)) is RemoteError


@unhurried
@given(
    st.binary(max_size=60) | st.lists(st.none() | st.text() | st.lists(st.text()), min_size=9, max_size=9).map(encode)
)
def test_arbitrary_bytes_are_untrusted_or_an_error(data: bytes) -> None:
    """Bytes nobody wrote give an error object or `UntrustedValue`, nothing else."""
    try:
        again = unpack_failure(data, trusted=False)
    except UntrustedValue:
        return

    assert isinstance(again, Exception)


@unhurried
@given(st.data())
def test_damaged_failures_are_untrusted_or_an_error(data: st.DataObject) -> None:
    """A flipped bit gives another error or `UntrustedValue`, nothing else."""
    raw = bytearray(pack_failure(Declined(7, reason="no money"), trusted=False))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        again = unpack_failure(bytes(raw), trusted=False)
    except UntrustedValue:
        return

    assert isinstance(again, Exception)


class Watched(Exception):
    @property
    def level(self) -> int:
        return 1

    @level.setter
    def level(self, value: int) -> None:
        constructed.append(value)


def test_a_property_is_not_run_by_the_wire() -> None:
    """What is laid into an error goes past its properties, so no code of the class runs."""
    constructed.clear()
    state = {"level": encode(5)}
    again = unpack_failure(
        encode([f"{__name__}:Watched", "", "", "", [], encode(()), state, True, None]), trusted=False
    )

    assert type(again) is Watched
    assert [] == constructed


@dataclass(frozen=True)
class Gone(Exception):
    """An error that nothing can be assigned to."""

    article: int


def test_an_error_that_is_a_frozen_dataclass_arrives() -> None:
    """What is said of where it came from is said all the same."""
    error = Gone(7)
    BaseException.__setattr__(error, "__notes__", ["sold out"])
    again: Any = delivered(error)

    assert (Gone, 7, ["sold out"]) == (type(again), again.article, again.__notes__)
    assert isinstance(again.__cause__, RemoteTraceback)
