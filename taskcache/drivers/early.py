"""This is where messages of the inbox are kept that were faster than those who are going to wait for them."""

from __future__ import annotations

from collections import OrderedDict

# A message can be faster than the reply of the election it answers; a process that is held up may be this late.
EARLY_S = 10.0
# Many more flights than can end while their elections are answered, and their values in as much memory as one may notice.
EARLY_COUNT = 10_000
EARLY_BYTES = 8 * 2**20


class Early:
    """
    What came for flights that nobody of this process waited for at that moment; bounded in time, number and bytes.

    A value that is dropped leaves «look» in its place, which costs its waiter a round trip. A «look» that is dropped
    costs a watchdog period: whoever begins to wait does not hear that the flight is over, and finds it so.
    """

    def __init__(self) -> None:
        # Both oldest first, which a plain dict finds slowly once many have gone; a flight without a value has «look».
        self._since: OrderedDict[str, float] = OrderedDict()
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def size_bytes(self) -> int:
        """What the values take that are kept."""
        return self._bytes

    def keep(self, token: str, envelope: bytes, now: float) -> None:
        """Keep a message for who comes later, and forget what is too much; what is old, `forget` does."""
        if token in self._since:
            self._drop(token)
        elif len(self._since) >= EARLY_COUNT:
            self._drop(next(iter(self._since)))
        self._since[token] = now
        # Nearly always of a flight that is waited for, and empty.
        if envelope and len(envelope) <= EARLY_BYTES:
            self._values[token] = envelope
            self._bytes += len(envelope)
            while self._values and self._bytes > EARLY_BYTES:
                self._take_value(next(iter(self._values)))

    def take(self, token: str) -> bytes | None:
        """
        Give what came, or None when nothing did.

        The first to ask gets the value, later ones b"", «look»: values are not kept for those who may never ask.
        """
        return self._take_value(token) if token in self._since else None

    def forget(self, now: float) -> None:
        """Forget what nobody will come for."""
        while self._since:
            oldest = next(iter(self._since))
            if now - self._since[oldest] < EARLY_S:
                return
            self._drop(oldest)

    def _drop(self, token: str) -> None:
        self._take_value(token)
        self._since.pop(token, None)

    def _take_value(self, token: str) -> bytes:
        envelope = self._values.pop(token, b"")
        self._bytes -= len(envelope)
        return envelope
