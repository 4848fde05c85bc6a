"""`POST /api/v1/runs/{id}/retry`."""

import json
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import NodeRun, Run
from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run

OPERATION = "runs_retry"
pytestmark = pytest.mark.database


@pytest.fixture
def run(tenant) -> Run:
    run = make_run(tenant)
    Run.objects.across_tenants().update(state="failed", error={"code": "x"}, finished_at=run.created_at)
    return run


@pytest.fixture
def path(run: Run) -> str:
    return f"/api/v1/runs/{run.pk}/retry"


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def test_a_failed_run_is_queued_again(api: Api, run: Run, path: str):
    body = read(api.post(path))
    assert (body["id"], body["state"], body["retries"]) == (str(run.pk), "queued", 1)
    assert (body["error"], body["finished_at"]) == (None, None)
    assert state(run) == "queued"


@pytest.mark.parametrize("before", ["cancelled", "timed_out"])
def test_a_run_that_ended_otherwise_without_success_is_queued_again(api: Api, run: Run, path: str, before: str):
    Run.objects.across_tenants().update(state=before)
    assert api.post(path).status_code == 202
    assert state(run) == "queued"


@pytest.mark.parametrize(
    ("before", "possible"),
    [("succeeded", ["rerun"]), ("paused", ["cancel", "terminate", "resume", "signal", "rerun"])],
)
def test_another_run_is_refused_with_what_is_possible(api: Api, path: str, before: str, possible: list[str]):
    Run.objects.across_tenants().update(state=before)
    body = assert_problem(api.post(path), 409, "run_state")
    assert (body["state"], body["possible"]) == (before, possible)


def test_a_run_that_was_undone_is_refused(api: Api, tenant, path: str):
    source = (
        "version: 2\nname: saga\nnodes:\n"
        "  - {id: a, type: log, config: {message: x}, compensate: {type: log, config: {message: y}}}\n"
    )
    run = make_run(tenant, source)
    NodeRun.objects.create(tenant=tenant, run=run, node_id="a:compensate", state="succeeded")
    Run.objects.across_tenants().filter(pk=run.pk).update(state="failed")
    body = assert_problem(api.post(f"/api/v1/runs/{run.pk}/retry"), 409, "run_undone")
    assert body["possible"] == ["rerun"]


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (202, YAML)
    assert read(response)["state"] == "queued"


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant, path: str):
    first, second = api.post(path, idempotency_key="k"), api.post(path, idempotency_key="k")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.for_tenant(tenant).filter(action="run.retried").count() == 1


def test_who_did_it_is_in_the_audit(api: Api, tenant, run: Run, path: str):
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.retried")
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")
    change = json.loads(entry.record)
    assert (change["before"]["state"], change["after"]["state"]) == ("failed", "queued")


def test_it_is_not_asked_by_get(api: Api, run: Run, path: str):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert state(run) == "failed"


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/retry"), 404, "run_not_found")


def test_it_needs_a_key(nobody: Api, run: Run, path: str):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert state(run) == "failed"


def test_a_viewer_may_not(tenant, run: Run, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert state(run) == "failed"


def test_it_hides_other_tenants(other_api: Api, run: Run, path: str):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/retry")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert state(run) == "failed"


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(12):
        assert api.post(path).status_code == 202
