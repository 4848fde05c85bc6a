"""`POST /api/v1/runs/{id}/cancel`; see `test_state_verbs` for what it has in common with others."""

import pytest

from pyflow.core.ports import Notification
from runs.models import Run
from runs.notify.notifications import queued_topic
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand
from tests.support.servers.event_bus import Notes, in_one_process

pytestmark = pytest.mark.api


@pytest.fixture
def run(tenant):
    return make_run(tenant)


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}/cancel"


def requested(run: Run) -> bool:
    run.refresh_from_db()
    return run.cancel_requested_at is not None


def test_a_queued_run_is_asked_to_stop(api: Api, run, path: str):
    response = api.post(path)
    assert response.status_code == 202
    body = read(response)
    assert (body["id"], body["state"]) == (str(run.pk), "queued")
    assert requested(run)


def test_a_waiting_run_is_queued_to_be_ended(api: Api, run, path: str):
    Run.objects.across_tenants().update(state="waiting")
    assert read(api.post(path))["state"] == "queued"
    assert requested(run)


@written_by_hand
def test_a_running_run_stays_with_its_executor(api: Api, run, path: str):
    Run.objects.across_tenants().update(state="running", owner="somebody", epoch=3)
    assert read(api.post(path))["state"] == "running"
    assert requested(run)
    assert (run.owner, run.epoch) == ("somebody", 3)


def test_asking_twice_is_asking_once(api: Api, run, path: str):
    api.post(path)
    run.refresh_from_db()
    first = run.cancel_requested_at
    assert api.post(path).status_code == 202
    run.refresh_from_db()
    assert run.cancel_requested_at == first


def test_executors_are_notified_once_it_is_committed(api: Api, path: str, django_capture_on_commit_callbacks):
    notes = Notes()
    with in_one_process() as bus:
        bus.subscribe([queued_topic("")], notes)
        with django_capture_on_commit_callbacks(execute=True):
            api.post(path)
            assert notes.taken == []
    assert notes.taken == [Notification(queued_topic(""))]


@written_by_hand
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "timed_out"])
def test_a_run_that_has_ended_is_not_cancelled(api: Api, run, path: str, state: str):
    record(run)
    Run.objects.across_tenants().update(state=state)
    body = assert_problem(api.post(path), 409, "run_finished")
    assert state in body["detail"]
    assert not requested(run)


def test_a_trailing_slash_is_accepted(api: Api, path: str):
    assert api.post(path + "/").status_code == 202


def test_who_asked_is_in_the_audit_once(api: Api, tenant, path: str):
    api.post(path)
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.cancel_requested")
    assert entry.actor_kind == "key"
    assert entry.target == f"run:{path.split('/')[4]}"


@written_by_hand
def test_a_waiting_run_is_answered_as_it_is_in_its_row(api: Api, tenant):
    run = make_run(tenant)
    Run.objects.across_tenants().update(state="waiting")
    body = read(api.post(f"/api/v1/runs/{run.pk}/cancel"))
    run.refresh_from_db()
    assert body["state"] == run.state == "queued"
    assert body["cancel_requested_at"] is not None
