"""This is where we find out what was decorated: its kind, its name, its version, and how it travels."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from taskcache import batching
from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys.encoding import digest, encode
from taskcache.options import Options


class Origin(Struct, frozen=True):
    """The function under a decorator."""

    fn: Callable[..., Any]
    # What computes one call, and has the parameters of one: the function itself, or a batch function with a batch of one.
    body: Callable[..., Any]
    name: str
    kind: Literal["function", "class", "static"]
    version: str
    is_coroutine: bool
    # Defined where no other process can import it: at a prompt, in a notebook, inside another function.
    by_value: bool

    @property
    def salt(self) -> bytes:
        """What tells this version's keys from those of another."""
        return self.version.encode("utf-8", "surrogatepass")

    def reduce(self, function: Any) -> Any:
        """How the decorated function pickles: by its qualified name, or, where nobody can import it, by value."""
        qualname = getattr(self.fn, "__qualname__", "<locals>")
        is_findable = "<" not in qualname
        if not self.by_value or (is_findable and not _is_cloudpickle_at_work()):
            # A pool of processes finds functions of `__main__` as Python's own pickle does.
            return _find, (self.fn.__module__, qualname)
        # Two stages, so that a function that calls itself can be written.
        options = replace(function.options, name=self.name, version=self.version)
        return _make, (type(function),), (function.cache, self.fn, options)


def origin_of(decorated: Any, options: Options, decorator: str) -> Origin:
    """Examine what was decorated and refuse what cannot work, with the cure."""
    kind: Literal["function", "class", "static"] = "function"
    fn = decorated
    if isinstance(decorated, classmethod):
        kind, fn = "class", decorated.__func__
    elif isinstance(decorated, staticmethod):
        kind, fn = "static", decorated.__func__
    _refuse(fn, decorator)
    module, qualname = getattr(fn, "__module__", None) or "", getattr(fn, "__qualname__", type(fn).__qualname__)
    if module == "__mp_main__":
        # What the children of a spawned pool call the program that their parent runs: the same function, the same keys.
        module = "__main__"
    by_value = module == "__main__" or "<locals>" in qualname or "<lambda>" in qualname
    name = f"{module}.{qualname}" if options.name is None else options.name
    if any(sign in name for sign in "{}") or not name.strip():
        raise UsageError(f"{decorator}(name={name!r}): a name is not empty and has no braces")
    version = "" if options.version is None else str(options.version)
    if by_value and options.version is None:
        version = _code_version(fn)
    is_coroutine, body = inspect.iscoroutinefunction(fn), fn
    if options.batch:
        if kind == "class":
            raise UsageError(
                f"{decorator}(batch=True) on the class method {name}: decorate a function or a staticmethod"
            )
        batching.check_body(fn, name)
        body = batching.alone(fn, name, is_coroutine)
    return Origin(fn, body, name, kind, version, is_coroutine, by_value)


def _refuse(fn: Any, decorator: str) -> None:
    if isinstance(fn, type):
        raise UsageError(f"{decorator} on the class {fn.__name__}: decorate the function that makes the object")
    if not callable(fn):
        raise UsageError(f"{decorator} decorates a function, not {type(fn).__name__}; options are keyword-only")
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"{name} is a generator; a cached value is used more than once: return a list instead")
    if hasattr(fn, "apply_async") or hasattr(fn, "AsyncResult"):
        raise UsageError(
            f"{name} is a Celery task already; put cache.cache_async in the place of @app.task, it makes the task"
        )
    if hasattr(fn, "key_for") and hasattr(fn, "bust"):
        raise UsageError(f"{name} is cached already; one decorator of taskcache is enough")


def _code_version(fn: Any) -> str:
    """A hash of code, constants, defaults and what it closes over, so that an edited cell recomputes."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return ""
    parts: list[Any] = [_code_parts(code)]
    values = [*(fn.__defaults__ or ()), *sorted((fn.__kwdefaults__ or {}).items())]
    for cell in fn.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not bound yet, as the function's own name while it is being decorated
            continue
    for value in values:
        try:
            parts.append(encode(value))
        except UncacheableArgument:
            # What has no identity cannot tell one version from another: another function, a connection, a lock.
            parts.append(type(value).__qualname__)
    return digest(encode(tuple(parts)))[:16]


def _code_parts(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _code_parts(constant) if isinstance(constant, types.CodeType) else encode(constant)
        for constant in code.co_consts
    )
    return code.co_code, code.co_names, constants


def _is_cloudpickle_at_work() -> bool:
    """True when it is cloudpickle that asks, which can write a function by value; pickle does not tell who asks."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "cloudpickle":
            return True
        frame = frame.f_back
    return False


def _find(module: str, qualname: str) -> Any:
    import importlib

    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        # Not getattr: a class would bind a class method to itself.
        found = vars(found)[part] if isinstance(found, type) else getattr(found, part)
    return found.__func__ if isinstance(found, classmethod | staticmethod) else found


def _make(cls: type[Any]) -> Any:
    return object.__new__(cls)
