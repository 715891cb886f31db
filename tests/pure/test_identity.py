"""This is where we check by what objects are known, and that references lead back to them."""

from __future__ import annotations

import functools
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import pytest

from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys import Reference, identify
from taskcache.keys import identity as identity_module
from taskcache.keys.encoding import encode
from taskcache.keys.identity import load, reference
from taskcache.keys.naming import type_name


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Forget what a test registers."""
    before = dict(identity_module._registry)
    yield
    identity_module._registry.clear()
    identity_module._registry.update(before)


class User:
    def __init__(self, pk: object) -> None:
        self.pk = pk


class Admin(User):
    pass


class Attribute:
    __cache_key__ = "constant"


class Property:
    @property
    def __cache_key__(self) -> int:
        return 5


class Method:
    def __init__(self, key: object) -> None:
        self.key = key

    def __cache_key__(self) -> object:
        return self.key


class MethodChild(Method):
    pass


class PerInstance:
    def __init__(self, key: object) -> None:
        self.__cache_key__ = key


class Proxy:
    """Answers every name, as RPC proxies do."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} went over the network")


@dataclass
class Declared:
    x: int

    def __cache_key__(self) -> str:
        return "known"


class Rows:
    """A manager with rows by database and primary key."""

    def __init__(self, database: str | None = None) -> None:
        self.database = database

    def using(self, database: str | None) -> Rows:
        return Rows(database)

    def get(self, *, pk: object) -> object:
        return ("row", self.database, pk)


class DjangoUser:
    _meta: ClassVar[Any] = SimpleNamespace(label="shop.User", concrete_model=None)
    _base_manager = Rows()

    def __init__(self, pk: object, database: str | None = "default", adding: bool = False) -> None:
        self.id = pk
        self._state = SimpleNamespace(db=database, adding=adding)

    @property
    def pk(self) -> object:
        return self.id


class KeyedDjangoUser(DjangoUser):
    def __cache_key__(self) -> str:
        return "own"


def key_of(user: User) -> object:
    return user.pk


def test_a_registered_type_is_known_by_its_key() -> None:
    """Two objects with one key are one, whatever else they hold."""
    assert User is identify(User, key=key_of)
    assert encode(User(1)) == encode(User(1)) != encode(User(2))


def test_identify_works_as_a_decorator() -> None:
    """Without a class it gives a decorator that returns the class."""

    @identify(key=lambda thing: thing.name)
    class Thing:
        name = "a"

    assert encode(Thing()) == encode(Thing())


@pytest.mark.parametrize("value", [Attribute(), Property(), Method(5), PerInstance(5)], ids=lambda v: type(v).__name__)
def test_an_object_may_bring_its_own_key(value: object) -> None:
    """`__cache_key__` may be an attribute, a property, a method, on the class or the instance."""
    assert encode(value) == encode(value)


def test_types_with_the_same_key_stay_apart() -> None:
    """The class is part of the identity, and so is being an object at all."""
    identify(User, key=key_of)

    assert 5 == len({encode(each) for each in (User(5), Property(), Method(5), PerInstance(5), 5)})


def test_a_subclass_is_another_type_with_an_inherited_key() -> None:
    """Admin 1 and User 1 are two identities, both known by the registered key."""
    identify(User, key=key_of)

    assert encode(Admin(1)) == encode(Admin(1)) != encode(User(1))
    assert encode(MethodChild(1)) != encode(Method(1))


def test_the_nearest_class_says_the_key() -> None:
    """A registration of the subclass comes before `__cache_key__` of its base, and the other way round."""
    identify(MethodChild, key=lambda value: "registered")

    assert encode(MethodChild(1)) == encode(MethodChild(2))
    assert encode(Method(1)) != encode(Method(2))


def test_a_declared_class_may_say_better() -> None:
    """`__cache_key__` comes before the fields of a dataclass."""
    assert encode(Declared(1)) == encode(Declared(2))


