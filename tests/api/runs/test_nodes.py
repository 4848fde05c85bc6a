"""`GET /api/v1/runs/{id}/nodes`."""

from uuid import UUID

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "run_nodes_list"
pytestmark = pytest.mark.api


@pytest.fixture
def path(tenant) -> str:
    run = make_run(tenant)
    record(run)
    return f"/api/v1/runs/{run.pk}/nodes"


def test_the_nodes_of_a_run(api: Api, path: str):
    body = read(api.get(path))
    [node] = body["results"]
    assert (node["id"], node["state"], node["output"]) == ("greet", "succeeded", "Hello Ada")
    assert (body["next"], body["previous"]) == (None, None)


def test_they_can_be_filtered_by_state(api: Api, path: str):
    assert read(api.get(f"{path}?state=failed"))["results"] == []
    assert len(read(api.get(f"{path}?state=failed&state=succeeded"))["results"]) == 1


@pytest.mark.parametrize("query", ["state=done", "limit=0", "stat=failed"])
def test_a_wrong_query_is_refused(api: Api, path: str, query: str):
    assert_problem(api.get(f"{path}?{query}"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/nodes")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get(path)
    with django_assert_num_queries(2):  # the run, its nodes
        assert api.get(path).status_code == 200
