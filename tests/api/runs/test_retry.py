"""`POST /api/v1/runs/{id}/retry`; see `test_state_verbs` for what it has in common with others."""

import pytest

from runs.models import NodeRun, Run
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand

pytestmark = pytest.mark.api


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


@written_by_hand
@pytest.mark.parametrize(
    ("before", "possible"),
    [("succeeded", ["rerun"]), ("paused", ["cancel", "terminate", "resume", "signal", "rerun"])],
)
def test_another_run_is_refused_with_what_is_possible(api: Api, path: str, before: str, possible: list[str]):
    Run.objects.across_tenants().update(state=before)
    body = assert_problem(api.post(path), 409, "run_state")
    assert (body["state"], body["possible"]) == (before, possible)


@written_by_hand
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
