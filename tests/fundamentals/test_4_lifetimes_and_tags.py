"""This is where it is said how long a value is good for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskcache import FOREVER, Cache, UsageError, current


def lifetime(function: object) -> float | None:
    """The seconds that the value of `function()` still has."""
    entry = function.peek()  # type: ignore[attr-defined]  # a cached function
    assert entry is not None
    seconds: float | None = entry.expires_in
    return seconds


def test_seconds_or_a_timedelta(cache: Cache) -> None:
    """One word, one meaning: on a function `timeout` is how long its values live."""
    quarter = cache.cached(timeout=900)(lambda: 1)
    hour = cache.cached(timeout=timedelta(hours=1))(lambda: 2)
    quarter(), hour()

    assert 890 < (lifetime(quarter) or 0) <= 900
    assert 3590 < (lifetime(hour) or 0) <= 3600


@pytest.mark.keeps_forever
def test_forever(cache: Cache) -> None:
    """Until it is busted."""
    eternal = cache.cached(timeout=FOREVER)(lambda: 1)
    eternal()

    assert None is lifetime(eternal)


def test_nothing_is_stored_for_no_time(cache: Cache) -> None:
    """Those who ask at the same moment still share one computation."""
    momentary = cache.cached(timeout=0)(lambda: 1)
    momentary()

    assert None is momentary.peek()


def test_the_result_may_say(cache: Cache) -> None:
    """An empty answer is good for a second, a full one for an hour."""

    @cache.cached(timeout=lambda found: 3600 if found else 1)
    def search(word: str) -> list[str]:
        return [word] if word == "tea" else []

    search("tea"), search("gold")
    tea, gold = search.peek("tea"), search.peek("gold")

    assert tea is not None
    assert (tea.expires_in or 0) > 3590
    assert gold is None or (gold.expires_in or 0) <= 1


def test_the_body_may_say(cache: Cache) -> None:
    """`current()` is the computation one is in."""

    @cache.cached(timeout=3600)
    def fetch() -> str:
        current().timeout = 5
        return "a page that says it changes soon"

    fetch()

    assert (lifetime(fetch) or 0) <= 5


def test_some_values_are_not_to_be_kept(cache: Cache) -> None:
    """By the result, or by the body."""
    picky = cache.cached(store_if=lambda value: value is not None)(lambda: None)

    @cache.cached()
    def unsure() -> str:
        current().do_not_store()
        return "a guess"

    picky(), unsure()

    assert (None, None) == (picky.peek(), unsure.peek())


def test_a_tag_names_many_entries(cache: Cache) -> None:
    """One word invalidates all that carry it, whatever function made them."""
    names = {7: "Ann"}

    @cache.cached(tags=("user-{number}",))
    def name(number: int) -> str:
        return names[number]

    @cache.cached()
    def page(number: int) -> str:
        current().tags.add(f"user-{number}")
        return f"<h1>{names[number]}</h1>"

    name(7), page(7)
    names[7] = "Bea"
    cache.invalidate("user-7")

    assert ("Bea", "<h1>Bea</h1>") == (name(7), page(7))


def test_a_misspelt_option_is_found(cache: Cache) -> None:
    """When the function is decorated, with a suggestion."""
    with pytest.raises(UsageError, match="did you mean 'timeout'"):
        cache.cached(timout=5)  # type: ignore[call-overload]  # that is the point
