"""This is where somebody makes up ids of results, as whoever is given one in a URL may try."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache import ComputationLost, UsageError
from tests.nodes.server import ValkeyNode
from tests.security.damage import damaged, fuzz
from tests.security.vault import SECRET, Vault, found_id


@pytest.fixture(scope="module")
def vault(attacked_server: ValkeyNode) -> Iterator[Vault]:
    """A cache with a secret."""
    vault = Vault(attacked_server.url(4), SECRET)
    yield vault
    vault.cache.close()
    vault.client.close()


@fuzz(150)
@given(data=st.data())
def test_fuzz_an_id_that_is_none_is_refused_or_finds_nothing(vault: Vault, data: st.DataObject) -> None:
    """UsageError for what is no id; ComputationLost, or the true value of that very key, for what looks like one."""
    vault.square(7)
    good = found_id(vault.cache, vault.square, vault.square.key_for(7))
    made = st.one_of(st.text(max_size=40), damaged([good.encode()]).map(lambda bad: bad.decode("latin-1")))
    with contextlib.suppress(UsageError, ComputationLost):
        assert 49 == vault.cache.result(data.draw(made))(block=False, default=49)


def test_an_id_is_an_address_and_no_permission(vault: Vault) -> None:
    """Whoever knows a key can write its id: what one user may see has to be checked by the application (docs/security.md)."""
    vault.square(8)

    assert 64 == vault.cache.result(found_id(vault.cache, vault.square, vault.square.key_for(8)))()
