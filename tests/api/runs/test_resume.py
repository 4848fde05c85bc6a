"""`POST /api/v1/runs/{id}/resume`; see `test_state_verbs` for what it has in common with others."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Run
from runs.services.pause import pause_run
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand
from tests.support.processes.running import operator

pytestmark = pytest.mark.api


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


@written_by_hand
def test_a_run_that_has_ended_is_not_resumed(api: Api, path: str):
    Run.objects.across_tenants().update(state="failed")
    assert_problem(api.post(path), 409, "run_finished")
