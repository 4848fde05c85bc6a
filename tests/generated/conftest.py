"""Two tenants with one of everything, made once for a module: what a test changes is undone.

They cost more than most of what is asked of them.
"""

from collections.abc import Iterator
from copy import deepcopy

import pytest
from django.db import transaction

from tests.support.factories.worlds import FullTenant, make_world


@pytest.fixture(scope="module")
def module_worlds(quick_hashes, django_db_setup, django_db_blocker) -> Iterator[tuple[FullTenant, FullTenant]]:
    """In a transaction of the module's, around those of its tests."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world("plainq7x"), make_world("canaryq7x")
        transaction.set_rollback(True)


@pytest.fixture
def ours(module_worlds: tuple[FullTenant, FullTenant], db) -> FullTenant:
    return deepcopy(module_worlds[0])


@pytest.fixture
def theirs(module_worlds: tuple[FullTenant, FullTenant], db) -> FullTenant:
    return deepcopy(module_worlds[1])
