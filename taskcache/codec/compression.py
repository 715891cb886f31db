"""This is where we make payloads smaller when it pays, and refuse to unfold bombs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from taskcache.errors import UntrustedValue

if TYPE_CHECKING:
    import zstandard

# The longest string Redis stores; nothing honest unfolds to more, because it could not have been stored without zstd.
MAX_BYTES: Final = 512 * 1024 * 1024
# Level 1 takes most of the gain: .138 of the size at a quarter of the time of higher levels (facts/performance).
_LEVEL: Final = 1
_WORTHWHILE: Final = 0.9

# A context must not be used by two threads at once and costs 12 µs to make; a deque hands each to one user at a time.
_compressors: deque[zstandard.ZstdCompressor] = deque(maxlen=8)
_decompressors: deque[zstandard.ZstdDecompressor] = deque(maxlen=8)


def compress(payload: bytes, *, above_bytes: int) -> bytes | None:
    """Compress a payload longer than `above_bytes`; None when it is to be stored as it is."""
    if len(payload) <= above_bytes or len(payload) > MAX_BYTES:
        return None
    import zstandard  # here: many a process never meets a long value

    try:
        compressor = _compressors.pop()
    except IndexError:
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
    smaller = compressor.compress(payload)
    _compressors.append(compressor)
    return smaller if len(smaller) <= len(payload) * _WORTHWHILE else None


def unfolded_bytes(data: bytes | memoryview) -> int:
    """How long what `decompress` gives is."""
    import zstandard

    return int(zstandard.frame_content_size(data))


def decompress(data: bytes | memoryview) -> bytes:
    """Unfold what `compress` made. Raises `UntrustedValue` for everything else and for more than `MAX_BYTES`."""
    import zstandard

    try:
        size_bytes = zstandard.frame_content_size(data)
        if not 0 <= size_bytes <= MAX_BYTES:
            raise UntrustedValue(f"a compressed value that claims {size_bytes} bytes")
        try:
            decompressor = _decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        payload = decompressor.decompress(data, max_output_size=MAX_BYTES, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise UntrustedValue(f"a compressed value that does not unfold: {error}") from error
    _decompressors.append(decompressor)
    if len(payload) != size_bytes:
        raise UntrustedValue(f"a compressed value of {len(payload)} bytes that claims {size_bytes}")
    return payload
