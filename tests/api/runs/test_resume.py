"""`POST /api/v1/runs/{id}/resume`."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from pyflow.core.ids import new_id
from runs.models import Run
from runs.verbs import pause_run
from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run
from tests.support.running import operator

OPERATION = "runs_resume"
pytestmark = pytest.mark.database


@pytest.fixture
def run(tenant) -> Run:
    run = make_run(tenant)
    pause_run(by=operator(run), run_id=run.pk)
    return run


@pytest.fixture
def path(run: Run) -> str:
    return f"/api/v1/runs/{run.pk}/resume"


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def test_a_paused_run_is_queued(api: Api, run: Run, path: str):
    body = read(api.post(path))
    assert (body["state"], body["pause_requested_at"]) == ("queued", None)
    assert state(run) == "queued"


def test_the_pause_does_not_count_for_the_time_in_the_queue(api: Api, run: Run, path: str):
    since = timezone.now() - timedelta(hours=2)
    deadline = since + timedelta(minutes=5)
    Run.objects.across_tenants().update(pause_requested_at=since, queue_deadline=deadline)
    api.post(path)
    run.refresh_from_db()
    assert timedelta(hours=2) <= run.queue_deadline - deadline < timedelta(hours=2, minutes=1)


def test_a_run_that_is_not_paused_is_refused_with_what_is_possible(api: Api, path: str):
    api.post(path)
    body = assert_problem(api.post(path), 409, "run_state")
    assert (body["state"], body["possible"]) == ("queued", ["cancel", "terminate", "pause", "signal", "rerun"])


def test_a_run_that_has_ended_is_not_resumed(api: Api, path: str):
    Run.objects.across_tenants().update(state="failed")
    assert_problem(api.post(path), 409, "run_finished")


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (202, YAML)
    assert read(response)["state"] == "queued"


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant, path: str):
    first, second = api.post(path, idempotency_key="k"), api.post(path, idempotency_key="k")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.for_tenant(tenant).filter(action="run.resumed").count() == 1


def test_who_did_it_is_in_the_audit(api: Api, tenant, run: Run, path: str):
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.resumed")
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")
    change = json.loads(entry.record)
    assert (change["before"]["state"], change["after"]["state"]) == ("paused", "queued")


def test_it_is_not_asked_by_get(api: Api, run: Run, path: str):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert state(run) == "paused"


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/resume"), 404, "run_not_found")


def test_it_needs_a_key(nobody: Api, run: Run, path: str):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert state(run) == "paused"


def test_a_viewer_may_not(tenant, run: Run, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert state(run) == "paused"


def test_it_hides_other_tenants(other_api: Api, run: Run, path: str):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/resume")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert state(run) == "paused"


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(6):
        assert api.post(path).status_code == 202
