"""This is where we pickle what the typed codec does not write; only bytes we have signed are read here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from taskcache.errors import UnstorableValue, UntrustedValue

# Protocol 5 is the newest that every Python we run on can read.
_PROTOCOL: Final = 5
# What can hold references but is never one itself; the typed codec does not ask about these either.
_BUILT_IN: Final = frozenset(
    (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, type)
)


def dumps(
    value: object,
    *,
    refer: Callable[[object], object | None] | None = None,
    pickler: type[pickle.Pickler] = pickle.Pickler,
    what: str = "the value",
) -> bytes:
    """Pickle a value, with references where `refer` gives one. Raises `UnstorableValue` when that fails."""
    buffer = BytesIO()
    try:
        (pickler(buffer, _PROTOCOL) if refer is None else _referring(pickler, refer)(buffer, _PROTOCOL)).dump(value)
    except Exception as error:
        if is_interruption(error):
            raise
        raise UnstorableValue(f"{what} cannot be pickled either: {type(error).__name__}: {error}") from error
    return buffer.getvalue()


def loads(data: bytes | memoryview, *, resolve: Callable[[Any], object] | None = None) -> object:
    """
    Unpickle bytes whose signature has been checked; whatever goes wrong in them is `UntrustedValue`.

    An error of `resolve` is raised as it is.
    """
    unpickler = None if resolve is None else _Unpickler(BytesIO(data), resolve)
    try:
        # Without `resolve` a reference is an error of pickle's own.
        return pickle.loads(data) if unpickler is None else unpickler.load()
    except Exception as error:
        if is_interruption(error) or (unpickler is not None and error is unpickler.unresolved):
            raise
        raise UntrustedValue(f"a value that does not unpickle: {spelled(error)}") from error


def spelled(error: Exception) -> str:
    """Say what went wrong with bytes, for logs: in full where names of classes and modules are told, never a value."""
    names_code = isinstance(error, AttributeError | ImportError) or type(error) is LookupError
    return f"{type(error).__name__}: {error}" if names_code else type(error).__name__


def is_interruption(error: Exception) -> bool:
    """Whether an error is Celery's soft time limit, which may come at any moment and is no fault of a value."""
    return any(cls.__name__ == "SoftTimeLimitExceeded" for cls in type(error).__mro__)


def _referring(pickler: type[pickle.Pickler], refer: Callable[[object], object | None]) -> type[pickle.Pickler]:
    def persistent_id(_: pickle.Pickler, value: object) -> object:
        return None if type(value) in _BUILT_IN else refer(value)

    # A class of its own, because picklers of Python 3.13 no longer look at an attribute of the instance.
    return type("Referring", (pickler,), {"persistent_id": persistent_id})


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, resolve: Callable[[Any], object]) -> None:
        super().__init__(file)
        self._resolve = resolve
        self.unresolved: Exception | None = None

    def persistent_load(self, reference: Any) -> object:
        try:
            return self._resolve(reference)
        except Exception as error:
            self.unresolved = error
            raise
