"""This is where we read numpy arrays and scalars; numpy is never imported, it is used when the program has."""

from __future__ import annotations

import sys
from typing import Any, Final

from taskcache.keys.refusal import Refused, type_label

# Kinds whose bytes are the value. Not here: object (pointers), StringDType (pointers), anything a library adds.
PLAIN_KINDS: Final = "biufcmMSUV"
# A long double has padding bytes that hold anything.
WIDEST_BYTES: Final = {"f": 8, "c": 16}


def read_array(value: Any) -> tuple[str, bytes] | None:
    """
    Give what a numpy value is ("ndarray", "npscalar") and its parts as bytes; None for everything else.

    Raises `Refused` for a dtype whose bytes are not the value.
    """
    numpy = sys.modules.get("numpy")
    # A program may be in the middle of importing numpy, or a test may have put a stub there.
    if numpy is None or not hasattr(numpy, "ndarray") or not hasattr(numpy, "generic"):
        return None
    if type(value) is numpy.ndarray:
        return "ndarray", _content(value)
    if isinstance(value, numpy.generic) and type(value).__module__ == "numpy":
        return "npscalar", _content(numpy.asarray(value))
    return None


def _content(array: Any) -> bytes:
    """Write dtype, shape and bytes in C order; a structured array field by field: its padding holds anything."""
    dtype = array.dtype
    shape = ",".join(str(length) for length in array.shape).encode()
    if dtype.names is not None:
        columns = [_part(name.encode("utf-8", "surrogatepass")) + _part(_content(array[name])) for name in dtype.names]
        return _part(b"struct") + _part(shape) + b"".join(columns)
    plain = dtype.kind in PLAIN_KINDS and not dtype.hasobject and dtype.type.__module__ == "numpy"
    if not plain or dtype.itemsize > WIDEST_BYTES.get(dtype.kind, dtype.itemsize):
        raise Refused(
            f"is a {type_label(array)} of dtype {dtype.name}, whose bytes are not its value",
            "convert it with `.astype(...)` or `.tolist()`",
        )
    return _part(dtype.str.encode()) + _part(shape) + _part(array.tobytes())


def _part(content: bytes) -> bytes:
    return b"%d:%b" % (len(content), content)
