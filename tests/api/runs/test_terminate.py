"""`POST /api/v1/runs/{id}/terminate`; see `test_state_verbs` for what it has in common with others."""

import pytest

from runs.models import Run
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand

pytestmark = pytest.mark.api


@pytest.fixture
def run(tenant) -> Run:
    return make_run(tenant)


@pytest.fixture
def path(run: Run) -> str:
    return f"/api/v1/runs/{run.pk}/terminate"


def state(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def test_a_run_ends_at_once(api: Api, run: Run, path: str):
    body = read(api.post(path))
    assert (body["state"], body["error"]["code"]) == ("cancelled", "run_cancelled")
    assert body["finished_at"] is not None
    assert (run.epoch, state(run)) == (0, "cancelled")
    assert run.epoch == 1


@pytest.mark.parametrize("before", ["running", "waiting", "paused"])
def test_a_run_that_is_on_its_way_ends(api: Api, run: Run, path: str, before: str):
    Run.objects.across_tenants().update(state=before)
    assert api.post(path).status_code == 200
    assert state(run) == "cancelled"


@written_by_hand
def test_a_run_that_has_ended_is_refused_with_what_is_possible(api: Api, path: str):
    Run.objects.across_tenants().update(state="timed_out")
    body = assert_problem(api.post(path), 409, "run_finished")
    assert (body["state"], body["possible"]) == ("timed_out", ["retry", "rerun"])
