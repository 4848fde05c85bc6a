"""`POST /api/v1/workflows/{name}/versions`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_workflow

OPERATION = "versions_create"
PATH = "/api/v1/workflows/hello/versions"
pytestmark = pytest.mark.api


def test_a_draft_changes_nothing_for_runs(api: Api, tenant):
    make_workflow(tenant)
    response = api.post(PATH, HELLO.replace("Greets", "Drafted"), YAML)
    assert response.status_code == 201
    assert response.headers["Location"] == f"http://testserver{PATH}/2"
    assert (read(response)["number"], read(response)["state"]) == (2, "draft")
    assert read(api.get("/api/v1/workflows/hello"))["version"] == 1
    assert read(api.get("/api/v1/workflows/hello"))["description"] == "Greets"
    assert read(api.post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}))["version"] == 1


def test_the_document_is_checked(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.post(PATH, HELLO.replace("transform", "tranform"), YAML), 422, "definition_invalid")
    body = assert_problem(api.post(PATH, HELLO.replace("name: hello", "name: other"), YAML), 422, "definition_invalid")
    assert body["errors"][0]["code"] == "name_mismatch"


def test_an_archived_workflow_gets_no_draft(api: Api, tenant):
    make_workflow(tenant)
    api.post("/api/v1/workflows/hello/archive")
    assert_problem(api.post(PATH, HELLO, YAML), 409, "workflow_archived")


def test_a_repeated_request_makes_one_draft(api: Api, tenant):
    make_workflow(tenant)
    first, again = (api.post(PATH, HELLO, YAML, idempotency_key="once") for _ in range(2))
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.post(PATH, HELLO, YAML), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH, HELLO, YAML), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    paths = (PATH, "/api/v1/workflows/unknown/versions")
    hidden, unknown = (other_api.post(path, HELLO, YAML) for path in paths)
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    with django_assert_num_queries(10):  # the workflow, the next number, both changes; 3 audit, 2 of the log
        assert api.post(PATH, HELLO, YAML).status_code == 201
