"""`GET /api/v1/workflows/{name}/graph`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_workflow

OPERATION = "workflows_graph"
PATH = "/api/v1/workflows/hello/graph"
pytestmark = pytest.mark.api


def test_it_is_drawn_in_three_ways(api: Api, tenant):
    make_workflow(tenant)
    assert [node["id"] for node in read(api.get(PATH))["nodes"]] == ["greet"]
    mermaid = api.get(f"{PATH}?format=mermaid")
    assert mermaid.headers["Content-Type"] == "text/vnd.mermaid; charset=utf-8"
    assert mermaid.content.startswith(b"flowchart TD")
    drawing = api.get(f"{PATH}?format=svg&version=1")
    assert (drawing.headers["Content-Type"], drawing.content[:4]) == ("image/svg+xml", b"<svg")
    assert drawing.headers["Content-Security-Policy"] == "default-src 'none'"


def test_other_formats_and_versions_there_are_not(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.get(f"{PATH}?format=png"), 422, "input_invalid")
    assert_problem(api.get(f"{PATH}?version=2"), 404, "version_not_found")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.get(PATH), other_api.get("/api/v1/workflows/unknown/graph")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(1):
        assert api.get(PATH).status_code == 200
