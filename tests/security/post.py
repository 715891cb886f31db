"""This is where messages are written by hand and put on the broker, as whoever has its password can."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import redis

from taskcache import ComputationLost
from taskcache.codec.sealing import Codec
from taskcache.launchers import serializer
from taskcache.launchers.serializer import SealedArguments
from taskcache.launchers.task import HEADER
from taskcache.protocol.entry import new_token
from taskcache.settings import Settings
from tests.nodes.waiting import wait_until

EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def sealed(name: str, args: list[Any], secret: str | None, kwargs: dict[str, Any] | None = None) -> bytes:
    """The arguments of a call of the function `name`, signed with any secret or none."""
    codec = Codec(Settings(secrets=(secret.encode(),) if secret else ()))
    return codec.seal_message([name, args, kwargs or {}])


def with_pickle(pickled: bytes, *, mac: bytes = b"") -> bytes:
    """Sealed arguments that are a pickle; with a MAC that somebody has guessed, or none."""
    head = bytearray(sealed("", [], "any secret of 16 bytes" if mac else None)[:4])
    head[2] |= 1
    return bytes(head) + mac + pickled


def body(*seals: bytes) -> bytes:
    """The body of a message with these sealed arguments, of one call or of several."""
    return serializer.dumps([tuple(map(SealedArguments, seals)), {}, EMBED])


def seals_of(message: Message) -> list[bytes]:
    """The sealed arguments in a message, those of each call."""
    return [bytes(seal) for seal in serializer.loads(message.body)[0]]


@dataclass
class Message:
    """One message, complete and true unless said otherwise."""

    task: str
    body: bytes
    header: Any = None
    id: str = field(default_factory=new_token)
    content_type: str = serializer.CONTENT_TYPE
    more: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def headers(self) -> dict[str, Any]:
        made = {
            "lang": "py",
            "task": self.task,
            "id": self.id,
            "root_id": self.id,
            "parent_id": None,
            "group": None,
            "argsrepr": "(...)",
            "kwargsrepr": "{}",
            "origin": "nobody",
            "retries": 0,
            "timelimit": [None, None],
            "eta": None,
            "expires": None,
            "shadow": None,
            "ignore_result": True,
            **self.more,
        }
        if self.header is not None:
            made[HEADER] = self.header
        return {name: value for name, value in made.items() if name not in self.without}

    @classmethod
    def caught(cls, client: redis.Redis, queue: str, token: str | None) -> Message:
        """Take the message of a flight out of a queue, as whoever has the broker's password can."""
        while True:
            wait_until(lambda: client.llen(queue), f"a message in {queue}")
            written: Any = client.rpop(queue)
            found = json.loads(written)
            headers = found["headers"]
            if str(token) in json.dumps(headers[HEADER]):
                break  # others are those of earlier tests, sent again
        return cls(headers["task"], base64.b64decode(found["body"]), headers.pop(HEADER), headers["id"], more=headers)

    def send(self, app: ModuleType, queue: str = "attacked") -> Message:
        with app.app.connection_for_write() as connection:
            connection.Producer().publish(
                self.body,
                exchange="",
                routing_key=queue,
                content_type=self.content_type,
                content_encoding="utf-8" if "json" in self.content_type else "binary",
                headers=self.headers(),
                correlation_id=self.id,
            )
        return self


def call_of(function: Any, *args: Any, secret: str | None, token: str | None = None) -> Message:
    """The message of a call, as its caller would send it."""
    token = token or new_token()
    header = {"key": function.key_for(*args), "token": token, "above": []}
    return Message(function.name, body(sealed(function.name, list(args), secret)), header, token)


def assert_middle_refused(results: Sequence[Any], numbers: Sequence[int]) -> None:
    """Of three calls that travelled together the second was forged: who waits for it is told, the others have their values."""
    with pytest.raises(ComputationLost):
        results[1](timeout=30)
    assert [2 * numbers[0], 2 * numbers[2]] == [results[0](timeout=30), results[2](timeout=30)]
