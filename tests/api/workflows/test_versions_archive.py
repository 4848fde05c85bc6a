"""`POST /api/v1/workflows/{name}/versions/{number}/archive`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_workflow

OPERATION = "versions_archive"
PATH = "/api/v1/workflows/hello/versions/2/archive"
pytestmark = pytest.mark.api


def test_runs_start_the_one_before(api: Api, tenant):
    make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    response = api.post(PATH)
    assert (response.status_code, read(response)["state"]) == (200, "archived")
    assert read(api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}))["version"] == 1


def test_the_workflow_is_described_by_the_one_before(api: Api, tenant):
    make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    before = read(api.get("/api/v1/workflows/hello"))["description"]
    api.post(PATH)
    after = read(api.get("/api/v1/workflows/hello"))["description"]
    assert before.replace("Greets again", "Greets") == after != before


def test_with_the_last_one_no_run_starts(api: Api, tenant):
    make_workflow(tenant)
    api.post("/api/v1/workflows/hello/versions/1/archive")
    start = api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}})
    assert_problem(start, 409, "workflow_not_published")


def test_a_draft_is_not_archived(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    assert_problem(api.post(PATH), 409, "version_state")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.post(PATH), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.post(PATH), other_api.post("/api/v1/workflows/unknown/versions/2/archive")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    api.get("/api/v1/workflows")
    with django_assert_num_queries(
        14
    ):  # the workflow, the version, the one before, twice, changes; 3 audit; 2 log; 3 triggers
        assert api.post(PATH).status_code == 200