@pytest.mark.parametrize("value", [Method(None), PerInstance(None), User(None)], ids=lambda value: type(value).__name__)
def test_none_is_no_key(value: object) -> None:
    """Unsaved rows have None for a key and would all share one entry."""
    identify(User, key=key_of)

    with pytest.raises(UncacheableArgument, match="without a key"):
        encode([value])


def test_a_key_must_have_a_key_itself() -> None:
    """The error shows that the key is the culprit."""
    with pytest.raises(UncacheableArgument, match=r"`job\.__cache_key__\[0\]` is of type object"):
        encode(Method((object(),)), where="job")


def test_a_key_that_contains_its_object_is_refused_clearly() -> None:
    """Endless keys end in an error that says so."""
    value = Method(None)
    value.key = value

    with pytest.raises(UncacheableArgument, match="contains itself"):
        encode(value)


def test_an_object_that_answers_every_name_is_not_asked() -> None:
    """Looking for a key never triggers `__getattr__`, which may do I/O."""
    with pytest.raises(UncacheableArgument, match="has no identity"):
        encode(Proxy())


def test_a_django_model_is_known_by_label_key_and_database() -> None:
    """The rest of the row does not count, the database does."""
    one = encode(DjangoUser(1))

    assert one == encode(DjangoUser(1))
    assert 4 == len(
        {one, encode(DjangoUser(2)), encode(DjangoUser(1, "replica")), encode(DjangoUser(uuid.UUID(int=1)))}
    )


@pytest.mark.parametrize("user", [DjangoUser(None), DjangoUser(uuid.UUID(int=1), adding=True)], ids=["pk", "adding"])
def test_an_unsaved_django_model_has_no_key(user: object) -> None:
    """No worker could load it; the error says to save first."""
    with pytest.raises(UncacheableArgument, match=r"unsaved shop\.User; save it"):
        encode(user)
    with pytest.raises(UncacheableArgument, match=r"unsaved shop\.User; save it"):
        reference(user)


def test_a_registered_type_with_a_loader_travels_by_reference() -> None:
    """The reference holds type and key, and the loader makes the object from it."""
    identify(User, key=key_of, load=User)
    travelling = reference(User(7))

    assert Reference(f"{__name__}:User", 7) == travelling
    assert travelling is not None
    loaded = load(travelling)
    assert isinstance(loaded, User)
    assert 7 == loaded.pk


def test_a_reference_has_the_key_of_its_object() -> None:
    """The worker, which holds the reference, gets the same key as the caller."""
    identify(User, key=key_of, load=User)

    assert encode([User(7)]) == encode([reference(User(7))])
    assert encode(DjangoUser(7)) == encode(reference(DjangoUser(7)))


def test_a_subclass_travels_by_the_loader_of_its_base() -> None:
    """A loader is inherited with the key."""
    identify(User, key=key_of, load=lambda pk: ("loaded", pk))
    module = SimpleNamespace(Admin=Admin)
    travelling = reference(Admin(7))

    assert travelling == Reference(type_name(Admin), 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, __name__, module)
        assert ("loaded", 7) == load(Reference(type_name(Admin), 7))


def test_a_django_model_travels_by_reference() -> None:
    """It is read again in the worker, from the database it came from."""
    travelling = reference(DjangoUser(7, "replica"))

    assert Reference(f"{__name__}:DjangoUser", ("shop.User", 7, "replica")) == travelling
    assert travelling is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, __name__, SimpleNamespace(DjangoUser=DjangoUser))
        assert ("row", "replica", 7) == load(travelling)


@pytest.mark.parametrize(
    "value", [1, "a", None, Method(5), Admin(1), KeyedDjangoUser(1)], ids=lambda v: type(v).__name__
)
def test_what_has_no_loader_travels_as_itself(value: object) -> None:
    """A key alone does not make an object loadable."""
    identify(User, key=key_of)

    assert reference(value) is None


