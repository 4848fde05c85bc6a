"""`GET /api/v1/workflows/schema`."""

import pytest

from tests.support.api import Api, assert_problem, read

OPERATION = "workflows_schema"
PATH = "/api/v1/workflows/schema"
pytestmark = pytest.mark.api


def test_it_is_a_json_schema_of_documents(api: Api):
    body = read(api.get(PATH))
    assert body["$schema"].startswith("https://json-schema.org/")
    assert "nodes" in body["properties"]


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.get(PATH).content == other_api.get(PATH).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.get(PATH)
    with django_assert_num_queries(0):
        assert api.get(PATH).status_code == 200
