"""This is where we write one flight's life: who leads it, who follows it, and how each of them ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal

from msgspec import Struct

from taskcache.codec.envelope import ID_BYTES
from taskcache.errors import Cancelled, ComputationLost, Revoked, UntrustedValue
from taskcache.protocol import scripts, stamps
from taskcache.protocol.entry import EntryKey, is_of, new_token, read
from taskcache.protocol.steps import Call, Calls, Launch, Steps, Wait
from taskcache.settings import Settings

Source = Literal["hit", "stale", "joined", "led", "inline"]
Published = Literal["stored", "delivered", "kept", "refused", "ended"]
State = Literal["queued", "running", "retrying", "done", "failed", "lost", "cancelled"]

# A stamp outlives the entries under it by the longest computation anyone should wait for.
STAMP_MARGIN_MS = 3_600_000
_UNREADABLE = (
    "The worker sent something that this process cannot read. Give both the same secret (TASKCACHE_SECRET) "
    "and the same version of the code."
)


class NothingLeft(ComputationLost):
    """A flight ended, or vanished, and left nothing for who comes now."""


class Landing(Struct, frozen=True):
    """How a call ends: the value, or the error that every waiter of that computation gets."""

    value: object
    error: BaseException | None
    created_ms: int
    source: Source = "hit"
    # Where the error came from. Each time it is raised Python adds the way to whoever asked.
    trace: TracebackType | None = None

    @classmethod
    def failed(cls, error: BaseException, source: Source = "hit", created_ms: int = 0) -> Landing:
        return cls(None, error, created_ms, source, error.__traceback__)

    def via(self, source: Source) -> Landing:
        return Landing(self.value, self.error, self.created_ms, source, self.trace)


class Extra(Struct, frozen=True):
    """The stamps of tags that a body added: they have to be read before its value may be returned."""

    keys: tuple[bytes, ...]


class Lead(Struct, frozen=True):
    """The caller is the leader and computes here; `stamps` were read before it began, `now_ms` is the server's clock."""

    token: str
    stamps: bytes
    now_ms: int


# What waiting for a flight gives: an envelope, b"" for «look at the entry», None for «it vanished».
Ending = bytes | None


def stamp_lifetime_ms(lifetime_ms: int) -> int:
    """How long the stamps of an entry that lives `lifetime_ms` have to be there."""
    return lifetime_ms + STAMP_MARGIN_MS if lifetime_ms >= 0 else lifetime_ms


class Errand(Struct, frozen=True):
    """What one call wants, in the protocol's terms. The functions are pure: they decode, they do not speak."""

    key: EntryKey
    stamps: tuple[bytes, ...]
    lifetime_ms: int
    settings: Settings
    # Names the channel where this process hears of ended flights; opened by the first miss.
    inbox: Callable[[], str]
    # Empty when a worker queue computes; else this process does, under that owner.
    owner: str
    # Gives the landing of an entry that may be returned under these stamps, or None, or what else has to be read.
    usable: Callable[[bytes | None, Sequence[bytes | None]], Landing | Extra | None]
    # Opens what the flight of a token delivered; raises UntrustedValue. The tags its body added are named beside it.
    opened: Callable[[bytes, str], tuple[Landing, Extra]]
    # Seals an error for everybody who waits.
    failure: Callable[[BaseException, str], bytes]
    # Whether this process has left a flight as its last one, and had it revoked.
    was_left: Callable[[str], bool]
    # A script can read the stamps: everywhere but in a Cluster, whose slots keep them apart from the entry.
    has_stamps_beside: bool = False

    @property
    def stamp_lifetime_ms(self) -> int:
        return stamp_lifetime_ms(self.lifetime_ms)


def obtain(
    errand: Errand, first: Sequence[bytes | None] | None = None, named: str | None = None
) -> Steps[Landing | Lead]:
    """
    Return the value of a call: stored, from somebody else's flight, or from a flight of our own.

    `first` is what a read that began after the call began has found: entry, then stamps. `named` is the token of the
    first flight that is led or followed; a token is elected once, ever. Ends with `Lead` when the caller has to compute. Raises
    ComputationLost when flights of this key keep vanishing.
    """
    outdated, deaths, source = "-", 0, "hit"
    while True:
        entry, *current = first or (yield from read((errand.key.entry, *errand.stamps)))
        first = None
        landed = yield from judged(errand, entry, current)
        if landed is not None:
            return landed.via(source)  # type: ignore[arg-type]  # grows from literals only
        held = yield from stamps.ensure(errand.stamps, current, errand.stamp_lifetime_ms)
        mine = named or new_token()
        reply = yield from _elect(errand, mine, entry or b"", held, outdated)
        word, token = scripts.text(reply[0]), reply[1]
        if word == "hit":
            landed = yield from judged(errand, token, _split(held, len(errand.stamps)))
            if landed is not None:
                return landed.via("hit")
            continue
        flight = scripts.text(token)
        if word == "outdated":
            # Nothing was elected: others may know the name already, a worker's main process that renews it.
            outdated = flight
            continue
        named = None
        # A lost reply makes redis-py send the script again, and then we hear of our own flight as if it were another's.
        leads = word == "lead" or flight == mine
        if leads and errand.owner:
            return Lead(mine, held, int(reply[2]) if word == "lead" else 0)
        if leads:
            yield from _launch(errand, mine)
        source = "led" if leads else "joined"
        ending = yield from _ended(errand, flight, leads)
        if ending is None:
            deaths += 1
            if deaths > errand.settings.max_deaths:
                raise ComputationLost(
                    f"The computation vanished {deaths} times, each time with the process that ran it. "
                    "Look for workers that are killed (memory limits, deploys) and call again."
                )
            continue
        if not isinstance(ending, Delivery):
            first = yield from read((errand.key.entry, *errand.stamps))
            ending = _stored(errand, first[0], flight)
        if ending is None:
            continue
        landed = ending.landing
        if ending.extra.keys:
            # A tag its body added may have been invalidated meanwhile, or before we came.
            landed = yield from judged(errand, ending.sealed, (yield from read(errand.stamps)))
        if landed is not None and not _is_told_by_a_leave(errand, flight, landed.error):
            return landed.via(source)  # type: ignore[arg-type]  # one of the two above


