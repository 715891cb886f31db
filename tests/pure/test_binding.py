"""This is where we check that equal calls have one digest, and others another."""

from __future__ import annotations

import functools
import inspect
import math
import struct
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys.binding import compile_binding
from taskcache.keys.encoding import digest, encode


def two(a: object, b: object = 2) -> None: ...
def every(a: object, b: object = 2, /, c: object = 3, *d: object, e: object, f: object = 6, **g: object) -> None: ...
def spread(*args: object, **kwargs: object) -> None: ...
def nothing() -> None: ...
def clashing(_: object, __write: object, ___slow: object, type: object, sorted: object, float: object) -> None: ...
def with_odd_default(a: object = object(), b: object = []) -> None: ...
async def awaited(a: object, b: object = 2) -> None: ...


class Text(str):
    __slots__ = ()


class Shop:
    def price(self, item: str) -> None: ...


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
odd = st.sampled_from(
    [2**64 - 1, 2**64, -(2**63), -(2**63) - 1, "\ud800", math.nan, -math.nan, -0.0, 0.0, 1.0, 1, True]
)
arguments = scalars | odd | st.lists(scalars | odd, max_size=2) | st.tuples(scalars | odd)


def packed(value: Any) -> bytes:
    """Write a scalar as MessagePack says, from its specification; a reference apart from msgspec."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])) + data
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value
    if value >= 0:
        if value < 128:
            return bytes([value])
        size = next(size for size in range(4) if value < 1 << (8 << size))
        return bytes([0xCC + size]) + int(value).to_bytes(1 << size, "big")
    if value >= -32:
        return struct.pack("b", value)
    size = next(size for size in range(4) if value >= -(1 << ((8 << size) - 1)))
    return bytes([0xD0 + size]) + int(value).to_bytes(1 << size, "big", signed=True)


def test_the_form_of_a_call_does_not_count() -> None:
    """Positional, by keyword, in any order, with defaults said or left out: one digest."""
    of = compile_binding(two).digest

    assert 1 == len({of(1), of(a=1), of(1, 2), of(1, b=2), of(a=1, b=2), of(b=2, a=1)})
    assert of(1) != of(2)
    assert 32 == len(of(1)) == len(of([1]))


@given(arguments, arguments, arguments, arguments)
def test_calls_have_one_digest_exactly_when_their_arguments_are_the_same(a: Any, b: Any, c: Any, d: Any) -> None:
    """Digests agree when the canonical bytes of all arguments do, whichever way they were written."""
    of = compile_binding(two).digest

    assert (encode((a, b)) == encode((c, d))) == (of(a, b) == of(c, d))


@given(st.lists(arguments, max_size=3), st.dictionaries(st.sampled_from(["x", "y", "z"]), arguments, max_size=3))
def test_variable_arguments_count_in_order_and_keywords_in_none(args: list[Any], kwargs: dict[str, Any]) -> None:
    """*args are a row, **kwargs are not, and neither runs into the other."""
    of = compile_binding(spread).digest
    backwards = dict(reversed(list(kwargs.items())))

    assert of(*args, **kwargs) == of(*args, **backwards)
    assert of(*args, **kwargs) != of(*args, None, **kwargs)
    assert of(*args, **kwargs) != of(*args, **kwargs, extra=None)


@given(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=60))
def test_plain_scalars_are_written_as_messagepack_says(value: object) -> None:
    """The short way is MessagePack in its shortest form, so another encoder of it gives the same keys."""

    def one(a: object) -> None: ...

    prefix = bytes.fromhex(digest(encode((b"salt", [(1, "a")]))))

    assert digest(prefix + b"\0\x91" + packed(value)) == compile_binding(one, salt=b"salt").digest(value)


def test_nans_are_one_on_every_way() -> None:
    """A NaN alone, in *args or in a list is the same NaN whatever its bits."""
    of = compile_binding(spread).digest
    other = struct.unpack(">d", b"\xff\xf8\0\0\0\0\0\1")[0]

    assert of(math.nan) == of(other)
    assert of(x=math.nan) == of(x=other)
    assert of([math.nan]) == of([other])


def test_every_kind_of_parameter_is_bound_as_python_does() -> None:
    """Positional-only, keyword-only, *args and **kwargs go where the function would get them."""
    binding = compile_binding(every)

    expected = {"a": 1, "b": 2, "c": 30, "d": (4, 5), "e": 50, "f": 6, "g": {"a": 7, "z": 8}}
    bound = binding.bind((1, 2, 30, 4, 5), {"e": 50, "a": 7, "z": 8})
    assert expected == bound
    assert list(expected) == list(bound)
    assert binding.digest(1, e=5) == binding.digest(1, 2, 3, e=5, f=6)
    assert binding.digest(1, e=5) != binding.digest(1, 2, 3, 4, e=5)
    assert inspect.signature(every) == binding.signature


def test_parameters_may_have_any_name() -> None:
    """Names that look like ours, and names of builtins, are just names."""
    binding = compile_binding(clashing)

    assert binding.digest(1, 2, 3, 4, 5, 6) == binding.digest(1, 2, 3, sorted=5, type=4, float=6)
    assert binding.digest(1, 2, 3, 4, 5, [6]) != binding.digest(1, 2, 3, 4, 5, [7])
    assert {"_": 1, "__write": 2, "___slow": 3, "type": 4, "sorted": 5, "float": 6} == binding.bind(
        (1, 2, 3, 4, 5, 6), {}
    )


def test_a_default_without_a_key_is_an_error_only_when_used() -> None:
    """Nobody pays for a default that is not used."""
    binding = compile_binding(with_odd_default)

    assert binding.digest(1) == binding.digest(1, [])
    with pytest.raises(UncacheableArgument, match="`a` is of type object"):
        binding.digest()


def calls_that_do_not_fit() -> list[Callable[[Callable[..., object]], object]]:
    return [
        lambda fn: fn(),
        lambda fn: fn(1, 2, 3),
        lambda fn: fn(1, a=1),
        lambda fn: fn(1, z=1),
        lambda fn: fn(b=1),
    ]


@pytest.mark.parametrize("call", calls_that_do_not_fit())
@pytest.mark.parametrize("fn", [two, awaited], ids=lambda fn: fn.__name__)
def test_a_wrong_call_is_the_type_error_python_gives(fn: Callable[..., object], call: Any) -> None:
    """The message is the one of the function itself, its name in it."""
    binding = compile_binding(fn)
    with pytest.raises(TypeError) as own:
        call(fn)
    with pytest.raises(TypeError) as digest_error:
        call(binding.digest)
    with pytest.raises(TypeError) as bind_error:
        call(lambda *args, **kwargs: binding.bind(args, kwargs))

    assert str(own.value) == str(digest_error.value) == str(bind_error.value)
    assert fn.__name__ in str(own.value)


def test_ignored_arguments_do_not_count() -> None:
    """They need no key, and the call is bound as before."""
    binding = compile_binding(Shop.price, ignore=("self",))

    assert binding.digest(Shop(), "a") == binding.digest(Shop(), item="a") != binding.digest(Shop(), "b")
    with pytest.raises(UncacheableArgument, match=r'ignore=\("self",\)'):
        compile_binding(Shop.price).digest(Shop(), "a")


def test_a_call_without_arguments_that_count_has_a_digest_too() -> None:
    """One digest for all calls, and still a check of the call."""
    assert compile_binding(nothing).digest() == compile_binding(nothing).digest()
    assert compile_binding(two, ignore=("a", "b")).digest(1) == compile_binding(two, ignore=("b", "a")).digest(2)
    with pytest.raises(TypeError, match=r"nothing\(\) takes 0 positional arguments"):
        compile_binding(nothing).digest(1)


def test_salt_and_parameter_names_tell_functions_apart() -> None:
    """The same arguments under another salt, or of parameters with other names, are another call."""

    def swapped(b: object, a: object = 2) -> None: ...

    bindings = [
        compile_binding(two),
        compile_binding(two, salt=b"a"),
        compile_binding(two, salt=b"ab"),
        compile_binding(two, ignore=("b",)),
        compile_binding(swapped),
    ]
    assert len(bindings) == len({binding.digest(1) for binding in bindings})


@pytest.mark.parametrize("ignore", ["self", ("itme",), ("item", "nope")])
def test_ignoring_an_unknown_parameter_is_an_error(ignore: Any) -> None:
    """The message lists what there is, or shows how a tuple of one is written."""
    with pytest.raises(UsageError, match=r'it has self, item|write ignore=\("self",\)'):
        compile_binding(Shop.price, ignore=ignore)


@pytest.mark.parametrize("fn", [max, mock.sentinel.thing, 5], ids=str)
def test_what_has_no_signature_needs_a_key_function(fn: Any) -> None:
    """The cure is in the message."""
    with pytest.raises(UsageError, match="key_fn="):
        compile_binding(fn)


def test_lambdas_and_callable_objects_are_bound() -> None:
    """A name that is no identifier, and no name at all, are no obstacle."""

    class Greeter:
        def __call__(self, name: str = "you") -> None: ...

    assert compile_binding(lambda x: None).digest(1) == compile_binding(lambda x: None).digest(x=1)
    assert compile_binding(Greeter()).digest() == compile_binding(Greeter()).digest("you")
    with pytest.raises(TypeError, match=r"<lambda>\(\) missing 1 required"):
        compile_binding(lambda x: None).digest()


def test_a_str_subclass_as_a_keyword_is_refused() -> None:
    """Python lets it through; it is not a str, here as anywhere."""
    with pytest.raises(UncacheableArgument, match=r"`kwargs\{…\}`"):
        compile_binding(spread).digest(**{Text("x"): 1})


def test_the_error_leads_into_the_argument() -> None:
    """The way begins with the name of the parameter."""
    with pytest.raises(UncacheableArgument, match=r"`args\[1\]\['k'\]` is of type object"):
        compile_binding(spread).digest(1, {"k": object()})
    with pytest.raises(UncacheableArgument, match=r"`kwargs\['x'\]` is of type object"):
        compile_binding(spread).digest(x=object())


def test_explain_says_what_every_argument_contributes() -> None:
    """One line each: type and canonical form, or that it is ignored, or why it cannot be."""
    binding = compile_binding(every, ignore=("c",))
    explained = dict(binding.explain((1, "x"), {"e": object(), "f": "y" * 500}))

    assert ["a", "b", "c", "d", "e", "f", "g"] == list(explained)
    assert "int as int1:1" == explained["a"]
    assert "str as str1:x" == explained["b"]
    assert "ignored" == explained["c"]
    assert "tuple as tuple0:" == explained["d"]
    assert explained["e"].startswith("uncacheable: `e` is of type object")
    assert explained["f"].endswith("… (507 characters)")


def test_a_wrapper_with_parameters_of_its_own_is_keyed_by_them() -> None:
    """Its default is what the function gets; where it passes on what it is given, the function's own count."""

    def price(item: int, currency: str = "EUR") -> str:
        return currency

    @functools.wraps(price)
    def in_dollars(item: int, currency: str = "USD") -> str:
        return price(item, currency)

    @functools.wraps(price)
    def scaled(*args: Any, scale: int = 1, **kwargs: Any) -> str:
        return price(*args, **kwargs) * scale

    @functools.wraps(price)
    def logged(item: int, *args: Any, **kwargs: Any) -> str:
        return price(item, *args, **kwargs)

    own, more, same = compile_binding(in_dollars), compile_binding(scaled), compile_binding(logged)

    assert own.digest(3) == own.digest(3, "USD") != own.digest(3, "EUR")
    assert more.digest(3, scale=1) == more.digest(3) != more.digest(3, scale=2)
    assert same.digest(3) == same.digest(3, "EUR") == same.digest(currency="EUR", item=3)
