"""Two tenants with one of everything."""

import pytest

from tests.support.worlds import World, make_world


@pytest.fixture(autouse=True)
def cheap_passwords(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ours(db) -> World:
    return make_world("plainq7x")


@pytest.fixture
def theirs(db) -> World:
    return make_world("canaryq7x")
