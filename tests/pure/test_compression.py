"""This is where we hold that compression happens when it pays, comes back whole and never unfolds a bomb."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taskcache.codec import compression
from taskcache.codec.compression import compress, decompress
from taskcache.errors import UntrustedValue

TEXT = b"the same words again and again " * 300


def test_a_repetitive_payload_gets_smaller_and_comes_back() -> None:
    """What compresses well is compressed, and unfolds to the same bytes."""
    smaller = compress(TEXT, above_bytes=4096)

    assert smaller is not None
    assert len(smaller) < len(TEXT) / 10
    assert decompress(smaller) == decompress(memoryview(smaller)) == TEXT


@pytest.mark.parametrize("payload", [TEXT[:4096], b"", os.urandom(20_000)])
def test_what_does_not_pay_is_left_alone(payload: bytes) -> None:
    """Short payloads, and long ones that would stay long, are stored as they are."""
    assert compress(payload, above_bytes=4096) is None


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=100))
def test_arbitrary_bytes_do_not_unfold(data: bytes) -> None:
    """Bytes that are no frame of ours are refused in one way."""
    try:
        payload = decompress(data)
    except UntrustedValue:
        return

    assert len(payload) <= len(data) * 100


@pytest.mark.parametrize("length", [0, 3, 10, -1])
def test_a_truncated_frame_is_untrusted(length: int) -> None:
    """A frame cut short gives no part of its value."""
    smaller = compress(TEXT, above_bytes=0)
    assert smaller is not None

    with pytest.raises(UntrustedValue):
        decompress(smaller[:length])


def test_trailing_bytes_are_untrusted() -> None:
    """A frame with something after it was not made by us."""
    smaller = compress(TEXT, above_bytes=0)
    assert smaller is not None

    with pytest.raises(UntrustedValue):
        decompress(smaller + b"x")


def test_a_bomb_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that claims more than Redis could have stored is refused before anything is unfolded."""
    bomb = zstandard.ZstdCompressor().compress(b"\0" * 2000)
    monkeypatch.setattr(compression, "MAX_BYTES", 1000)

    with pytest.raises(UntrustedValue, match="2000 bytes"):
        decompress(bomb)


def test_a_frame_that_hides_its_size_is_untrusted() -> None:
    """Our frames state their size; one that does not could unfold to anything."""
    streamed = zstandard.ZstdCompressor().compressobj()
    frame = streamed.compress(TEXT) + streamed.flush()

    with pytest.raises(UntrustedValue):
        decompress(frame)


def test_threads_do_not_share_a_context() -> None:
    """Many threads at once each get their own bytes back."""
    payloads = [b"%d " % number * 3000 for number in range(200)]

    def round_trip(payload: bytes) -> bytes:
        smaller = compress(payload, above_bytes=0)
        return decompress(smaller) if smaller is not None else b""

    with ThreadPoolExecutor(8) as pool:
        assert payloads == list(pool.map(round_trip, payloads))
