"""`GET /api/v1/nodes/{type}`."""

import pytest

from tests.support.api import Api, assert_problem, read

OPERATION = "nodes_read"
PATH = "/api/v1/nodes/http"
pytestmark = pytest.mark.api


def test_it_shows_one_type(api: Api):
    body = read(api.get(PATH))
    assert (body["type"], body["config"]["type"]) == ("http", "object")


def test_an_unknown_type_is_not_found(api: Api):
    assert_problem(api.get("/api/v1/nodes/htpt"), 404, "node_type_not_found")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.get(PATH).content == other_api.get(PATH).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.get(PATH)
    with django_assert_num_queries(0):
        assert api.get(PATH).status_code == 200