@pytest.mark.parametrize("name", ["os:path", "subprocess:Popen", "no_such_module:User", "antigravity:x", ":", "x"])
def test_a_reference_never_imports_nor_reaches_for_anything_else(name: str) -> None:
    """Only registered types and Django models are loaded; the error says what the worker lacks."""
    with pytest.raises(UsageError, match="import the module that calls `identify"):
        load(Reference(name, 1))


@pytest.mark.parametrize("cls", [int, str, dict, uuid.UUID, object])
def test_types_with_an_encoding_cannot_be_identified(cls: type[object]) -> None:
    """It would be silently without effect."""
    with pytest.raises(UsageError, match="a key already"):
        identify(cls, key=str)


def test_a_local_class_cannot_have_a_loader() -> None:
    """No worker finds a class made inside a function."""

    class Local:
        def __init__(self, key: object) -> None: ...

    with pytest.raises(UsageError, match="module level"):
        identify(Local, key=id, load=Local)


@pytest.mark.parametrize(("cls", "key", "load"), [("User", str, None), (User, "pk", None), (User, str, "get")])
def test_identify_checks_what_it_gets(cls: Any, key: Any, load: Any) -> None:
    """A wrong argument is an error where it is written."""
    with pytest.raises(UsageError):
        identify(cls, key=key, load=load)


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
def test_a_script_and_those_who_import_it_name_a_class_alike(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """In the process that runs it the module is `__main__`, in those that it spawns `__mp_main__`; workers import it."""
    colour = type("Colour", (), {"__module__": module})
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)

    assert "__main__:Colour" == type_name(colour), "at a prompt, which has no file"
    script.__file__ = "somewhere/shop_script.py"
    assert "shop_script:Colour" == type_name(colour)
    other = types.ModuleType("shop_script")
    monkeypatch.setitem(sys.modules, "shop_script", other)
    assert "__main__:Colour" == type_name(colour), "another module has the script's name"
    other.__file__ = script.__file__
    assert "shop_script:Colour" == type_name(colour), "the script has imported itself"


def test_a_reloaded_class_is_loaded_by_its_newest_loader() -> None:
    """A reload makes another class of the same name, and so does a notebook's cell that is run again."""
    for said in ("old", "new"):
        cls = type("Reloaded", (), {"__module__": __name__, "number": 1})
        identify(cls, key=lambda each: each.number, load=functools.partial(tuple.__add__, (said,)))
    made = reference(cls())

    assert made is not None
    assert ("new", 1) == load(Reference(made.type_name, (1,)))


@dataclass(frozen=True)
class Field:
    width: int
    depth: int


class Acre(Field):
    @functools.cached_property
    def area(self) -> int:
        return self.width * self.depth


class Corner(NamedTuple("Corner", [("x", int), ("y", int)])):
    @functools.cached_property
    def distance(self) -> int:
        return self.x + self.y


T = TypeVar("T")


@dataclass
class Tray(Generic[T]):
    held: int


class Box(Tray[T]):
    pass


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Acre(2, 3), lambda acre: acre.area),
        (Corner(2, 3), lambda corner: corner.distance),
        (Box(1), lambda box: setattr(box, "_taskcache_token", "a token")),
    ],
    ids=["dataclass", "NamedTuple", "read by cached_property"],
)
def test_what_follows_from_the_fields_is_no_state(value: Any, read: Callable[[Any], Any]) -> None:
    """A property that was read, and noted on the object, makes it no other object."""
    before = encode(value)
    read(value)

    assert vars(value)
    assert before == encode(value)


def test_what_a_generic_class_notes_is_no_state() -> None:
    """Python notes the parameters of `Box[int]` on each instance."""
    assert encode(Box(1)) == encode(Box[int](1))


def test_state_of_an_undeclared_subclass_is_refused() -> None:
    """Two that differ in it would have one key."""
    acre = Acre(2, 3)
    vars(acre)["owner"] = "Ada"

    with pytest.raises(UncacheableArgument):
        encode(acre)
