"""This is where we make key_vectors.json: values and calls, and the bytes and digests they must give for ever.

    python tests/pure/make_key_vectors.py            shows what differs from the stored file, exit code 1 if anything
    python tests/pure/make_key_vectors.py --write    stores what this interpreter gives

A difference means that every stored key of that kind is lost on upgrade: write only what is meant, and say so in the
changelog. Needs nothing but the standard library, msgspec for the calls alone, so any interpreter can check it.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import importlib
import importlib.util
import json
import pathlib
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).parent
STORED = HERE / "key_vectors.json"


def _lone(package: str) -> None:
    # Without this, `import taskcache.keys` would run taskcache/__init__.py, which needs Celery and redis.
    if package not in sys.modules:
        module = types.ModuleType(package)
        module.__path__ = [str(HERE.parent.parent.joinpath(*package.split(".")))]
        sys.modules[package] = module


if __name__ == "__main__":
    _lone("taskcache")

encode: Callable[[object], bytes] = importlib.import_module("taskcache.keys.encoding").encode
Reference: Any = importlib.import_module("taskcache.keys.identity").Reference


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: float = 0.5


class Pair(NamedTuple):
    left: object
    right: object


class Keyed:
    def __cache_key__(self) -> tuple[str, int]:
        return ("tenant", 7)


# The same names wherever the script runs: as a program, as a module, from any folder.
sys.modules["vectors"] = types.ModuleType("vectors")
for _cls in (Colour, Level, Right, Point, Pair, Keyed):
    _cls.__module__ = "vectors"
    setattr(sys.modules["vectors"], _cls.__name__, _cls)

NAMES: dict[str, Any] = {
    **{cls.__name__: cls for cls in (Colour, Level, Right, Point, Pair, Keyed)},
    "Reference": Reference,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "dt": dt,
    "zoneinfo": zoneinfo,
    "pathlib": pathlib,
    "nan": float("nan"),
    "inf": float("inf"),
    "plus2": dt.timezone(dt.timedelta(hours=2)),
    "utc": dt.timezone.utc,
}

VALUES = """
None
...
True
False
0
1
-1
2**63
2**64 - 1
2**64
-2**64
-2**200
0.0
-0.0
1.0
0.1
-1e-320
inf
-inf
nan
-nan
1j
complex(nan, -0.0)
''
'1'
'h\\xe9llo'
'\\ud800'
'\\U0001f600'
b''
b'1'
bytearray(b'1')
[]
()
[1, 'a', None]
(1, 'a', None)
[[1], [2]]
[[1, 2]]
set()
{1, 2, 3, 'a', b'a'}
frozenset({1, 2, 3})
{}
{'b': 1, 'a': 2}
{1: 'int', '1': 'str', (1,): 'tuple', None: 'none'}
dt.date(2024, 2, 29)
utc
plus2
dt.timezone(dt.timedelta(hours=2), 'A')
zoneinfo.ZoneInfo('Europe/Berlin')
dt.time(1, 2, 3)
dt.time(1, 2, 3, 4, fold=1)
dt.time(1, 2, tzinfo=plus2)
dt.datetime(2024, 2, 29, 1, 2, 3, 4)
dt.datetime(2024, 2, 29, 1, 2, fold=1)
dt.datetime(2024, 2, 29, 12, tzinfo=utc)
dt.datetime(2024, 2, 29, 14, tzinfo=plus2)
dt.datetime.min.replace(tzinfo=plus2)
dt.datetime.max.replace(tzinfo=utc)
dt.timedelta(days=-1, microseconds=1)
Decimal('1')
Decimal('1.0')
Decimal('-0')
Decimal('1E+5')
Decimal('sNaN12')
Decimal('-Infinity')
UUID(int=5)
range(1, 10, 3)
slice(None, 5)
pathlib.PurePosixPath('/a/b')
pathlib.PureWindowsPath('C:/a')
int
Point
Colour.RED
Level.LOW
Right.READ | Right.WRITE
Point(1)
Point(x=1, y=float(2))
Pair('a', [1])
Keyed()
Reference('vectors:Keyed', ('tenant', 7))
"""


def plain(a: object, b: object = 2) -> None: ...
def every(a: object, /, b: object = "b", *args: object, c: object = None, **kwargs: object) -> None: ...


CALLS: dict[str, tuple[Callable[..., None], str]] = {
    "plain(1)": (plain, "1"),
    "plain(1, 3)": (plain, "1, 3"),
    "plain(1.0)": (plain, "1.0"),
    "plain(True, '1')": (plain, "True, '1'"),
    "plain(nan)": (plain, "nan"),
    "plain(2**64)": (plain, "2**64"),
    "plain('\\ud800')": (plain, "'\\ud800'"),
    "plain([1], {2: 3})": (plain, "[1], {2: 3}"),
    "every(1)": (every, "1"),
    "every(1, 2, 3, 4, c=5, d=6, e=b'7')": (every, "1, 2, 3, 4, c=5, e=b'7', d=6"),
    "every(1, 2, [3], e=(4,))": (every, "1, 2, [3], e=(4,)"),
}


def values() -> dict[str, str]:
    """Give the hex of every value's canonical bytes, by its expression."""
    return {line: encode(eval(line, dict(NAMES))).hex() for line in VALUES.strip().splitlines()}


def calls() -> dict[str, str]:
    """Give the digest of every call."""
    compile_binding: Any = importlib.import_module("taskcache.keys.binding").compile_binding
    return {
        name: eval(f"digest({arguments})", {**NAMES, "digest": compile_binding(fn, salt=b"vectors").digest})
        for name, (fn, arguments) in CALLS.items()
    }


def main() -> int:
    """Compare with the stored file, or write it."""
    made = {"values": values()}
    if importlib.util.find_spec("msgspec") is not None:
        made["calls"] = calls()
    if "--write" in sys.argv:
        STORED.write_text(json.dumps(made, indent=1) + "\n")
        return 0
    stored: dict[str, dict[str, str]] = json.loads(STORED.read_text())
    differing = [name for part in made for name in stored[part] if made[part].get(name) != stored[part][name]]
    differing += [name for part in made for name in made[part] if name not in stored[part]]
    print("\n".join(differing) or f"{sum(map(len, made.values()))} vectors agree")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
