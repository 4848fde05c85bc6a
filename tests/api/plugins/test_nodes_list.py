"""`GET /api/v1/nodes`."""

import pytest

from tests.support.api import Api, assert_problem, read

OPERATION = "nodes_list"
PATH = "/api/v1/nodes"
pytestmark = pytest.mark.api


def test_every_type_has_schemas_and_an_example(api: Api):
    found = {item["type"]: item for item in read(api.get(PATH))["results"]}
    assert {"http", "transform", "approval", "workflow"} <= found.keys()
    assert found["http"]["config"]["properties"]["url"]
    assert all(item["example"] and item["category"] for item in found.values())


def test_there_are_no_parameters(api: Api):
    assert_problem(api.get(f"{PATH}?limit=1"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.get(PATH).content == other_api.get(PATH).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.get(PATH)
    with django_assert_num_queries(0):
        assert api.get(PATH).status_code == 200
