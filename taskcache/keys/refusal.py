"""This is where we say which argument has no key, why, and what helps."""

from __future__ import annotations

from taskcache.errors import UncacheableArgument

# A path longer than this says nothing a reader can use; its beginning does.
SHOWN_STEPS = 6
SHOWN_KEY_CHARACTERS = 40

# Of these we know what makes their values; an identity of their own would be silently without effect.
ENCODED_MODULES = frozenset({"builtins", "datetime", "decimal", "uuid", "pathlib", "pathlib._local"})

# What `where` says when the caller knows no parameter name.
SOME_ARGUMENT = "argument"


class Refused(Exception):
    """A value has no key; carries the way to it, gathered from the inside out while the walk unwinds."""

    def __init__(self, why: str, cure: str) -> None:
        super().__init__(why)
        self.why = why
        self.cure = cure
        self.steps: list[str] = []

    def error(self, where: str) -> UncacheableArgument:
        """Build the error that users see, for the argument named `where`."""
        shown = list(reversed(self.steps))
        path = where + "".join(shown[:SHOWN_STEPS]) + ("…" if len(shown) > SHOWN_STEPS else "")
        ignored = "name" if where == SOME_ARGUMENT else where
        return UncacheableArgument(f'`{path}` {self.why}; {self.cure}, or leave it out with `ignore=("{ignored}",)`')


def type_label(value: object) -> str:
    """Say a value's type as people write it: `str`, `shop.models.User`."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def no_identity(value: object) -> Refused:
    """Refuse a value of a type that says nothing about what it is known by."""
    if type(value).__module__ in ENCODED_MODULES:
        return Refused(f"is of type {type_label(value)}, which has no key", "pass what stands for it: a name, a number")
    return Refused(
        f"is of type {type_label(value)}, which has no identity to build a key from",
        f"give the class `__cache_key__`, call `identify({type(value).__name__}, key=...)`, "
        "declare its fields (dataclass, NamedTuple, Enum)",
    )


def key_step(key: object) -> str:
    """Say a mapping key as a step of a path; only what is short and plain, since keys may be user data."""
    # Python refuses to spell out an integer of thousands of digits.
    if type(key) is int and key.bit_length() > 64:
        return "[…]"
    if type(key) in (str, int) and len(shown := repr(key)) <= SHOWN_KEY_CHARACTERS:
        return f"[{shown}]"
    return "[…]"
