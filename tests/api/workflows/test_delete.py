"""`DELETE /api/v1/workflows/{name}`."""

import pytest

from runs.models import Run
from tests.support.api import Api, assert_problem, assert_same_answer
from tests.support.factories.records import record
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from workflows.models import Version, Workflow

OPERATION = "workflows_delete"
PATH = "/api/v1/workflows/hello"
pytestmark = pytest.mark.api


def test_a_workflow_without_runs_is_gone_with_its_versions(api: Api, tenant):
    make_workflow(tenant)
    response = api.send("DELETE", PATH)
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(api.get(PATH), 404, "workflow_not_found")
    assert not Version.objects.for_tenant(tenant).exists()


def test_one_with_runs_has_to_be_archived_first_and_takes_them_along(api: Api, tenant):
    record(make_run(tenant))
    assert_problem(api.send("DELETE", PATH), 409, "workflow_in_use")
    assert api.post(f"{PATH}/archive").status_code == 200
    assert api.send("DELETE", PATH).status_code == 204
    assert not Run.objects.for_tenant(tenant).exists()


def test_runs_in_flight_have_to_end_first(api: Api, tenant):
    make_run(tenant)
    api.post(f"{PATH}/archive")
    body = assert_problem(api.send("DELETE", PATH), 409, "workflow_in_use")
    assert "are active" in body["detail"]
    assert Run.objects.for_tenant(tenant).count() == 1


def test_a_state_that_was_not_seen_is_not_deleted(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.send("DELETE", PATH, if_match='"old"'), 412, "precondition_failed")
    assert Workflow.objects.for_tenant(tenant).exists()


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.send("DELETE", PATH), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.send("DELETE", PATH), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.send("DELETE", PATH), other_api.send("DELETE", "/api/v1/workflows/unknown")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    # The workflow and its runs, before the lock and once more behind it; its bytes twice; 3 audit; six of Django's.
    with django_assert_num_queries(26):  # 6 of the rows of triggers
        assert api.send("DELETE", PATH).status_code == 204
