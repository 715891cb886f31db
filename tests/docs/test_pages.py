"""This is where we look after what is no example: links, the list of pages, tables of names, and the picture."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from taskcache import errors
from taskcache.options import PER_CALL, AsyncOptions, CachedOptions, Options
from taskcache.protocol.entry import EntryKey
from taskcache.protocol.stamps import function_stamp, tag_stamp
from taskcache.settings import Environment, Settings
from tests.docs.pages import DOCS, ROOT, pages

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_NAME = re.compile(r"`([^`]+)`")


def text_of(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def names_in_table(page: Path, marker: str) -> list[str]:
    """The names in the first column of a marked table."""
    marked = page.read_text(encoding="utf-8").partition(f"<!-- options: {marker} -->")[2].partition("<!-- end")[0]
    rows = [line.split("|")[1] for line in marked.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in _NAME.findall(row)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository leads to a file, and to a heading that is there."""
    broken = []
    for link in _LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_there = target.exists() and (not anchor or anchor in anchors(target))
        if not link.startswith(("http:", "https:")) and not is_there:
            broken.append(link)

    assert [] == broken


def test_every_page_is_in_the_navigation() -> None:
    """The site's navigation names each page of docs/, and no page that is not there."""
    named = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert sorted(page.name for page in DOCS.glob("*.md")) == sorted(named)


def test_the_table_of_cached_has_its_options() -> None:
    """The guide of `cached` lists exactly the options that `cached` takes."""
    assert sorted(CachedOptions.__annotations__) == sorted(names_in_table(DOCS / "cached.md", "cached"))


def test_the_tables_of_cache_async_have_its_options() -> None:
    """The guide of `cache_async` lists exactly what it takes besides, ours and Celery's."""
    own = names_in_table(DOCS / "cache-async.md", "cache_async")
    celery = names_in_table(DOCS / "cache-async.md", "celery")
    # `batch` has a type of its own, since it changes that of the function.
    more = {*AsyncOptions.__annotations__, "batch"} - set(CachedOptions.__annotations__)

    assert sorted(more) == sorted([*own, *celery])
    assert set(own) == more & set(Options.__struct_fields__)


def test_the_table_of_with_options_has_what_it_takes() -> None:
    """The guide of `cache_async` lists what may be said for some calls."""
    assert sorted(PER_CALL) == sorted(names_in_table(DOCS / "cache-async.md", "for some calls"))


def test_the_table_of_variables_is_complete() -> None:
    """The page of plain keys lists each environment variable that is read."""
    read = {
        f"TASKCACHE_{field.upper()}" for field in Environment.__struct_fields__ if field not in ("fleet", "runtime_dir")
    }
    listed = re.findall(r"`(TASKCACHE_\w+)`(?:, `REDIS_URL`)? \|", (DOCS / "primitives.md").read_text(encoding="utf-8"))

    assert sorted(read) == sorted(listed)


def test_every_error_is_explained() -> None:
    """Each public error is named in some page."""
    said = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    internal = {"UntrustedValue", "TaskCacheError"}
    public = {
        name for name, thing in vars(errors).items() if isinstance(thing, type) and thing.__module__ == errors.__name__
    }

    assert [] == sorted(name for name in public - internal if name not in said)


def test_the_table_of_redis_keys_is_complete() -> None:
    """How-it-works lists every kind of key: an entry's companions, and both kinds of stamp."""
    page = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
    place = EntryKey.of(b"K")
    kinds = list(place.around("T"))
    kinds += [function_stamp("cache", "shop.render"), tag_stamp("cache", "article:7")]

    assert [] == [kind for kind in kinds if f"| `{kind.decode()}` |" not in page]


def test_the_lifetimes_in_the_table_are_those_of_the_settings() -> None:
    """Leases and lingering times that how-it-works tells are the defaults."""
    row = {
        line.split("|")[1].strip(): line for line in (DOCS / "how-it-works.md").read_text().splitlines() if "|" in line
    }
    settings = Settings()

    flight = f"queued {settings.queued_ms // 1000} s, running {settings.lease_ms // 1000} s"
    outcome = f"{settings.linger_ms // 1000} s for values, {settings.error_linger_ms // 1000} s for errors"
    assert flight in row["`{K}:flight`"]
    assert outcome in row["`{K}:outcome:T`"]


def test_the_picture_is_well_formed() -> None:
    """The picture of a flight is an SVG that says what it shows."""
    root = ElementTree.parse(DOCS / "flight.svg").getroot()

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
