"""This is where bytes are damaged in every way that a signature has to notice."""

from __future__ import annotations

from hypothesis import strategies as st


def damaged(data: st.DataObject, sealed: bytes) -> bytes:
    """The bytes with one bit changed, with their end missing, or with something after it."""
    raw = bytearray(sealed)
    if data.draw(st.booleans()):
        flip_a_bit(data, raw)
    elif data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw += data.draw(st.binary(min_size=1, max_size=20))
    return bytes(raw)


def flip_a_bit(data: st.DataObject, raw: bytearray) -> None:
    """Change one bit in place."""
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
