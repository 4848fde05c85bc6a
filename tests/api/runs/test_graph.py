"""`GET /api/v1/runs/{id}/graph`."""

from uuid import UUID
from xml.etree import ElementTree

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "runs_graph"
pytestmark = pytest.mark.api


@pytest.fixture
def path(tenant) -> str:
    run = make_run(tenant)
    record(run)
    return f"/api/v1/runs/{run.pk}/graph"


def test_nodes_have_states(api: Api, path: str):
    body = read(api.get(path))
    assert [(node["id"], node["state"]) for node in body["nodes"]] == [("greet", "succeeded")]
    assert (body["edges"], body["state"]) == ([], "succeeded")


def test_it_is_drawn_as_mermaid(api: Api, path: str):
    response = api.get(f"{path}?format=mermaid")
    assert response.headers["Content-Type"].startswith("text/vnd.mermaid")
    assert "greet" in response.content.decode()


def test_it_is_drawn_as_svg(api: Api, path: str):
    response = api.get(f"{path}?format=svg")
    assert response.headers["Content-Type"].startswith("image/svg+xml")
    assert "succeeded" in "".join(ElementTree.fromstring(response.content).itertext())


@pytest.mark.parametrize("query", ["format=png", "as=svg"])
def test_a_wrong_query_is_refused(api: Api, path: str, query: str):
    assert_problem(api.get(f"{path}?{query}"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/graph")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get(path)
    with django_assert_num_queries(2):  # the run, the states of its nodes; the plan is known
        assert api.get(path).status_code == 200
