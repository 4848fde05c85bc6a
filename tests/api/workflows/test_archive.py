"""`POST /api/v1/workflows/{name}/archive`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_run, make_workflow

OPERATION = "workflows_archive"
PATH = "/api/v1/workflows/hello/archive"
pytestmark = pytest.mark.api


def test_no_run_starts_any_more_and_those_there_are_go_on(api: Api, tenant):
    run = make_run(tenant)
    response = api.post(PATH)
    assert response.status_code == 200
    assert read(response)["archived_at"]
    start = api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}})
    assert_problem(start, 409, "workflow_archived")
    run.refresh_from_db()
    assert run.state == "queued"


def test_twice_is_once(api: Api, tenant):
    make_workflow(tenant)
    first, second = api.post(PATH), api.post(PATH)
    assert (second.content, second.headers["ETag"]) == (first.content, first.headers["ETag"])


def test_a_state_that_was_not_seen_is_not_archived(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.post(PATH, if_match='"old"'), 412, "precondition_failed")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.post(PATH), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.post(PATH), other_api.post("/api/v1/workflows/unknown/archive")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(11):  # the workflow, its change; 3 audit, 2 of the log; 3 triggers; its version
        assert api.post(PATH).status_code == 200
