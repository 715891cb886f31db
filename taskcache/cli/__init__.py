"""This is where the command `taskcache` begins."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from taskcache import __version__
from taskcache.errors import TaskCacheError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except TaskCacheError as error:
        print(f"taskcache {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="taskcache", description="A distributed task cache for Celery.")
    parser.add_argument("--version", action="version", version=f"taskcache {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="measure the standard library with real workers, and count what was computed"
    )
    demo.add_argument("--quick", action="store_true", help="a hundred modules instead of all")
    demo.add_argument("--workers", type=_at_least_two, default=2, metavar="N", help="how many workers (default: 2)")
    demo.set_defaults(run=_demo)

    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("--url", help="the server (default: what Cache() finds)")

    ping = commands.add_parser("ping", parents=[server], help="is the server there, which one is it, how far away")
    ping.set_defaults(run=_ping)

    show = commands.add_parser("show", parents=[server], help="what is stored under a key, and who computes it")
    show.add_argument("key", metavar="KEY", help="as `cache.get` takes it and `fn.key_for()` gives it")
    show.add_argument("--name", help="the cache's name (default: TASKCACHE_NAME, else cache)")
    show.add_argument("--value", action="store_true", help="show the value too")
    show.set_defaults(run=_show)
    return parser


def _at_least_two(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("one of the workers is killed and another one goes on: at least 2")
    return number


def _demo(options: argparse.Namespace) -> int:
    try:
        import rich  # noqa: F401
    except ImportError:
        print("taskcache demo needs rich: pip install 'taskcache[cli]'", file=sys.stderr)
        return 2
    from taskcache.cli.demo.story import run

    return run(is_quick=options.quick, workers=options.workers)


def _ping(options: argparse.Namespace) -> int:
    from taskcache.cli.ping import ping

    return ping(options.url)


def _show(options: argparse.Namespace) -> int:
    from taskcache.cli.show import show

    return show(options.key, url=options.url, name=options.name, with_value=options.value)
