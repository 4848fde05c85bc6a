"""Two tenants and their clients, for every endpoint."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tests.support.api import Api
from tests.support.factories.rows import make_api_key, make_tenant


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant()


@pytest.fixture
def api(tenant: Tenant) -> Api:
    """A client of `tenant`."""
    return Api(make_api_key(tenant)[1])


@pytest.fixture
def other_tenant(db) -> Tenant:
    return make_tenant()


@pytest.fixture
def other_api(other_tenant: Tenant) -> Api:
    """A client of a tenant that must see nothing of `tenant`."""
    return Api(make_api_key(other_tenant)[1])


@pytest.fixture
def nobody(db) -> Api:
    """A client without a key."""
    return Api()


@pytest.fixture
def django_assert_num_queries():
    """As pytest-django's, but without what opens and closes transactions and enters a tenant.

    A claim about an endpoint is then one number on both databases.
    """

    @contextmanager
    def check(num: int) -> Iterator[CaptureQueriesContext]:
        with CaptureQueriesContext(connection) as context:
            yield context
        asked = [query["sql"] for query in context.captured_queries if not _BRACKETS.match(query["sql"])]
        assert len(asked) == num, "\n".join([f"{len(asked)} queries, not {num}:", *asked])

    return check


_BRACKETS = re.compile(r"(RELEASE |ROLLBACK TO )?SAVEPOINT|BEGIN|COMMIT|SELECT set_config\(|/\* scope \*/")
