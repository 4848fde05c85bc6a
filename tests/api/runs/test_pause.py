"""`POST /api/v1/runs/{id}/pause`."""

import json
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import Run
from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run

OPERATION = "runs_pause"
pytestmark = pytest.mark.database


@pytest.fixture
def run(tenant) -> Run:
    return make_run(tenant)


@pytest.fixture
def path(run: Run) -> str:
    return f"/api/v1/runs/{run.pk}/pause"


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def test_a_queued_run_is_paused(api: Api, run: Run, path: str):
    body = read(api.post(path))
    assert body["state"] == "paused"
    assert body["pause_requested_at"] is not None
    assert state(run) == "paused"


def test_a_waiting_run_is_paused_with_its_timer(api: Api, run: Run, path: str):
    Run.objects.across_tenants().update(state="waiting", wake_at="2026-01-01T00:00:00Z")
    assert read(api.post(path))["state"] == "paused"
    assert (state(run), run.wake_at) == ("paused", None)


def test_a_running_run_is_paused_by_its_executor(api: Api, run: Run, path: str):
    Run.objects.across_tenants().update(state="running", owner="somebody", epoch=3)
    assert read(api.post(path))["state"] == "running"
    assert (state(run), run.owner, run.epoch) == ("running", "somebody", 3)
    assert run.pause_requested_at is not None


def test_asking_twice_is_asking_once(api: Api, tenant, run: Run, path: str):
    first = read(api.post(path))["pause_requested_at"]
    response = api.post(path)
    assert (response.status_code, read(response)["pause_requested_at"]) == (202, first)
    assert AuditEntry.objects.for_tenant(tenant).filter(action="run.paused").count() == 1


def test_a_run_that_is_asked_to_stop_is_not_paused(api: Api, run: Run, path: str):
    api.post(f"/api/v1/runs/{run.pk}/cancel")
    body = assert_problem(api.post(path), 409, "run_state")
    assert (body["state"], body["possible"]) == ("queued", ["terminate", "signal", "rerun"])


def test_a_run_that_has_ended_is_refused_with_what_is_possible(api: Api, path: str):
    Run.objects.across_tenants().update(state="succeeded")
    body = assert_problem(api.post(path), 409, "run_finished")
    assert (body["state"], body["possible"]) == ("succeeded", ["rerun"])


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (202, YAML)
    assert read(response)["state"] == "paused"


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant, path: str):
    first, second = api.post(path, idempotency_key="k"), api.post(path, idempotency_key="k")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.for_tenant(tenant).filter(action="run.paused").count() == 1


def test_who_did_it_is_in_the_audit(api: Api, tenant, run: Run, path: str):
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.paused")
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")
    change = json.loads(entry.record)
    assert (change["before"]["state"], change["after"]["state"]) == ("queued", "paused")


def test_it_is_not_asked_by_get(api: Api, run: Run, path: str):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert state(run) == "queued"


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/pause"), 404, "run_not_found")


def test_it_needs_a_key(nobody: Api, run: Run, path: str):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert state(run) == "queued"


def test_a_viewer_may_not(tenant, run: Run, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert state(run) == "queued"


def test_it_hides_other_tenants(other_api: Api, run: Run, path: str):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/pause")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert state(run) == "queued"


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(6):
        assert api.post(path).status_code == 202
