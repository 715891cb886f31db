"""This is where listeners hear what happens, and end when they like."""

from __future__ import annotations

from taskcache.events import Event, emit, listen


def test_a_listener_may_end_itself() -> None:
    """The next one hears the same event, and an end that comes twice is one."""
    heard: list[str] = []

    def once(event: Event) -> None:
        heard.append("once")
        end_once()

    end_once, end_always = listen(once), listen(lambda event: heard.append("always"))
    emit(Event("stored", "f"))
    emit(Event("stored", "f"))
    end_always()
    end_once()

    assert ["once", "always", "always"] == heard


def test_each_end_is_of_its_own_registration() -> None:
    """A listener that is registered twice hears twice, until one of the two has ended, however often it is told to."""
    heard: list[Event] = []
    end_one, end_other = listen(heard.append), listen(heard.append)
    end_one()
    end_one()
    emit(Event("stored", "f"))
    end_other()
    emit(Event("stored", "f"))

    assert 1 == len(heard)
