"""`POST /api/v1/workflows/{name}/dry-run`."""

import pytest

from runs.models import Run
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_workflow

OPERATION = "workflows_dry_run"
PATH = "/api/v1/workflows/hello/dry-run"
pytestmark = pytest.mark.api


def test_it_plans_and_runs_nothing(api: Api, tenant):
    make_workflow(tenant)
    body = read(api.post(PATH, {"input": {"who": "Ada"}}))
    assert (body["order"], body["levels"], body["critical_path"]) == (["greet"], [["greet"]], ["greet"])
    assert body["nodes"][0]["config"]["input"] == "Hello Ada"
    assert not Run.objects.for_tenant(tenant).exists()


def test_an_input_that_does_not_fit_is_reported(api: Api, tenant):
    make_workflow(tenant)
    assert read(api.post(PATH, {"input": {"who": 1}}))["input_problems"]
    assert_problem(api.post(PATH, {"inptu": {}}), 422, "input_invalid")
    assert_problem(api.post(PATH, {"version": 7}), 404, "version_not_found")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, {}), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.post(PATH, {}), other_api.post("/api/v1/workflows/unknown/dry-run", {})
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(1):
        assert api.post(PATH, {}).status_code == 200
