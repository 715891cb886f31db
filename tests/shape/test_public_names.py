"""This is where the list of public names is held: what `taskcache` exports is what it promises."""

from __future__ import annotations

import inspect

import pytest

import taskcache
from tests.shape.source import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "taskcache/__init__.py").exists(), reason="the front is not written yet")

NAMES = {
    "Cache",
    "Result",
    "NotReady",
    "FOREVER",
    "gather",
    "as_completed",
    "current",
    "progress",
    "identify",
    "BoundCall",
}
ERRORS = {
    "TaskCacheError",
    "NotReady",
    "UsageError",
    "UncacheableArgument",
    "UnstorableValue",
    "ValueTooLarge",
    "NoServer",
    "NoCeleryApp",
    "AmbiguousApp",
    "DispatchFailed",
    "ComputationLost",
    "UnknownTask",
    "Revoked",
    "Expired",
    "TimeLimitExceeded",
    "Cancelled",
    "RemoteError",
}


def exported() -> list[str]:
    """Read the list the package declares."""
    return list(getattr(taskcache, "__all__", []))


def test_the_package_exports_what_the_design_names() -> None:
    """`taskcache.__all__` is the public interface: no name more, none less, none twice."""
    assert sorted(NAMES | ERRORS) == sorted(exported())


def test_every_public_name_explains_itself() -> None:
    """Each public name has a docstring."""
    silent = [name for name in exported() if not inspect.getdoc(getattr(taskcache, name))]

    assert [] == silent


def test_every_error_belongs_to_the_family() -> None:
    """Catching TaskCacheError catches everything that taskcache raises."""
    base = getattr(taskcache, "TaskCacheError", None)
    strangers = [name for name in ERRORS if not issubclass(getattr(taskcache, name), base or ())]

    assert [] == strangers


def test_a_public_class_lists_its_public_parts() -> None:
    """Each public method and property of a public class has a docstring."""
    classes = [value for value in map(vars(taskcache).get, exported()) if inspect.isclass(value)]
    silent = [
        f"{owner.__name__}.{name}"
        for owner in classes
        for name, part in vars(owner).items()
        if not name.startswith("_") and (callable(part) or isinstance(part, property)) and not inspect.getdoc(part)
    ]

    assert [] == silent
