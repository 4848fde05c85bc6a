"""`POST /api/v1/workflows/{name}/versions/{number}/rollback`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_workflow

OPERATION = "versions_rollback"
PATH = "/api/v1/workflows/hello/versions/1/rollback"
pytestmark = pytest.mark.api


def test_a_copy_of_the_earlier_version_is_published(api: Api, tenant):
    first = make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    response = api.post(PATH)
    assert response.status_code == 201
    assert response.headers["Location"].endswith("/versions/3")
    body = read(response)
    assert (body["number"], body["state"], body["copied_from"]) == (3, "published", 1)
    assert body["checksum"] == first.checksum
    assert api.get("/api/v1/workflows/hello?format=yaml").content == HELLO.encode()
    assert read(api.get("/api/v1/workflows/hello"))["description"] == "Greets"


def test_an_archived_version_comes_back_too(api: Api, tenant):
    make_workflow(tenant)
    api.post("/api/v1/workflows/hello/versions/1/archive")
    assert api.post(PATH).status_code == 201


def test_a_draft_never_ran(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    assert_problem(api.post("/api/v1/workflows/hello/versions/2/rollback"), 409, "version_state")


def test_a_repeated_request_rolls_back_once(api: Api, tenant):
    make_workflow(tenant)
    first, again = (api.post(PATH, idempotency_key="once") for _ in range(2))
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.post(PATH), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.post(PATH), other_api.post("/api/v1/workflows/unknown/versions/1/rollback")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(
        14
    ):  # the workflow, the version, the next number, changes; 3 audit; 2 log; 3 triggers
        assert api.post(PATH).status_code == 201
