"""`GET /api/v1/events`: the log of a tenant, in pages that follow each other without a gap."""

import pytest

from runs.storage.removal import remove_runs
from tests.support.api import Api, assert_problem, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run, make_tenant, make_workflow

OPERATION = "events_list"
PATH = "/api/v1/events"
OTHER = "name: other\nversion: 2\nnodes: [{id: a, type: log, config: {message: x}}]"
pytestmark = [pytest.mark.api, pytest.mark.django_db(transaction=True)]  # only what is committed can be read

removed_by_hand = pytest.mark.breaks_invariant(
    "runs_per_day_are_those_of_rows", reason="a run of today is removed, which retention never does"
)


@pytest.fixture
def run(tenant):
    run = make_run(tenant)
    record(run)
    return run


def types(body) -> list[str]:
    return [event["type"] for event in body["results"]]


def test_workflows_and_runs_are_in_one_log(api: Api, run):
    body = read(api.get(PATH))
    assert types(body) == [
        *("workflow.created", "workflow.published"),
        *("run.queued", "run.started", "node.started", "node.succeeded", "run.succeeded"),
    ]
    assert [event["seq"] for event in body["results"]] == [0, 0, 1, 2, 3, 4, 5]
    assert not body["has_more"]


def test_an_event_has_the_shape_of_everywhere(api: Api, tenant, run):
    created, *_, end = read(api.get(PATH))["results"]
    assert created | {"id": 0, "at": 0, "data": 0} == {
        "id": 0,
        "seq": 0,
        "type": "workflow.created",
        "at": 0,
        "tenant": str(tenant.pk),
        "workflow": "hello",
        "version": 1,
        "run_id": None,
        "node_id": None,
        "data": 0,
    }
    assert created["data"]["by"]["kind"] == "system"
    assert (end["workflow"], end["version"], end["run_id"]) == ("hello", 1, str(run.pk))
    assert end in read(api.get(f"/api/v1/runs/{run.pk}/events"))["results"]


def test_pages_follow_each_other_without_a_gap(api: Api, run):
    seen, cursor = [], ""
    while (page := read(api.get(f"{PATH}?limit=2{cursor}")))["results"]:
        seen += page["results"]
        cursor = f"&after={page['next']}"
    assert seen == read(api.get(PATH))["results"]
    make_run(run.tenant)
    assert types(read(api.get(f"{PATH}?limit=2{cursor}"))) == ["run.queued"]


def test_the_end_of_the_log_is_a_cursor(api: Api, run):
    page = read(api.get(f"{PATH}?after=now"))
    assert page["results"] == []
    make_run(run.tenant)
    assert types(read(api.get(f"{PATH}?after={page['next']}"))) == ["run.queued"]


def test_a_cursor_is_of_one_tenant(api: Api, other_api: Api, run):
    assert_problem(other_api.get(f"{PATH}?after={read(api.get(PATH))['next']}"), 400, "cursor_invalid")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=run.queued", ["run.queued"]),
        ("type=workflow.*&type=run.succeeded", ["workflow.created", "workflow.published", "run.succeeded"]),
        ("workflow=other", ["workflow.created", "workflow.published"]),
        ("label=team:tests&type=run.*", ["run.queued", "run.started", "run.succeeded"]),
        ("label=team:other", []),
        ("since=2999-01-01T00:00:00Z", []),
        ("until=2000-01-01T00:00:00Z", []),
        ("run=018f0000-0000-7000-8000-000000000000", []),
    ],
)
def test_it_is_filtered(api: Api, tenant, run, query: str, found: list[str]):
    page = read(api.get(f"{PATH}?after={read(api.get(PATH))['next']}"))
    assert page["results"] == []
    if "other" in query and "label" not in query:
        make_workflow(tenant, OTHER)
    assert types(read(api.get(f"{PATH}?{query}"))) == found


def test_it_is_filtered_by_run(api: Api, run):
    make_run(run.tenant)
    assert {event["run_id"] for event in read(api.get(f"{PATH}?run={run.pk}"))["results"]} == {str(run.pk)}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "/limit"), ("limit=1001", "/limit"), ("type=", "/type/0"), ("x=1", "/x")],
)
def test_a_wrong_query_is_refused(api: Api, query: str, pointer: str):
    body = assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


@pytest.mark.parametrize("cursor", ["x", "WzFd:x", "a" * 200])
def test_a_cursor_that_was_not_made_here_is_refused(api: Api, cursor: str):
    assert_problem(api.get(f"{PATH}?after={cursor}"), 400, "cursor_invalid")


@removed_by_hand
def test_a_reader_that_missed_removed_events_is_told_so(api: Api, tenant, run):
    cursor = read(api.get(f"{PATH}?limit=1"))["next"]
    end = read(api.get(PATH))["next"]
    remove_runs(tenant_id=tenant.pk, run_ids=[run.pk])
    body = assert_problem(api.get(f"{PATH}?after={cursor}"), 410, "events_removed")
    assert read(api.get(f"{PATH}?after={body['oldest']}"))["results"] == []
    assert read(api.get(f"{PATH}?after={end}"))["results"] == []
    assert types(read(api.get(PATH))) == ["workflow.created", "workflow.published"]


@removed_by_hand
def test_removals_of_another_tenant_concern_nobody_else(api: Api, tenant, run):
    cursor = read(api.get(f"{PATH}?limit=1"))["next"]
    other = make_run(make_tenant())
    record(other)
    remove_runs(tenant_id=other.tenant_id, run_ids=[other.pk])
    assert len(read(api.get(f"{PATH}?after={cursor}"))["results"]) == 6


def test_its_queries_are_counted(api: Api, run, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(3):  # what was removed, the horizon, the events
        api.get(PATH)


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, run):
    assert read(other_api.get(PATH))["results"] == []
