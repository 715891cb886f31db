"""This is where we turn values into the bytes of entries, messages and failures, and back, trusting only our own.

envelope (the layout) · typed, with leaves, classes and arrays (values) · pickling · compression · signing · failures ·
sealing (all of them together).
"""

from taskcache.codec.envelope import Envelope, pack, unpack
from taskcache.codec.sealing import Codec

__all__ = ["Codec", "Envelope", "pack", "unpack"]
