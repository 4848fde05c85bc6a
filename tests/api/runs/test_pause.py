"""`POST /api/v1/runs/{id}/pause`; see `test_state_verbs` for what it has in common with others."""

import pytest

from runs.models import Run
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand

pytestmark = pytest.mark.api


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


@written_by_hand
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


@written_by_hand
def test_a_run_that_has_ended_is_refused_with_what_is_possible(api: Api, path: str):
    Run.objects.across_tenants().update(state="succeeded")
    body = assert_problem(api.post(path), 409, "run_finished")
    assert (body["state"], body["possible"]) == ("succeeded", ["rerun"])
