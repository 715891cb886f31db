"""This is where messages that come before their waiters are kept: within bounds, and what is dropped only costs time."""

from __future__ import annotations

from taskcache.drivers.early import EARLY_BYTES, EARLY_COUNT, EARLY_S, Early


def test_the_first_to_ask_gets_the_value_and_later_ones_are_told_to_look() -> None:
    """A value is not kept for those who may never ask; of a flight that nothing was said of there is nothing."""
    early = Early()
    early.keep("T", b"value", 0.0)

    assert [b"value", b"", b"", None] == [early.take("T"), early.take("T"), early.take("T"), early.take("U")]
    assert 0 == early.size_bytes


def test_a_second_message_takes_the_place_of_the_first() -> None:
    """It is as young as itself."""
    early = Early()
    early.keep("T", b"one", 0.0)
    early.keep("T", b"other", EARLY_S - 1)
    early.forget(EARLY_S + 1)

    assert (5, b"other") == (early.size_bytes, early.take("T"))


def test_what_is_old_is_forgotten_without_another_message() -> None:
    """The oldest first; nothing stays because the inbox has gone quiet."""
    early = Early()
    early.keep("old", b"value", 0.0)
    early.keep("new", b"value", 5.0)
    early.forget(EARLY_S + 1)

    assert (1, None, b"value") == (len(early), early.take("old"), early.take("new"))


def test_there_are_never_too_many() -> None:
    """The oldest go: whoever waits for one of them finds its end by looking, a period later."""
    early = Early()
    for number in range(EARLY_COUNT + 5):
        early.keep(f"T{number}", b"v", 0.0)

    assert (EARLY_COUNT, EARLY_COUNT) == (len(early), early.size_bytes)
    assert (None, b"v") == (early.take("T4"), early.take("T5"))


def test_values_never_take_too_much() -> None:
    """The oldest values go first, and leave word to look: a round trip instead of a period."""
    early, half = Early(), b"x" * (EARLY_BYTES // 2)
    for token in ("A", "B", "C"):
        early.keep(token, half, 0.0)

    assert EARLY_BYTES == early.size_bytes
    assert [b"", half, half] == [early.take(token) for token in ("A", "B", "C")]


def test_a_value_that_is_too_much_by_itself_costs_the_others_nothing() -> None:
    """Whoever may publish can say anything, of any size."""
    early = Early()
    early.keep("A", b"value", 0.0)
    early.keep("B", b"x" * (EARLY_BYTES + 1), 0.0)

    assert [b"value", b""] == [early.take("A"), early.take("B")]
