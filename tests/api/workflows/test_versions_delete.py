"""`DELETE /api/v1/workflows/{name}/versions/{number}`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, assert_same_answer
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_workflow

OPERATION = "versions_delete"
PATH = "/api/v1/workflows/hello/versions/2"
pytestmark = pytest.mark.api


def test_a_draft_is_deleted(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    assert api.send("DELETE", PATH).status_code == 204
    assert_problem(api.get(PATH), 404, "version_not_found")


def test_what_was_published_stays(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.send("DELETE", "/api/v1/workflows/hello/versions/1"), 409, "version_state")


def test_a_workflow_keeps_its_only_version(api: Api):
    api.post("/api/v1/workflows?draft=true", HELLO, YAML)
    assert_problem(api.send("DELETE", "/api/v1/workflows/hello/versions/1"), 409, "version_state")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.send("DELETE", PATH), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.send("DELETE", PATH), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.send("DELETE", PATH), other_api.send("DELETE", "/api/v1/workflows/unknown/versions/2")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    make_draft(tenant)
    api.get(PATH)
    with django_assert_num_queries(12):
        assert api.send("DELETE", PATH).status_code == 204
