"""This is where we see what somebody at a prompt meets beside the pages: nested calls, dead workers, what is refused."""

from __future__ import annotations

import pytest

from tests.docs.typist import Typist

pytestmark = pytest.mark.timeout(180)

PATIENCE = 30.0


def say(typist: Typist, text: str, expected: str) -> str:
    """Type the statements of a text, one after the other; the last one's output, which ends with what is expected."""
    *before, last = (statement.splitlines() for statement in text.strip().split("\n\n"))
    for statement in before:
        typist.type(statement, lambda said: True, PATIENCE)
    said = typist.type(last, lambda said: said.rstrip().endswith(expected), PATIENCE)
    return said.strip()


@pytest.fixture
def prompt(typist: Typist) -> Typist:
    """A prompt with an embedded cache that has announced its server."""
    say(typist, "import os, signal\n\nfrom taskcache import Cache\n\ncache = Cache()\n\n_ = cache.get('x')", "users.")
    return typist


def test_functions_of_a_prompt_call_each_other_in_the_worker(prompt: Typist) -> None:
    """A function that travels by value may call itself and others, which travel too, and wait for them."""
    text = """
@cache.cache_async(timeout=60)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1)() + fibonacci(n - 2)()

fibonacci(10)()
"""

    assert say(prompt, text, "55") == "55"


def test_what_needs_a_task_by_name_is_refused(prompt: Typist) -> None:
    """`.delay()` says that the local worker knows no task by name, instead of waiting for it."""
    text = """
@cache.cache_async
def double(n):
    return 2 * n

double.delay(1)
"""

    assert "NoCeleryApp: __main__.double" in say(prompt, text, "start a worker.")


def test_a_killed_worker_is_replaced(prompt: Typist) -> None:
    """The next call after the local worker's death starts another one."""
    text = """
@cache.cache_async
def worker():
    return os.getpid()

first = worker()()

os.kill(first, signal.SIGKILL)

worker.bust()

worker()() != first
"""

    assert say(prompt, text, "True").endswith("True")


def test_a_worker_that_cannot_live_ends_the_wait(prompt: Typist) -> None:
    """A local worker that ends while it starts gives the waiters a reason, and its output tells more."""
    text = """
os.environ["TASKCACHE_NAME"] = "{}"

@cache.cache_async
def double(n):
    return 2 * n

double(1)()
"""

    said = say(prompt, text, "Call again.")

    assert "ComputationLost: The local worker ended with status 2" in said
    assert "a cache name is not empty" in said


def test_an_edited_function_is_the_one_that_runs(prompt: Typist) -> None:
    """Defined again under its name, as a notebook cell is, a function runs its new body, without a warning."""
    text = """
@cache.cache_async(timeout=60)
def answer():
    return 41

answer()()

@cache.cache_async(timeout=60)
def answer():
    return 42

answer()()
"""

    assert say(prompt, text, "42") == "42"
    assert prompt.leave().strip() == ""
