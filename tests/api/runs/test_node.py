"""`GET /api/v1/runs/{id}/nodes/{node}`."""

from uuid import UUID

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "run_nodes_read"
pytestmark = pytest.mark.api


@pytest.fixture
def run(tenant):
    return make_run(tenant)


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}/nodes/greet"


def test_a_node_with_its_attempts(api: Api, run, path: str):
    record(run)
    body = read(api.get(path))
    assert (body["id"], body["type"], body["state"], body["output"]) == ("greet", "transform", "succeeded", "Hello Ada")
    [attempt] = body["history"]
    assert (attempt["attempt"], attempt["state"], attempt["error"]) == (1, "succeeded", None)
    assert attempt["started_at"] <= attempt["finished_at"]
    assert body["items"] == 0


def test_a_node_that_nothing_happened_to_yet_is_pending(api: Api, path: str):
    body = read(api.get(path))
    assert (body["state"], body["attempts"], body["history"]) == ("pending", 0, [])


@pytest.mark.parametrize("node", ["unknown", "%00"])
def test_an_unknown_node_is_not_found(api: Api, run, node: str):
    assert_problem(api.get(f"/api/v1/runs/{run.pk}/nodes/{node}"), 404, "node_not_found")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/nodes/greet")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, run, path: str, django_assert_num_queries):
    record(run)
    api.get(path)
    with django_assert_num_queries(4):  # the run, the node, its events, its items; the plan is known
        assert api.get(path).status_code == 200
