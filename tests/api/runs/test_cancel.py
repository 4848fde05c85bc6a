"""`POST /api/v1/runs/{id}/cancel`."""

from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs import dispatch
from runs.models import Run
from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_api_key, make_run
from tests.support.records import record

OPERATION = "runs_cancel"
pytestmark = pytest.mark.database


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


def test_executors_are_told_once_it_is_committed(api: Api, path: str, django_capture_on_commit_callbacks):
    rings: list[int] = []

    def ring() -> None:
        rings.append(1)

    dispatch.attach(ring)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            api.post(path)
            assert rings == []
    finally:
        dispatch.detach(ring)
    assert rings == [1]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "timed_out"])
def test_a_run_that_has_ended_is_not_cancelled(api: Api, run, path: str, state: str):
    record(run)
    Run.objects.across_tenants().update(state=state)
    body = assert_problem(api.post(path), 409, "run_finished")
    assert state in body["detail"]
    assert not requested(run)


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (202, YAML)
    assert read(response)["state"] == "queued"


def test_a_trailing_slash_is_accepted(api: Api, path: str):
    assert api.post(path + "/").status_code == 202


def test_it_is_not_asked_by_get(api: Api, run, path: str):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert not requested(run)


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/cancel"), 404, "run_not_found")


def test_it_answers_in_no_other_format_and_asks_nothing(api: Api, run, path: str):
    assert_problem(api.post(path, accept="text/html"), 406, "not_acceptable")
    assert not requested(run)


def test_it_needs_a_key(nobody: Api, run, path: str):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert not requested(run)


def test_it_hides_other_tenants(other_api: Api, run, path: str):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/cancel")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert not requested(run)


def test_who_asked_is_in_the_audit_once(api: Api, tenant, path: str):
    api.post(path)
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="run.cancel_requested")
    assert entry.actor_kind == "key"
    assert entry.target == f"run:{path.split('/')[4]}"


def test_a_viewer_may_not(tenant, run, path: str):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert not requested(run)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(5):  # the run, the request; the audit's head, its entry, its new end
        assert api.post(path).status_code == 202
