"""`GET /api/v1/workflows/{name}/versions/diff`."""

import json

import jsonpatch
import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_run, make_workflow

OPERATION = "versions_diff"
PATH = "/api/v1/workflows/hello/versions/diff?from=1&to=2"
CALLER = """\
version: 2
name: caller
nodes:
  - {id: before, type: log, config: {message: hello}}
  - {id: call, type: workflow, config: {input: {}, workflow: hello}}
"""
CHANGED = HELLO.replace("Hello {{", "Good day {{") + 'triggers:\n  - {type: schedule, config: {cron: "0 2 * * *"}}\n'
pytestmark = pytest.mark.api


@pytest.fixture
def versions(tenant) -> None:
    make_workflow(tenant)
    make_draft(tenant, CHANGED)


@pytest.mark.usefixtures("versions")
def test_it_says_what_differs_and_whom_it_concerns(api: Api, tenant):
    make_run(tenant)
    make_workflow(tenant, CALLER)
    body = read(api.get(PATH))
    assert (body["workflow"], body["from"], body["to"], body["identical"]) == ("hello", 1, 2, False)
    [node] = body["nodes"]["changed"]
    assert (node["id"], node["changes"][0]["pointer"]) == ("greet", "/config/input")
    [schedule] = body["impact"]["schedules"]["added"]
    assert (schedule["id"], schedule["config"]) == ("schedule", {"cron": "0 2 * * *"})
    assert body["impact"]["callers"] == [{"workflow": "caller", "version": 1, "node": "call"}]
    # `make_run` stores HELLO again, which is version 3: the newest one is a draft.
    assert [entry["runs"] for entry in body["impact"]["runs_in_flight"]] == [1]


@pytest.mark.vendor("each vendor searches text in its own way")
@pytest.mark.usefixtures("versions")
def test_callers_are_those_of_today(api: Api, tenant):
    make_workflow(tenant, CALLER)
    make_workflow(tenant, CALLER.replace("workflow: hello", "workflow: other"))
    make_workflow(tenant, CALLER.replace("name: caller", "name: retired"))
    make_workflow(tenant, CALLER.replace("name: caller", "name: cased").replace("workflow: hello", "workflow: Hello"))
    api.post("/api/v1/workflows/retired/archive")
    assert read(api.get(PATH))["impact"]["callers"] == []


@pytest.mark.usefixtures("versions")
def test_a_json_patch_makes_one_definition_of_the_other(api: Api):
    answer = api.get(f"{PATH}&format=json-patch")
    assert answer.headers["Content-Type"] == "application/json-patch+json"
    first, second = (read(api.get(f"/api/v1/workflows/hello/versions/{n}"))["definition"] for n in (1, 2))
    assert jsonpatch.JsonPatch(json.loads(answer.content)).apply(first) == second


@pytest.mark.usefixtures("versions")
def test_the_documents_are_compared_line_by_line(api: Api):
    answer = api.get(f"{PATH}&format=text")
    assert answer.headers["Content-Type"] == "text/x-diff; charset=utf-8"
    lines = answer.content.decode().splitlines()
    assert lines[:2] == ["--- version 1", "+++ version 2"]
    assert '-    config: {input: "Hello {{ input.who }}", expression: "$"}' in lines
    assert api.get("/api/v1/workflows/hello/versions/diff?from=1&to=1&format=text").content == b""


@pytest.mark.usefixtures("versions")
def test_what_is_the_same_is_identical(api: Api):
    assert read(api.get("/api/v1/workflows/hello/versions/diff?from=2&to=2"))["identical"] is True


@pytest.mark.usefixtures("versions")
def test_versions_there_are_not_and_other_queries_are_refused(api: Api):
    at = "/api/v1/workflows/hello/versions/diff"
    assert_problem(api.get(f"{at}?from=1&to=9"), 404, "version_not_found")
    assert_problem(api.get(f"{at}?from=1&to=99999999999999999999"), 404, "version_not_found")
    for query in ("", "?from=1", "?from=0&to=1", "?from=a&to=1", "?from=1&to=2&format=xml", "?from=1&to=2&x=1"):
        assert_problem(api.get(at + query), 422, "input_invalid")


@pytest.mark.usefixtures("versions")
def test_runs_are_counted_for_who_may_see_runs(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert read(viewer.get(PATH))["impact"]["runs_in_flight"] == []
    narrow = Api(make_api_key(tenant, scopes=["workflows:read"])[1])
    assert read(narrow.get(PATH))["impact"]["runs_in_flight"] is None


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


@pytest.mark.usefixtures("versions")
def test_it_hides_other_tenants(other_api: Api, other_tenant):
    hidden = other_api.get(PATH)
    unknown = other_api.get("/api/v1/workflows/unknown/versions/diff?from=1&to=2")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


@pytest.mark.usefixtures("versions")
def test_callers_of_other_tenants_are_hidden(api: Api, other_tenant):
    make_workflow(other_tenant, CALLER)
    assert read(api.get(PATH))["impact"]["callers"] == []


@pytest.mark.usefixtures("versions")
def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(5):  # the workflow, both versions, callers, runs in flight
        assert api.get(PATH).status_code == 200
