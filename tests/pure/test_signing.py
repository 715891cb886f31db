"""This is where we hold that a signature is worth something for one secret, one use and one sequence of parts only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taskcache.codec.signing import MAC_BYTES, Signer
from taskcache.errors import UsageError

NEW, OLD = b"new secret of 32 bytes or more...", b"old secret of 32 bytes or more..."


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20), st.sampled_from((0, 1, 1024, 1025, 100_000)))
def test_a_signature_verifies(context: bytes, head: bytes, size: int) -> None:
    """What was signed verifies in the same context with the same parts, as bytes or as views."""
    payload = b"p" * size
    signer = Signer((NEW,))
    key_id, mac = signer.sign(context, head, payload)

    assert MAC_BYTES == len(mac)
    assert signer.key_id == key_id
    assert signer.verify(context, key_id, mac, memoryview(head), memoryview(payload))
    assert not signer.verify(context, key_id, mac, head, payload + b"p")


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        (b"other", (b"ab", b"c")),
        (b"key", (b"a", b"bc")),
        (b"key", (b"abc", b"")),
        (b"key", (b"", b"abc")),
        (b"key", (b"", b"")),
        (b"keyab", (b"", b"c")),
    ],
)
def test_other_contexts_and_parts_do_not_verify(context: bytes, parts: tuple[bytes, bytes]) -> None:
    """The same letters parted differently, or used elsewhere, are something else."""
    signer = Signer((NEW,))
    key_id, mac = signer.sign(b"key", b"ab", b"c")

    assert not signer.verify(context, key_id, mac, *parts)


def test_an_old_secret_still_verifies() -> None:
    """After a rotation, the newest secret signs and every secret verifies."""
    old, rotated = Signer((OLD,)), Signer((NEW, OLD))
    key_id, mac = old.sign(b"key", b"head", b"part")

    assert rotated.verify(b"key", key_id, mac, b"head", b"part")
    assert Signer((NEW,)).sign(b"key", b"head", b"part") == rotated.sign(b"key", b"head", b"part")
    assert not old.verify(b"key", *rotated.sign(b"key", b"head", b"part"), b"head", b"part")


def test_two_secrets_with_one_id_both_verify() -> None:
    """An id is one byte: when two secrets share it, each of them is tried."""
    ids: dict[int, bytes] = {}
    secrets = (b"secret number %d" % number for number in range(1000))
    for secret in secrets:
        key_id = Signer((secret,)).key_id
        if key_id in ids:
            break
        ids[key_id] = secret
    both = Signer((secret, ids[key_id]))

    assert both.verify(b"key", *Signer((secret,)).sign(b"key", b"head", b"part"), b"head", b"part")
    assert both.verify(b"key", *Signer((ids[key_id],)).sign(b"key", b"head", b"part"), b"head", b"part")


@pytest.mark.parametrize("mac", [b"", b"x", b"x" * 16, b"x" * 17])
def test_a_wrong_mac_does_not_verify(mac: bytes) -> None:
    """A MAC of any length that we did not make is refused."""
    signer = Signer((NEW,))

    assert not signer.verify(b"key", signer.key_id, mac, b"head", b"part")
    assert not signer.verify(
        b"key", (signer.key_id + 1) % 256, signer.sign(b"key", b"head", b"part")[1], b"head", b"part"
    )


def test_secrets_longer_than_a_key_matter_to_the_last_byte() -> None:
    """Two long secrets that differ only at the end sign differently."""
    long = b"s" * 200

    assert Signer((long + b"1",)).sign(b"key", b"", b"") != Signer((long + b"2",)).sign(b"key", b"", b"")


def test_no_secret_is_no_signer() -> None:
    """A signer without a secret would sign nothing, so it cannot be made."""
    with pytest.raises(UsageError):
        Signer(())


def test_the_repr_shows_no_secret() -> None:
    """A signer in a log line gives nothing away."""
    assert "<Signer with 2 secrets>" == repr(Signer((NEW, OLD)))
