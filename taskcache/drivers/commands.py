"""This is where a call becomes the command that is sent, and what a Cluster's nodes have answered becomes its reply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import hiredis
from redis.exceptions import SlotNotCoveredError

from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Call


def packed(call: Call) -> bytes:
    """The bytes of this call as they are sent."""
    command: bytes = hiredis.pack_command(as_command(call)[0])
    return command


def as_command(call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What redis-py's `execute_command` takes for this call; scripts go by their SHA1."""
    script = SCRIPTS.get(call.name)
    if script is not None:
        return ("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args), {}
    # With this option redis-py gives the reply of SET as it is, which `SET ... GET` needs.
    return (call.name, *call.keys, *call.args), {"get": True} if call.name == "SET" else {}


def loading(call: Call) -> Call:
    """What a server is asked that does not know the script of this call; never EVAL, which hosted servers and our ACL refuse."""
    return Call("SCRIPT", (), ("LOAD", SCRIPTS[call.name].text))


def parted(calls: Sequence[Call]) -> list[Call]:
    """What a Cluster is asked: the keys of one MGET live in different slots there, and a pipeline goes to each node once."""
    parts: list[Call] = []
    for call in calls:
        parts += [Call("GET", (key,)) for key in call.keys] if call.name == "MGET" else [call]
    return parts


def node_of(client: Any, call: Call) -> dict[str, Any]:
    """Where a call of a pipeline goes: a cluster client of redis-py would ask the server which words of a script are keys."""
    node = client.get_node_from_key(call.keys[0]) if call.keys else client.get_default_node()
    return {} if node is None else {"target_nodes": node}


def by_node(client: Any, calls: Sequence[Call]) -> list[list[int]]:
    """The places of calls that go to the same nodes of a Cluster: when one of those is away, they fail together."""
    groups: dict[frozenset[str], list[int]] = {}
    for place, call in enumerate(calls):
        # The keys of a script share a slot.
        keys = call.keys if call.name == "MGET" else call.keys[:1]
        groups.setdefault(frozenset(_node_name(client, key) for key in keys), []).append(place)
    return list(groups.values())


def _node_name(client: Any, key: bytes) -> str:
    try:
        name: str = client.get_node_from_key(key).name
    except SlotNotCoveredError:
        return ""
    return name


def joined(calls: Sequence[Call], replies: Sequence[Any]) -> list[Any]:
    """The replies of `parted` calls as those of the calls; an error among them is the reply of its call."""
    following, found = iter(replies), []
    for call in calls:
        if call.name == "MGET":
            values = list(islice(following, len(call.keys)))
            found.append(next((value for value in values if isinstance(value, Exception)), values))
        else:
            found.append(next(following))
    return found


def unlinks(keys: Sequence[bytes], is_cluster: bool) -> list[Call]:
    """What removes keys: one command, or in a Cluster, where they live in different slots, one for each."""
    return [Call("UNLINK", (key,)) for key in keys] if is_cluster or not keys else [Call("UNLINK", tuple(keys))]


def scan_reply(reply: Any) -> tuple[int, list[bytes]]:
    """The cursor and the page of one SCAN, whichever client made it."""
    if isinstance(reply, dict):  # a cluster client names the node that answered
        reply = next(iter(reply.values()))
    cursor, page = reply
    if isinstance(cursor, dict):  # as newer ones do, one cursor for each node that was asked: one
        cursor = next(iter(cursor.values()))
    return int(cursor), list(page)
