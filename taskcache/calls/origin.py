"""This is where we find out what was decorated: its kind, its name, its version, and how it travels."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct, structs
from msgspec.structs import replace

from taskcache import batching
from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys.encoding import digest, encode
from taskcache.keys.naming import MAIN_NAMES, module_name
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
            place = (self.fn.__module__, qualname)
            found = _find(*place)
            if found is not function and getattr(found, "origin", None) is self:
                return _view, (found, _changed(found.options, function.options))
            # Decorated under another name, what is found is the plain function, and it is decorated again where it arrives.
            if found is not self.fn:
                return _find, place
        # Two stages, so that a function that calls itself can be written.
        options = replace(function.options, name=self.name, version=self.version)
        decorated: Any = {"static": staticmethod, "class": classmethod}.get(self.kind, lambda fn: fn)(self.fn)
        return _make, (type(function),), (function.cache, decorated, options)


def as_workers_import(decorated: Any, options: Options) -> Options:
    """The options of a function of a script, with the name and the version that it has for workers, which import it."""
    fn = getattr(decorated, "__func__", decorated)
    module, qualname = getattr(fn, "__module__", None) or "", getattr(fn, "__qualname__", "<nameless>")
    script = module_name(module, getattr(fn, "__globals__", None))
    if module not in MAIN_NAMES or script in MAIN_NAMES or "<" in qualname:
        return options
    # Who imports the script has no hash of its code in the keys.
    return replace(
        options, name=options.name or f"{script}.{qualname}", version="" if options.version is None else options.version
    )


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
    if module in MAIN_NAMES:
        # What the children of a spawned pool call the program that their parent runs: the same function, the same keys.
        module = "__main__"
    if options.name is None:
        _refuse_nameless(fn, decorator)
    by_value = module == "__main__" or "<locals>" in qualname or "<lambda>" in qualname or not _has_own_name(fn)
    name = f"{module}.{qualname}" if options.name is None else options.name
    if any(sign in name for sign in "{}") or not name.strip():
        raise UsageError(f"{decorator}(name={name!r}): a name is not empty and has no braces")
    version = "" if options.version is None else str(options.version)
    if by_value and options.version is None:
        version = _code_version(fn)
    is_coroutine, body = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__), fn
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
    if hasattr(fn, "key_for") and hasattr(fn, "bust"):
        raise UsageError(f"{name} is cached already; one decorator of taskcache is enough")
    if hasattr(fn, "apply_async") or hasattr(fn, "AsyncResult"):
        raise UsageError(
            f"{name} is a Celery task already; put cache.cache_async in the place of @app.task, it makes the task"
        )


def _has_own_name(fn: Any) -> bool:
    """Whether its name says what is computed: not that of a partial, a callable object, or a method written in C."""
    of = getattr(fn, "__self__", None) if isinstance(fn, types.BuiltinMethodType) else None
    return hasattr(fn, "__qualname__") and (of is None or isinstance(of, types.ModuleType))


def _refuse_nameless(fn: Any, decorator: str) -> None:
    if not _has_own_name(fn):
        raise UsageError(
            f"{decorator} on {fn!r}: it has no name of its own, and what is kept in it is no part of a key, so two of them "
            f"would share their values; decorate a function, or say name=..."
        )
    if fn.__name__ == "_":
        raise UsageError(
            f"{decorator} on a function named _: a second one of that name would share its values; say name=..."
        )


def _code_version(fn: Any) -> str:
    """A hash of code, constants, defaults and what it closes over, so that an edited cell recomputes."""
    if getattr(fn, "__code__", None) is None:
        return ""
    # Grows while it is walked, by the functions that those in it hold: two that hold each other are in it once each.
    met = [fn]
    own, *others = [_held_parts(each, met) for each in met]
    return digest(encode((*own, *others)))[:16]


def _held_parts(fn: Any, met: list[Any]) -> tuple[Any, ...]:
    """One function's code, and what it holds; functions among that are numbers, by their place in `met`."""
    parts = [_code_parts(fn.__code__), *(_held_part(value, met) for value in fn.__defaults__ or ())]
    parts += [(name, _held_part(value, met)) for name, value in sorted((fn.__kwdefaults__ or {}).items())]
    for cell in fn.__closure__ or ():
        try:
            parts.append(_held_part(cell.cell_contents, met))
        except ValueError:  # not bound yet, as the function's own name while it is being decorated
            continue
    return tuple(parts)


def _held_part(value: Any, met: list[Any]) -> Any:
    try:
        return encode(value)
    except UncacheableArgument:
        kind = type(value).__qualname__
    if isinstance(value, types.BuiltinFunctionType):
        return kind, value.__module__, value.__qualname__
    # A decorated function names the one under its decorator. Not asked by getattr: a proxy or a mock would answer.
    held = value if isinstance(value, types.FunctionType) else inspect.getattr_static(value, "__wrapped__", None)
    if not isinstance(held, types.FunctionType):
        return kind  # what has no identity cannot tell one version from another: a connection, a lock
    place = next((place for place, each in enumerate(met) if each is held), len(met))
    if place == len(met):
        met.append(held)
    return "function", place


def _code_parts(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _code_parts(constant) if isinstance(constant, types.CodeType) else encode(constant)
        for constant in code.co_consts
    )
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    # From 3.11 on what `try` covers is not in the code itself.
    covered = getattr(code, "co_exceptiontable", b"")
    return code.co_code, code.co_names, code.co_varnames, counts, constants, covered


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


def _changed(options: Options, by: Options) -> dict[str, Any]:
    """The options in which one differs from the other."""
    return {name: new for name, new in structs.asdict(by).items() if new is not getattr(options, name)}


def _view(function: Any, changed: dict[str, Any]) -> Any:
    """The same function with other options, as `with_options` makes it."""
    return function.with_changed(replace(function.options, **changed))


def _make(cls: type[Any]) -> Any:
    return object.__new__(cls)