def _is_told_by_a_leave(errand: Errand, token: str, error: BaseException | None) -> bool:
    """Somebody else of this process left as the last one while we came: whoever stays has cancelled nothing."""
    return isinstance(error, Cancelled) or (isinstance(error, Revoked) and errand.was_left(token))


def judged(errand: Errand, entry: bytes | None, current: Sequence[bytes | None]) -> Steps[Landing | None]:
    """Open an entry if it may be returned, reading the stamps of tags that its body added when it has some."""
    landed = errand.usable(entry, current)
    if isinstance(landed, Extra):
        more = yield from read(landed.keys)
        landed = errand.usable(entry, [*current, *more])
    return None if isinstance(landed, Extra) else landed


class Delivery(Struct, frozen=True):
    """What a flight delivered, and the same opened."""

    sealed: bytes
    landing: Landing
    extra: Extra


def _ended(errand: Errand, token: str, leads: bool) -> Steps[Delivery | Ending]:
    """
    Wait until a flight has ended, and open what it delivered.

    Whoever may publish can wake us, with anything: a value that we do not trust, or that another flight of this key
    delivered, makes us look and no more. What the flight itself left and nobody here can read is lost.
    """
    while True:
        ending: Ending = yield Wait(token, leads)
        if not ending:
            return ending
        try:
            return Delivery(ending, *errand.opened(ending, token))
        except UntrustedValue:
            pass
        kept: bytes | None = yield Call("GET", (errand.key.outcome(token),))
        if kept == b"":
            return kept
        if kept is not None:
            try:
                return Delivery(kept, *errand.opened(kept, token))
            except UntrustedValue as error:
                raise ComputationLost(_UNREADABLE) from error


def _stored(errand: Errand, entry: bytes | None, token: str) -> Delivery | None:
    """
    What a flight said to look for: its own entry is what it delivers, whatever happened to its stamps meanwhile.

    Judged as a stranger's, it could be refused again and again, each time for another computation: where the function
    has other tags in the worker than here, each of its entries is.
    """
    if entry is None or not is_of(entry, token):
        return None
    try:
        return Delivery(entry, *errand.opened(entry, token))
    except UntrustedValue as error:
        raise ComputationLost(_UNREADABLE) from error


def _elect(errand: Errand, mine: str, entry: bytes, held: bytes, outdated: str) -> Steps[scripts.Reply]:
    settings, key, queued = errand.settings, errand.key, not errand.owner
    election = scripts.elect(
        (key.entry, key.flight, key.retired(outdated), key.retired(mine), key.outcome(mine)),
        token=mine,
        seen=bytes(entry[:ID_BYTES]),
        stamps=held,
        outdated=outdated,
        inbox=errand.inbox(),
        owner=errand.owner,
        lease_ms=settings.queued_ms if queued else settings.lease_ms,
        resend_ms=settings.unsent_ms,
    )
    try:
        if queued:
            return (yield from election)
        # Who leads begins at once: as a claim does, this makes the stamps outlive the entry that will carry them.
        kept = stamps.extensions(errand.stamps, errand.stamp_lifetime_ms)
        reply: scripts.Reply = (yield Calls((*kept, scripts.as_call(election))))[-1]
        return reply
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        # Cancelled before the answer: if it was won, nobody would compute until its lease has lapsed.
        yield from end(errand, mine, owner=errand.owner, envelope=b"", ttl_ms=0)
        raise


def _split(joined: bytes, count: int) -> list[bytes | None]:
    size = stamps.STAMP_BYTES
    found: list[bytes | None] = [joined[start : start + size] for start in range(0, len(joined), size)]
    return found if len(found) == count else [None] * count


def _launch(errand: Errand, token: str) -> Steps[None]:
    """Send our flight to its queue; when that fails, end it at once so that nobody waits for it."""
    try:
        yield Launch(token)
    except GeneratorExit:
        raise  # the steps were dropped: nobody is there to carry out another one
    except BaseException as error:
        # An interruption ends the flight without an answer, and one of those who wait leads the next.
        envelope = errand.failure(error, token) if isinstance(error, Exception) else b""
        yield from end(errand, token, owner="", envelope=envelope, ttl_ms=0)
        raise


