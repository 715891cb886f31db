"""This is where the corpus is read again: bytes that once broke something break nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from taskcache.protocol.entry import new_token
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import WorkerNode
from tests.security import harvest, post
from tests.security.harvest import CORPUS, WITNESS
from tests.security.test_entries import is_true, signed_only
from tests.security.vault import SECRET, Vault


@pytest.fixture(scope="module")
def vaults(attacked_server: ValkeyNode) -> Iterator[list[Vault]]:
    """A cache with a secret and one without."""
    made = [Vault(attacked_server.url(3), SECRET), Vault(attacked_server.url(3), None)]
    yield made
    for vault in made:
        vault.cache.close()
        vault.client.close()


def test_the_corpus_is_what_its_makers_say() -> None:
    """Every file has a maker, and every maker's file is there; their bytes are kept as they were found."""
    made = {f"entry-{name}.bin" for name, _ in harvest.entries()} | {f"body-{name}.bin" for name, _ in harvest.bodies()}

    assert made == {path.name for path in CORPUS.iterdir()}


@pytest.mark.parametrize("path", sorted(CORPUS.glob("entry-*.bin")), ids=lambda path: path.stem)
def test_an_entry_of_the_corpus_breaks_no_reader(vaults: list[Vault], path: object) -> None:
    """With a secret it is a miss; without one, whatever it is, nobody falls and nothing is unpickled."""
    entry = path.read_bytes()  # type: ignore[attr-defined]  # a Path
    signed, unsigned = vaults
    for key in (signed.square.key_for(7), "äöü"):
        signed.put(key, entry)
        unsigned.put(key.replace("signed", "open"), entry)
        unsigned.cache.get(key)
        found = signed.cache.get(key)
        assert found is None or isinstance(found, int)

    unsigned.put(unsigned.square.key_for(7), entry)
    assert 6 == len(unsigned.reads(unsigned.square, 7))
    signed.put(signed.square.key_for(7), entry)
    assert is_true(signed, signed.square, 7, signed_only(entry, signed.reads(signed.square, 7)))
    assert not WITNESS.exists()


def test_the_messages_of_the_corpus_break_no_worker(app: ModuleType, victim: WorkerNode) -> None:
    """Each of them is refused or fails, and the worker answers the next call."""
    pid = victim.pid
    for path in sorted(CORPUS.glob("body-*.bin")):
        header = {"key": app.double.key_for(1), "token": new_token()}
        post.Message(app.double.name, path.read_bytes(), header).send(app)
        app.double.bust(5)
        assert 10 == app.double(5)(timeout=30), path.name

    assert (pid, True) == (victim.pid, victim.is_running)
    assert not (victim.folder / WITNESS).exists()
