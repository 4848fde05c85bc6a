"""`POST /api/v1/workflows/{name}/unarchive`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_workflow

OPERATION = "workflows_unarchive"
PATH = "/api/v1/workflows/hello/unarchive"
pytestmark = pytest.mark.api


def test_runs_start_again(api: Api, tenant):
    make_workflow(tenant)
    api.post("/api/v1/workflows/hello/archive")
    response = api.post(PATH)
    assert (response.status_code, read(response)["archived_at"]) == (200, None)
    assert api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}).status_code == 202


def test_a_state_that_was_not_seen_is_not_unarchived(api: Api, tenant):
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
    hidden, unknown = other_api.post(PATH), other_api.post("/api/v1/workflows/unknown/unarchive")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(2):  # the workflow, which is in use already; its version
        assert api.post(PATH).status_code == 200
