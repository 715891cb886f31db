"""This is where we sign bytes, and tell our own signatures from everybody else's.

A signature binds bytes to a context: the kind of thing signed and, for entries, the Redis key. A value copied to
another key, or a message passed off as an entry, therefore fails although its bytes are ours.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from taskcache.errors import UsageError

MAC_BYTES: Final = 16

_lengths: Final = struct.Struct("<QQQ").pack
# Up to here it is cheaper to copy than to make one more call.
_SMALL_BYTES: Final = 1024


class Signer:
    """Signs with the newest of some secrets and verifies with any of them, so that secrets can be rotated."""

    __slots__ = ("_is_same", "_newest", "_states")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        """Take the secrets, newest first. Raises `UsageError` when there is none."""
        if not secrets:
            raise UsageError("signing needs a secret: pass Cache(secret=...) or set TASKCACHE_SECRET")
        # Not at the top: who has no secret need not wait for what it imports.
        from hmac import compare_digest

        self._is_same = compare_digest
        keyed = [(_key_id(secret), _keyed_state(secret)) for secret in secrets]
        self._newest = keyed[0]
        # One byte may name two secrets; verify tries each of them.
        self._states: dict[int, tuple[blake2b, ...]] = {}
        for key_id, state in keyed:
            self._states[key_id] = (*self._states.get(key_id, ()), state)

    def __repr__(self) -> str:
        return f"<Signer with {sum(map(len, self._states.values()))} secrets>"

    @property
    def key_id(self) -> int:
        """The id `sign` will answer with, for those who have to sign it as well."""
        return self._newest[0]

    def sign(self, context: bytes, head: bytes | memoryview, payload: bytes | memoryview) -> tuple[int, bytes]:
        """Sign a head and what follows it with the newest secret; returns its key id and the MAC."""
        key_id, state = self._newest
        return key_id, _mac(state, context, head, payload)

    def verify(
        self, context: bytes, key_id: int, mac: bytes, head: bytes | memoryview, payload: bytes | memoryview
    ) -> bool:
        """Whether one of our secrets made this MAC for these two in this context."""
        # Nearly always one, and a generator costs as much as its MAC.
        for state in self._states.get(key_id, ()):  # noqa: SIM110
            if self._is_same(_mac(state, context, head, payload), mac):
                return True
        return False


def _key_id(secret: bytes) -> int:
    return blake2b(secret, digest_size=1, person=b"taskcache key id").digest()[0]


def _keyed_state(secret: bytes) -> blake2b:
    # blake2b takes 64 bytes of key; a hash of the secret lets secrets be of any length.
    key = blake2b(secret, digest_size=32, person=b"taskcache key").digest()
    return blake2b(key=key, digest_size=MAC_BYTES, person=b"taskcache mac 1")


def _mac(state: blake2b, context: bytes, head: bytes | memoryview, payload: bytes | memoryview) -> bytes:
    # Lengths go in too: ("ab", "c") and ("a", "bc") are different things to sign.
    before = (_lengths(len(context), len(head), len(payload)), context, head)
    mac = state.copy()
    if len(payload) <= _SMALL_BYTES:
        mac.update(b"".join((*before, payload)))
    else:
        mac.update(b"".join(before))
        mac.update(payload)
    return mac.digest()