def end(
    errand: Errand, token: str, *, owner: str, envelope: bytes, ttl_ms: int, is_error: bool = True
) -> Steps[Published]:
    """Publish a value (`ttl_ms` > 0 or PERSIST) or deliver without storing (0); says what became of it."""
    settings, key = errand.settings, errand.key
    reply = yield from scripts.publish(
        (key.entry, *key.around(token)),
        token=token,
        owner=owner,
        envelope=envelope,
        ttl_ms=ttl_ms,
        linger_ms=settings.error_linger_ms if is_error else settings.linger_ms,
        inline_bytes=settings.inline_bytes,
    )
    return scripts.text(reply)  # type: ignore[return-value]  # the script's own words


def attend(errand: Errand, token: str) -> Steps[Landing]:
    """Wait for a flight that somebody else began, and start nothing when it is gone."""
    # Noted at once, not by the first look a second later: the last other waiter would end what has not begun.
    settings = errand.settings
    yield from scripts.follow(
        errand.key.around(token),
        token=token,
        inbox=errand.inbox(),
        queued_ms=settings.queued_ms,
        resend_ms=settings.queued_ms,
        sent=-1,
    )
    ending = yield from _ended(errand, token, leads=False)
    if isinstance(ending, Delivery):
        return ending.landing.via("joined")
    entry, *current = yield from read((errand.key.entry, *errand.stamps))
    landed = yield from judged(errand, entry, current)
    if landed is None:
        raise NothingLeft("This computation is over and its value is not stored any more. Call the function again.")
    return landed.via("joined")


def invalidate(key: EntryKey, *, envelope: bytes = b"", ttl_ms: int = 0) -> Steps[int]:
    """Delete an entry, or put another in its place, and outdate the flight that computes it; 1 when it was there."""
    there = yield from scripts.forget((key.entry, key.flight), envelope=envelope, ttl_ms=ttl_ms)
    return there


def depart(errand: Errand, token: str, *, envelope: bytes) -> Steps[str]:
    """Stop waiting for a flight; the last one to leave ends it when it has not begun."""
    reply = yield from scripts.leave(
        errand.key.around(token),
        token=token,
        inbox=errand.inbox(),
        envelope=envelope,
        linger_ms=errand.settings.error_linger_ms,
    )
    return scripts.text(reply)


class Claim(Struct, frozen=True):
    """What a claim answered; `stamps` and `now_ms` (server clock) are those the entry must carry."""

    word: Literal["run", "ended", "superseded", "gone", "taken", "early"]
    stamps: bytes = b""
    now_ms: int = 0
    left_ms: int = 0


def begin(errand: Errand, token: str, *, owner: str, inline: bool, again: bool = False) -> Steps[Claim]:
    """
    Claim a flight for computing: the stamps are read first, and those of an earlier attempt win over them.

    `again` says that it is a retry: its arguments may come from work that began before an invalidation.
    """
    how = (owner, inline, again)
    if errand.has_stamps_beside:
        claimed = yield from _claim(errand, token, *how, b"", errand.stamps)
        if claimed is not None:
            return claimed
    current = yield from read(errand.stamps)
    held = yield from stamps.ensure(errand.stamps, current, errand.stamp_lifetime_ms)
    claimed = yield from _claim(errand, token, *how, held)
    assert claimed is not None
    return claimed


def _claim(
    errand: Errand, token: str, owner: str, inline: bool, again: bool, held: bytes, beside: tuple[bytes, ...] = ()
) -> Steps[Claim | None]:
    """Ask for a flight; None when a stamp that the script should read is not there."""
    claim = scripts.as_call(
        scripts.claim(
            (*errand.key.around(token), *beside),
            token=token,
            owner=owner,
            stamps=held,
            lease_ms=errand.settings.lease_ms,
            inline=int(inline),
            again=int(again),
        )
    )
    *_, reply = yield Calls((*stamps.extensions(errand.stamps, errand.stamp_lifetime_ms), claim))
    word = scripts.text(reply[0])
    if word == "unstamped":
        return None
    if word == "run":
        return Claim("run", reply[1], int(reply[2]))
    if word in ("taken", "early"):
        return Claim(word, left_ms=max(0, int(reply[1])))  # type: ignore[arg-type]  # narrowed by `in`
    return Claim(word)  # type: ignore[arg-type]  # the script's own words


def yield_back(errand: Errand, token: str, *, owner: str, in_ms: int, resend_ms: int | None = None) -> Steps[bool]:
    """
    Give a claimed flight back for a retry in `in_ms`, before the retry message is sent: a fast worker must find it.

    When nobody has begun it `resend_ms` after that, a waiter sends a message.
    """
    settings = errand.settings
    reply = yield from scripts.release(
        errand.key.around(token)[:2],
        token=token,
        owner=owner,
        in_ms=in_ms,
        queued_ms=settings.queued_ms,
        resend_ms=settings.unsent_ms if resend_ms is None else resend_ms,
    )
    return scripts.text(reply) == "released"
