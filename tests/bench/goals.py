"""This is where the rows of the table stand: what is compared with what, and how good it has to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.bench.measure import Spread


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a measured median keeps or misses."""

    bound: float
    is_upper: bool
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """True when `value` is within the bound."""
        return value <= self.bound if self.is_upper else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_upper else '≥'} {self.bound:g}{self.unit}"


def at_most(bound: float, unit: str = "") -> Goal:
    """An upper bound."""
    return Goal(bound, True, unit)


def at_least(bound: float, unit: str = "") -> Goal:
    """A lower bound."""
    return Goal(bound, False, unit)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the budget."""

    key: str
    text: str
    goal: Goal | None = None


POOLS = ("prefork", "threads", "gevent", "solo")

# DESIGN section 6, line by line; a line that names several peers, codecs or pools is a row for each.
BUDGET = (
    Row("hit.small", "small hit / redis-py `r.get`", at_most(0.40)),
    Row("hit.small.signed", "small hit, signed / redis-py `r.get`", at_most(0.40)),
    Row("hit.small.walrus", "small hit / walrus", at_most(0.33)),
    Row("hit.small.dogpile", "small hit / dogpile.cache", at_most(0.20)),
    Row("hit.small.flask-caching", "small hit / Flask-Caching", at_most(0.08)),
    Row("hit.10k", "10 KB hit / (raw GET + `pickle.loads`)", at_most(1.15)),
    Row("hit.10k.own", "10 KB hit / (raw GET + own decode)", at_most(1.15)),
    Row("hit.1m", "1 MB hit / redis-py `r.get`", at_most(0.70)),
    Row("hit.1m.signed", "1 MB hit, signed / redis-py `r.get`"),
    Row("near.hit", "near hit / `functools.lru_cache`", at_most(1.6)),
    Row("near.staleness", "near staleness p95, main thread spinning", at_most(10, " ms")),
    Row("threads", "8 threads, hits/s / redis-py", at_least(2.7)),
    Row("async.hit", "async hit / redis.asyncio GET", at_most(0.33)),
    Row("async.many", "1000 coroutines, hits/s / redis.asyncio pool of 50", at_least(8)),
    Row("many.get", "get_many(1000), pickled / MGET + loads", at_most(1.05)),
    Row("many.get.typed", "get_many(1000), typed / MGET + loads", at_most(0.65)),
    Row("many.set", "set_many(1000, ttl) / pipeline", at_most(0.25)),
    Row("key", "key derivation / walrus md5(pickle)", at_most(0.40)),
    *(Row(f"miss.{pool}", f"cold miss / `delay().get()`, {pool}", at_most(0.75)) for pool in POOLS),
    *(Row(f"wake.{pool}", f"body end → caller has it / Celery's, {pool}", at_most(0.25)) for pool in POOLS),
    Row("herd.executions", "callers in processes, one cold key: executions", at_most(1)),
    Row("herd.wake", "callers in processes, one cold key: wake p99", at_most(100, " ms")),
    Row("death", "worker SIGKILLed → waiter has value or reason (lease 5 s)", at_most(7, " s")),
    Row("import", "`import taskcache` / `import redis`", at_most(1.3)),
)
_ROWS = {row.key: row for row in BUDGET}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out for one row; without a spread, `note` says why nothing did."""

    row: Row
    spread: Spread | None
    note: str = ""
    # Seconds of one operation of each variant: for the eye, they do not compare between runs.
    seconds: dict[str, float] = field(default_factory=dict)
    # What the least that could do the same has reached in the same rotation.
    floor: Spread | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal or a measurement."""
        if self.row.goal is None or self.spread is None:
            return None
        return self.row.goal.is_met(self.spread.median)

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the goal is missed, and the floor has missed it too."""
        return self.is_met is False and self.floor is not None and not self.row.goal.is_met(self.floor.median)  # type: ignore[union-attr]


def budget(
    key: str,
    spread: Spread | None,
    note: str = "",
    seconds: dict[str, float] | None = None,
    floor: Spread | None = None,
) -> Outcome:
    """The outcome of a row of the budget, and what its floor was."""
    return Outcome(_ROWS[key], spread, note, seconds or {}, floor)


def beside(text: str, spread: Spread | None, note: str = "", seconds: dict[str, float] | None = None) -> Outcome:
    """The outcome of a row without a goal: a peer, a floor, a size."""
    return Outcome(Row("", text), spread, note, seconds or {})


def not_built(*keys: str, note: str = "not built") -> list[Outcome]:
    """Rows whose feature does not exist yet."""
    return [budget(key, None, note) for key in keys]


@dataclass(frozen=True, slots=True)
class Curve:
    """How one number depends on another, for one or several variants."""

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]
