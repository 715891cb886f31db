"""This is where arguments become a message and back: kombu's serializer `taskcache`, which keeps types and signatures."""

from __future__ import annotations

from typing import Any, Final

from kombu import serialization

from taskcache.codec import typed
from taskcache.errors import UntrustedValue, UsageError

NAME: Final = "taskcache"
CONTENT_TYPE: Final = "application/x-taskcache"
# What Celery embeds in a message beside the arguments.
EMBEDDED: Final = ("callbacks", "errbacks", "chain", "chord")


class SealedArguments(bytes):
    """The arguments of a call as `Codec.seal_message` wrote them; only the task that runs the call opens them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<sealed arguments>"


# Compared with the types of many at once: a message is looked at twice, each time by C alone.
_TEXT: Final = frozenset((str,))
_BYTES: Final = frozenset((bytes,))


def dumps(body: Any) -> bytes:
    """
    Write the body of a task message: args, kwargs and Celery's embed; for an eager task it is args and kwargs alone.

    The embed holds signatures, which are dicts of a class of their own: only their content travels.
    """
    if isinstance(body, dict):
        # What that protocol carries cannot be read here, and the call would be lost without a word.
        raise UsageError("taskcache's tasks do not travel by Celery's first protocol; set task_protocol = 2 in the app")
    return typed.encode(_plain(body, sealed=True), what="the message")


def loads(data: Any) -> Any:
    """
    Read a task message; sealed arguments stay sealed here, since this is the worker's main process too.

    Never raises: Celery would print the message, arguments and all, and whoever waits would not hear of it. What is
    damaged becomes a call that nobody can open: the task counts it and says so.
    """
    try:
        return _read(bytes(data))
    except (UntrustedValue, TypeError):  # the latter for text, which a forged content encoding makes of it
        return (SealedArguments(),), {}, {}


def _read(data: bytes) -> Any:
    body = typed.decode(data)
    if not isinstance(body, list | tuple) or len(body) not in (2, 3):
        raise UntrustedValue("a message that is not one of ours")
    args, *rest = body
    # Celery takes the message apart in the worker's main process, and is not prepared for anything else than these.
    if not all(isinstance(part, dict) and _TEXT.issuperset(map(type, part)) for part in rest):
        raise UntrustedValue("a message that is not one of ours")
    if isinstance(args, dict):
        sealed = args.get("sealed")
        calls = sealed if isinstance(sealed, list) else [sealed]
        if not calls or not _BYTES.issuperset(map(type, calls)):
            raise UntrustedValue("a message without its arguments")
        args = tuple(map(SealedArguments, calls))
        rest[0] = {}  # the others are sealed too: what stands here could keep Celery from calling the task
    elif not isinstance(args, list | tuple):
        raise UntrustedValue("a message without its arguments")
    # Celery makes attributes of its request of what is embedded: more than this would be believed to be its own.
    embeds = [{name: embed[name] for name in EMBEDDED if name in embed} for embed in rest[1:]]
    # It walks through them after the body has run, and forgets to say how that ended when it cannot.
    if not all(_is_embedded(name, embed[name]) for embed in embeds for name in embed if embed[name] is not None):
        raise UntrustedValue("a message that is not one of ours")
    return args, *rest[:1], *embeds


def _is_embedded(name: str, value: Any) -> bool:
    """Whether Celery can take this for the signature of a chord, or for those of the others."""
    signatures = [value] if name == "chord" else value
    return isinstance(signatures, list | tuple) and all(isinstance(each, dict) for each in signatures)


def _plain(value: Any, sealed: bool = False) -> Any:
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if sealed and isinstance(value, list | tuple) and are_sealed(value[0]):
        calls = [bytes(call) for call in value[0]]
        # A single call is written as ever: a worker of an older version reads it.
        return [{"sealed": calls[0] if len(calls) == 1 else calls}, *map(_plain, value[1:])]
    if isinstance(value, SealedArguments):
        return bytes(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value


def is_sealed(args: Any) -> bool:
    """True for the positional arguments of a message that holds one sealed call."""
    return are_sealed(args) and len(args) == 1


def are_sealed(args: Any) -> bool:
    """True for the positional arguments of a message that holds sealed calls, each as an argument of its own."""
    return isinstance(args, list | tuple) and len(args) > 0 and all(type(call) is SealedArguments for call in args)


def accept(app: Any) -> None:
    """Let an app's workers take these messages, whenever its configuration is loaded."""

    def add(conf: Any) -> None:
        accepted = set(conf.accept_content or ())
        if not accepted & {NAME, CONTENT_TYPE}:
            conf.accept_content = [*conf.accept_content, NAME]

    if app.configured:
        add(app.conf)
    else:
        app.on_after_configure.connect(lambda sender, source, **_: add(source), weak=False)


serialization.register(
    NAME,
    dumps,  # type: ignore[arg-type]  # bytes, as the encoding says
    loads,
    content_type=CONTENT_TYPE,
    content_encoding="binary",
)
