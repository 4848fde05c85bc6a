"""Two tenants and their clients, for every endpoint."""

import pytest

from tenants.models import Tenant
from tests.support.api import Api
from tests.support.factories import make_api_key, make_tenant


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
