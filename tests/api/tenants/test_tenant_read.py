"""`GET /api/v1/tenants/current`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, is_uuid7, read
from tests.support.factories.rows import make_api_key

OPERATION = "tenant_read"
PATH = "/api/v1/tenants/current"
pytestmark = pytest.mark.api


def test_it_shows_the_tenant_of_the_key(api: Api, tenant):
    response = api.get(PATH)
    body = read(response)
    assert (body["slug"], body["name"], body["plan"]) == (tenant.slug, tenant.name, tenant.plan)
    assert is_uuid7(body["id"])
    assert body.keys() == {"id", "slug", "name", "plan", "created_at", "updated_at"}
    assert response.headers["ETag"].startswith('"')


def test_it_answers_in_yaml(api: Api, tenant):
    assert read(api.get(PATH, accept=YAML))["slug"] == tenant.slug


def test_a_viewer_may_read_it_and_a_key_needs_the_scope(tenant):
    assert Api(make_api_key(tenant, role="viewer")[1]).get(PATH).status_code == 200
    assert_problem(Api(make_api_key(tenant, scopes=["runs:read"])[1]).get(PATH), 403, "forbidden")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, other_tenant, tenant):
    assert read(other_api.get(PATH))["slug"] == other_tenant.slug
    assert_problem(other_api.get(f"/api/v1/tenants/{tenant.pk}"), 404, "not_found")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get(PATH)
    with django_assert_num_queries(1):
        api.get(PATH)
