"""`POST /api/v1/workflows/{name}/runs/batch`."""

import pytest
from django.db import connection

from runs.models import EventRecord, Run
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_draft, make_workflow

OPERATION = "runs_start_batch"
PATH = "/api/v1/workflows/hello/runs/batch"
ADA = {"input": {"who": "Ada"}}
pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def hello(tenant):
    return make_workflow(tenant)


def test_each_start_is_answered_in_its_place(api: Api, tenant):
    response = api.post(PATH, {"runs": [ADA, {"input": {"who": 1}}, {"inptu": {}}, ADA | {"version": 9}, ADA]})
    body = read(response)
    assert response.status_code == 202
    assert [result["status"] for result in body["results"]] == [202, 422, 422, 404, 202]
    assert body["accepted"] == 2
    assert body["results"][1]["problem"]["errors"][0]["pointer"] == "/input/who"
    assert body["results"][2]["problem"]["errors"][0]["pointer"] == "/inptu"
    assert body["results"][3]["problem"]["code"] == "version_not_found"
    runs = [body["results"][place]["run"]["id"] for place in (0, 4)]
    assert {(str(run.pk), run.event_seq) for run in Run.objects.for_tenant(tenant)} == {(run, 1) for run in runs}
    events = EventRecord.objects.for_tenant(tenant).filter(run__isnull=False)
    assert {(str(event.run_id), event.seq) for event in events} == {(run, 1) for run in runs}


@pytest.mark.parametrize("start", [1, None, "Ada", [], [ADA]])
def test_what_is_no_start_keeps_no_other_from_being_started(api: Api, tenant, start):
    body = read(api.post(PATH, {"runs": [ADA, start]}))
    assert [result["status"] for result in body["results"]] == [202, 422]
    assert [error["pointer"] for error in body["results"][1]["problem"]["errors"]] == [""]
    assert Run.objects.for_tenant(tenant).count() == 1


def test_a_draft_is_not_started(api: Api, tenant):
    number = make_draft(tenant).number
    body = read(api.post(PATH, {"runs": [ADA | {"version": number}, ADA | {"version": 1}]}))
    assert [result["status"] for result in body["results"]] == [409, 202]
    assert body["results"][0]["problem"]["code"] == "version_state"


def test_a_key_starts_one_run_in_and_across_batches(api: Api, tenant):
    keyed = ADA | {"key": "1"}
    body = read(api.post(PATH, {"runs": [keyed, keyed, ADA]}))
    assert [result["status"] for result in body["results"]] == [202, 200, 202]
    again = read(api.post(PATH, {"runs": [keyed]}))
    assert (again["results"][0]["status"], again["accepted"]) == (200, 0)
    assert again["results"][0]["run"]["id"] == body["results"][0]["run"]["id"]
    assert Run.objects.for_tenant(tenant).count() == 2


@pytest.mark.vendor("each vendor keeps two requests with one idempotency key apart in its own way")
def test_a_whole_batch_is_done_once_per_idempotency_key(api: Api, tenant):
    first, second = (api.post(PATH, {"runs": [ADA] * 3}, idempotency_key="b") for _ in range(2))
    assert read(first) == read(second)
    assert Run.objects.for_tenant(tenant).count() == 3


def test_a_batch_is_one_entry_of_the_audit(api: Api, tenant):
    api.post(PATH, {"runs": [ADA] * 3})
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.batch_started")
    assert '"count":3' in entry.record


@pytest.mark.parametrize("body", [{}, {"runs": []}, {"runs": {}}, {"runs": [{}] * 1001}, {"x": 1}, []])
def test_what_is_no_batch_is_refused(api: Api, tenant, body):
    assert_problem(api.post(PATH, body), 422, "input_invalid")
    assert not Run.objects.for_tenant(tenant).exists()


def test_a_viewer_may_not(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH, {"runs": [ADA]}), 403, "forbidden")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, {"runs": [ADA]}), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api):
    hidden = other_api.post(PATH, {"runs": [ADA]})
    unknown = other_api.post("/api/v1/workflows/unknown/runs/batch", {"runs": [ADA]})
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)
    assert not Run.objects.across_tenants().exists()


@pytest.mark.vendor("starting a run is SQL of each vendor's own")
@pytest.mark.parametrize("count", [1, 20])
def test_its_queries_are_counted(api: Api, count: int, django_assert_num_queries):
    assert api.post(PATH, {"runs": [ADA]}).status_code == 202
    # The version; runs, events, usage, which on PostgreSQL are one; the audit's head, entry and new end.
    with django_assert_num_queries(5 if connection.vendor == "postgresql" else 8):
        assert read(api.post(PATH, {"runs": [ADA] * count}))["accepted"] == count
