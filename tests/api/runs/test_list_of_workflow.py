"""`GET /api/v1/workflows/{name}/runs`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_run

OPERATION = "workflow_runs_list"
PATH = "/api/v1/workflows/hello/runs"
pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def run(tenant):
    make_run(tenant, HELLO.replace("name: hello", "name: other"))
    return make_run(tenant)


def test_only_its_own_runs_are_listed(api: Api, run):
    body = read(api.get(PATH))
    assert [(shown["id"], shown["workflow"]) for shown in body["results"]] == [(str(run.pk), "hello")]


def test_they_can_be_filtered(api: Api):
    assert read(api.get(f"{PATH}?state=failed"))["results"] == []


def test_the_workflow_is_no_filter_here(api: Api):
    assert_problem(api.get(f"{PATH}?workflow=hello"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api):
    hidden, unknown = other_api.get(PATH), other_api.get("/api/v1/workflows/unknown/runs")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get(PATH)
    with django_assert_num_queries(2):  # the workflow, the runs
        assert api.get(PATH).status_code == 200
