"""This is where we type the command `taskcache`, as far as it needs no worker."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import redis

import taskcache
from taskcache import Cache
from taskcache.cli import main

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from taskcache.cli import main; sys.exit(main(sys.argv[1:]))"


def type_without_rich(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as it is for those who did not ask for the extra `cli`."""
    return subprocess.run([sys.executable, "-c", WITHOUT_RICH, *words], capture_output=True, text=True, timeout=30)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`taskcache --version` is that of the package."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert (0, f"taskcache {taskcache.__version__}\n") == (ended.value.code, capsys.readouterr().out)


def test_without_rich_the_demo_says_what_to_install() -> None:
    """The extra is named, and there is no traceback."""
    ran = type_without_rich("demo")

    assert (2, "taskcache demo needs rich: pip install 'taskcache[cli]'\n") == (ran.returncode, ran.stderr)


def test_without_rich_the_rest_works(redis_url: str) -> None:
    """Only the demo has tables and bars."""
    ran = type_without_rich("ping", "--url", redis_url)

    assert (0, "") == (ran.returncode, ran.stderr)


def test_the_demo_needs_two_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """One is killed, and another has to go on."""
    with pytest.raises(SystemExit):
        main(["demo", "--workers", "1"])

    assert "at least 2" in capsys.readouterr().err


def test_ping_tells_server_and_latency(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Which server it is, and how long a round trip takes."""
    assert 0 == main(["ping", "--url", redis_url])
    told = capsys.readouterr().out

    assert f"{redis_url} answers\n" in told
    assert re.search(r"server +(Valkey|Redis) \d+\.\d+.*, standalone, policy \w+", told)
    assert re.search(r"latency +\d+\.\d\d ms", told)


def test_ping_of_nobody_names_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is not there is one line and exit status 1."""
    assert 1 == main(["ping", "--url", "redis://127.0.0.1:1/0"])
    told = capsys.readouterr().err

    assert told.startswith("taskcache ping: redis://127.0.0.1:1/0 cannot be reached")
    assert 1 == told.count("\n")


def test_ping_of_no_database_names_the_cure(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is there and has no such database, too; calls are computed without the cache meanwhile."""
    url = redis_url.rpartition("/")[0] + "/999"
    assert 1 == main(["ping", "--url", url])
    told = capsys.readouterr().err

    assert told.startswith(f"taskcache ping: {url} has no such database")
    assert 1 == told.count("\n")
    assert 7 == Cache(url, name="nowhere").cached(name="seven")(lambda: 7)()


@pytest.mark.keeps_forever
def test_show_tells_of_a_plain_value_and_hides_it(
    redis_url: str, cache_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Size and lifetime are told; the value only when it is asked for."""
    with Cache(redis_url, cache_name) as cache:
        cache.set("foo", "a secret word", 60)
        cache.incr("count")
        redis.Redis.from_url(redis_url).set(cache.make_key("other"), "not ours", ex=60)
    where = ["--url", redis_url, "--name", cache_name]
    assert [0, 0, 0] == [main(["show", key, *where]) for key in ("foo", "count", "other")]
    told = capsys.readouterr().out

    assert re.search(r"entry +a plain value; \d+ bytes; expires in (60\.0|5\d\.\d) s\n", told)
    assert re.search(r"entry +a counter or a whole number; never expires\n", told)
    assert "8 bytes that read as a miss" in told
    assert "a secret word" not in told
    assert 0 == main(["show", "foo", "--value", *where])
    assert "value      'a secret word'\n" in capsys.readouterr().out


def test_show_tells_validity_and_flight(redis_url: str, cache_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """While it is computed the flight is shown, then the value, then that it was invalidated."""
    where = ["--url", redis_url, "--name", cache_name]
    seen: list[str] = []
    with Cache(redis_url, cache_name) as cache:

        @cache.cached(name="shop.price", timeout=60, tags=("shop",))
        def price(item: int) -> int:
            main(["show", price.key_for(item), *where])
            seen.append(capsys.readouterr().out)
            return item * 2

        price(1)
        for _ in range(2):
            assert 0 == main(["show", price.key_for(1), *where])
            seen.append(capsys.readouterr().out)
            cache.invalidate("shop")
    during, after, invalidated = seen

    assert re.search(r"entry +none\nflight +running; .*lease ends in [45]\.\d s\n", during)
    assert re.search(
        r"entry +a valid value of shop\.price; .*\nentry +computed 0\.\d s ago.*\nentry +tags shop\n", after
    )
    assert re.search(r"flight +none\n", after)
    assert "a value of shop.price that was invalidated" in invalidated


def test_show_of_nothing_is_status_1(redis_url: str, cache_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a script can ask."""
    assert 1 == main(["show", "nothing", "--url", redis_url, "--name", cache_name])
    assert "entry      none\nflight     none\n" in capsys.readouterr().out


def test_show_tells_of_an_entry_that_belongs_to_another_key(
    redis_url: str, cache_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has copied its bytes to where its label ends in the middle of a sign."""
    with Cache(redis_url, cache_name) as cache, redis.Redis.from_url(redis_url) as client:
        price = cache.cached(name="shop.price", timeout=60)(lambda: 1)
        price()
        client.copy(cache.make_key(price.key_for()), cache.make_key("shop.pricü"))
    assert 0 == main(["show", "shop.pricü", "--url", redis_url, "--name", cache_name])

    assert re.search(r"entry +a value of another key, which reads as a miss; \d+ bytes", capsys.readouterr().out)
