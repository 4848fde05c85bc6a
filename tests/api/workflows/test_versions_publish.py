"""`POST /api/v1/workflows/{name}/versions/{number}/publish`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_run, make_workflow

OPERATION = "versions_publish"
PATH = "/api/v1/workflows/hello/versions/2/publish"
pytestmark = pytest.mark.api


def test_runs_start_it_and_those_in_flight_keep_theirs(api: Api, tenant):
    run = make_run(tenant)
    make_draft(tenant, HELLO.replace("Greets", "Published"))
    response = api.post(PATH)
    assert (response.status_code, read(response)["state"]) == (200, "published")
    assert read(api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}))["version"] == 2
    run.refresh_from_db()
    assert run.version.number == 1
    assert read(api.get("/api/v1/workflows/hello"))["description"] == "Published"


def test_a_draft_that_is_older_than_what_is_published_is_what_runs_start(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Third"))
    api.post(PATH)
    assert read(api.get("/api/v1/workflows/hello"))["version"] == 2


def test_a_version_is_published_once(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    api.post(PATH)
    assert_problem(api.post(PATH), 409, "version_state")


def test_a_state_that_was_not_seen_is_not_published(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
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
    hidden, unknown = other_api.post(PATH), other_api.post("/api/v1/workflows/unknown/versions/2/publish")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    make_draft(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(
        13
    ):  # the workflow, the draft, the next publication, changes; 3 audit; 2 log; 3 triggers
        assert api.post(PATH).status_code == 200
