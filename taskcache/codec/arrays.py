"""This is where we write numpy arrays and scalars, without pickle and only when the process already uses numpy.

u32 length of the description | description (typed) | raw bytes in C or Fortran order
"""

from __future__ import annotations

import re
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

from taskcache.codec.leaves import Unwritable

if TYPE_CHECKING:
    import numpy

ARRAY: Final = 32
SCALAR: Final = 33

_LENGTH: Final = struct.Struct("<I")
# numpy accepts far more spellings of a dtype than it writes; objects ("O") are not among these.
_DTYPE: Final = re.compile(r"[<>|=][biufcmMSUV]\d+(\[\w+\])?")


def is_numpy(kind: type) -> bool:
    """Whether values of this exact type are arrays or scalars of a numpy this process has imported."""
    loaded = sys.modules.get("numpy")
    return loaded is not None and (kind is loaded.ndarray or issubclass(kind, loaded.generic))


def write(value: Any) -> tuple[int, object, bytes]:
    """Take an array or scalar apart: extension code, description for the typed codec, raw bytes."""
    import numpy

    is_array = type(value) is numpy.ndarray
    array: numpy.ndarray[Any, Any] = value if is_array else numpy.asarray(value)
    if array.dtype.hasobject:
        raise Unwritable("holds Python objects (dtype object); give it a plain dtype")
    described = array.dtype.str if array.dtype.names is None else numpy.lib.format.dtype_to_descr(array.dtype)
    dtype = _dtype_of(described)
    if dtype != array.dtype or not (is_array or _comes_back(value, array[()], dtype)):
        raise Unwritable(f"has a dtype that cannot be written down ({array.dtype})")
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    raw = array.tobytes("F" if is_fortran else "C")
    return ARRAY if is_array else SCALAR, [described, list(array.shape), is_fortran], raw


def _comes_back(scalar: Any, again: Any, dtype: numpy.dtype[Any]) -> bool:
    # numpy strips trailing zeros from text, and has types of one layout and two names (long, long long).
    return type(scalar) is dtype.type and (dtype.kind not in "SU" or bool(again == scalar))


def join(description: bytes, raw: bytes) -> bytes:
    """Put description and raw bytes together."""
    return b"".join((_LENGTH.pack(len(description)), description, raw))


def split(data: memoryview) -> tuple[memoryview, memoryview]:
    """Part description and raw bytes again."""
    (length,) = _LENGTH.unpack_from(data)
    return data[_LENGTH.size : _LENGTH.size + length], data[_LENGTH.size + length :]


def read(code: int, description: Any, raw: memoryview) -> object:
    """Rebuild an array or scalar; the array owns its memory and can be written to."""
    import numpy

    described, shape, is_fortran = description
    order: Any = "F" if is_fortran else "C"
    dtype = _dtype_of(described)
    array = numpy.ndarray(shape, dtype, buffer=bytearray(raw), order=order)
    if array.nbytes != len(raw):
        raise ValueError("an array with more bytes than its shape holds")
    return array if code == ARRAY else array[()]


def _dtype_of(described: object) -> numpy.dtype[Any]:
    import numpy

    _check(described)
    dtype: numpy.dtype[Any] = numpy.lib.format.descr_to_dtype(described)  # type: ignore[arg-type]  # _check saw it
    if dtype.hasobject:
        raise ValueError("a dtype that holds objects")
    return dtype


def _check(described: object) -> None:
    # Only what dtype_to_descr makes: text, (dtype, shape), or a list of fields (name, dtype[, shape]).
    if isinstance(described, str):
        if not _DTYPE.fullmatch(described):
            raise ValueError(f"{described[:40]!r} is not a dtype we write")
    elif isinstance(described, tuple) and len(described) == 2:
        _check(described[0])
    elif isinstance(described, list):
        for field in described:
            if not isinstance(field, tuple) or not 2 <= len(field) <= 3:
                raise ValueError("a structured dtype has fields of two or three parts")
            _check(field[1])
    else:
        raise TypeError("not a description of a dtype")
