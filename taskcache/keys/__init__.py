"""This is where we turn calls into keys.

- `encoding`  values → canonical bytes → 32 hex digits
- `identity`  objects → what they are known by: `identify`, `__cache_key__`, Django models; references that travel
- `binding`   a function's signature → a compiled function that gives the digest of a call
- `declared`  dataclass, NamedTuple, attrs, pydantic, msgspec → their fields
- `arrays`    numpy → dtype, shape, bytes
- `refusal`   how an argument without a key is refused
"""

from __future__ import annotations

from taskcache.keys.identity import Reference, identify

__all__ = ["Reference", "identify"]
