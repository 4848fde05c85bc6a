"""Two tenants with one of everything."""

import pytest

from tests.support.worlds import World, make_world


@pytest.fixture
def ours(db) -> World:
    return make_world("plainq7x")


@pytest.fixture
def theirs(db) -> World:
    return make_world("canaryq7x")
