"""`POST /api/v1/runs/{id}/terminate`."""

import json
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import Run
from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run

OPERATION = "runs_terminate"
pytestmark = pytest.mark.database


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


def test_a_run_that_has_ended_is_refused_with_what_is_possible(api: Api, path: str):
    Run.objects.across_tenants().update(state="timed_out")
    body = assert_problem(api.post(path), 409, "run_finished")
    assert (body["state"], body["possible"]) == ("timed_out", ["retry", "rerun"])


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (200, YAML)
    assert read(response)["state"] == "cancelled"


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant, path: str):
    first, second = api.post(path, idempotency_key="k"), api.post(path, idempotency_key="k")
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.for_tenant(tenant).filter(action="run.terminated").count() == 1


def test_who_did_it_is_in_the_audit(api: Api, tenant, run: Run, path: str):
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.terminated")
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")
    change = json.loads(entry.record)
    assert (change["before"]["state"], change["after"]["state"]) == ("queued", "cancelled")


def test_it_is_not_asked_by_get(api: Api, run: Run, path: str):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert state(run) == "queued"


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/terminate"), 404, "run_not_found")


def test_it_needs_a_key(nobody: Api, run: Run, path: str):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert state(run) == "queued"


def test_a_viewer_may_not(tenant, run: Run, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert state(run) == "queued"


def test_it_hides_other_tenants(other_api: Api, run: Run, path: str):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/terminate")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert state(run) == "queued"


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(17):
        assert api.post(path).status_code == 200
