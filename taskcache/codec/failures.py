"""This is where we send an error to everybody who waits, with its own type and its remote traceback.

An error is rebuilt only from a class this process has already imported, and without running that class's `__init__`:
the built-in base makes it and its attributes are laid in. Where its attributes could not travel, its constructor gets
its `args` and must give the same text. What cannot be rebuilt is a `RemoteError` that names it.
"""

from __future__ import annotations

import pickle
import traceback
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from taskcache.codec import pickling, typed
from taskcache.errors import RemoteError, UnstorableValue, UntrustedValue
from taskcache.keys.naming import find, is_builtin, name_of

# With its message a failure then stays under the 64 KiB that a wake-up carries.
_MAX_TEXT: Final = 24 * 1024


class RemoteTraceback(Exception):
    """The cause of an error that comes from another process: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def pack_failure(error: BaseException, *, trusted: bool, pickler: type[pickle.Pickler] = pickle.Pickler) -> bytes:
    """Write an error; never fails, whatever the error holds. With `trusted`, a pickle of it travels as well."""
    try:
        return typed.encode(_describe(error, pickler if trusted else None))
    except Exception as refusal:
        if pickling.is_interruption(refusal):
            raise
        # An error whose own methods raise: its type is all that can be said, and the waiters must hear that much.
        return typed.encode([None, _spelled(type(error)), "", "", [], None, {}, False, None])


def unpack_failure(data: bytes | memoryview, *, trusted: bool) -> Exception:
    """
    Rebuild an error, with its remote traceback as its cause.

    Only `Exception`s are rebuilt: another process's SystemExit must not end this one.
    Raises `UntrustedValue` when the bytes are not a failure.
    """
    failure = _read(data)
    cls = find(failure.name) if failure.name else None
    if cls is not None and not issubclass(cls, Exception):
        return failure.finish(failure.as_remote_error())
    error: Exception | None = None
    if cls is not None and failure.is_complete:
        error = _rebuild(cls, failure)
    if error is None and trusted and type(failure.pickled) is bytes:
        error = _unpickle(failure.pickled)
    if error is None and cls is not None:
        error = _construct(cls, failure)
    return failure.finish(failure.as_remote_error() if error is None else error)


class _Failure(Struct, frozen=True):
    """What travels of an error, in the order of the wire; what is Any has not been looked at yet."""

    name: str | None
    spelled: str
    message: str
    text: str
    notes: list[str]
    # Encoded one by one, so that one attribute that cannot travel does not take the others with it.
    args: Any
    state: Any
    is_complete: Any
    pickled: Any

    def as_remote_error(self) -> RemoteError:
        return RemoteError(f"{self.spelled}: {self.message}" if self.message else self.spelled)

    def finish(self, error: Exception) -> Exception:
        if self.notes:
            # Python 3.10 prints no notes; they stay readable.
            BaseException.__setattr__(error, "__notes__", self.notes)
        # Not by assignment: a frozen dataclass may be an error, too.
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(self.text))
        return error


def _read(data: bytes | memoryview) -> _Failure:
    parts = typed.decode(data)
    if type(parts) is not list or len(parts) != len(_Failure.__struct_fields__):
        raise UntrustedValue("a failure that is not laid out as one")
    failure = _Failure(*parts)
    if type(failure.notes) is not list:
        raise UntrustedValue("a failure whose notes are not a list")
    texts = (failure.name or "", failure.spelled, failure.message, failure.text, *failure.notes)
    if not all(type(text) is str for text in texts):
        raise UntrustedValue("a failure that holds something else where text belongs")
    return failure


def _describe(error: BaseException, pickler: type[pickle.Pickler] | None) -> list[object]:
    cls = type(error)
    args, state, is_complete = _parts(error)
    pickled = None
    if pickler is not None and isinstance(error, Exception):
        with suppress(UnstorableValue):
            pickled = pickling.dumps(error, pickler=pickler)
    notes = [str(note) for note in getattr(error, "__notes__", None) or ()]
    text = _shorten("".join(traceback.format_exception(cls, error, error.__traceback__)))
    return [name_of(cls), _spelled(cls), _message(error), text, notes, args, state, is_complete, pickled]


def _spelled(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _parts(error: BaseException) -> tuple[bytes | None, dict[str, bytes], bool]:
    """What the built-in base pickles of an error: args, attributes, and whether both could be written in full."""
    base = _built_in_base(type(error))
    try:
        _, args, *rest = base.__reduce__(error)
        written_args = typed.encode(args)
    except (UnstorableValue, TypeError, ValueError):
        return None, {}, False
    # Slots of the class's own are nothing the base knows of.
    is_complete = not any(vars(cls).get("__slots__") for cls in type(error).__mro__ if not is_builtin(cls))
    state = {}
    for attribute, value in ((rest[0] if rest else None) or {}).items():
        if attribute == "__notes__":
            continue
        try:
            state[attribute] = typed.encode(value)
        except UnstorableValue:
            is_complete = False
    return written_args, state, is_complete


def _built_in_base(cls: type) -> Any:
    return next(base for base in cls.__mro__ if is_builtin(base))


def _rebuild(cls: type[Exception], failure: _Failure) -> Exception | None:
    base = _built_in_base(cls)
    try:
        values = typed.decode(failure.args)
        error: Exception = base.__new__(cls, *values)  # type: ignore[misc]
        base.__init__(error, *values)  # type: ignore[misc]
        _lay_in(error, failure.state)
    except (UntrustedValue, *typed.MALFORMED):
        return None
    return error if type(error) is cls else None


def _construct(cls: type[Exception], failure: _Failure) -> Exception | None:
    try:
        error = cls(*typed.decode(failure.args))  # type: ignore[misc]
        _lay_in(error, failure.state)
        is_same = type(error) is cls and _message(error) == failure.message
    except Exception as refusal:
        if pickling.is_interruption(refusal):
            raise
        return None
    return error if is_same else None


def _lay_in(error: Exception, state: Any) -> None:
    base = _built_in_base(type(error))
    for attribute, value in state.items():
        # From the wire: no attribute that Python gives a meaning, no property of the class.
        if attribute.startswith("__"):
            continue
        if hasattr(base, attribute):
            object.__setattr__(error, attribute, typed.decode(value))
        else:
            error.__dict__[attribute] = typed.decode(value)


def _unpickle(pickled: bytes) -> Exception | None:
    try:
        error = pickling.loads(pickled)
    except UntrustedValue:
        return None
    return error if isinstance(error, Exception) else None


def _message(error: BaseException) -> str:
    try:
        return _shorten(str(error))
    except Exception:  # noqa: BLE001 - the broken __str__ of somebody's error must not hide the error
        return ""


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"
