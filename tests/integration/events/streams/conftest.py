"""The servers of streams."""

from collections.abc import Iterator

import pytest

from tenants.models import Tenant
from tests.support.factories.rows import make_api_key, make_tenant
from tests.support.servers import asgi


@pytest.fixture(scope="module", params=asgi.SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each ASGI server in turn."""
    with asgi.serving(request.param) as address:
        yield address


@pytest.fixture
def tenant(transactional_db) -> Tenant:
    return make_tenant()


@pytest.fixture
def credential(tenant: Tenant) -> str:
    """An `Authorization` of the tenant's owner."""
    return f"Bearer {make_api_key(tenant)[1]}"
