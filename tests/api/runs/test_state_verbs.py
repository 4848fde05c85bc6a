"""`POST /api/v1/runs/{id}/VERB`, of the verbs that change a run's state: what they have in common."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from runs.models import Run
from runs.services.pause import pause_run
from tenants.models import AuditEntry, Tenant
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_run
from tests.support.invariants import written_by_hand
from tests.support.processes.running import operator, state_of

OPERATIONS = ("runs_cancel", "runs_pause", "runs_resume", "runs_retry", "runs_terminate")
pytestmark = pytest.mark.api


def queued(run: Run) -> None:
    """As it is."""


def paused(run: Run) -> None:
    pause_run(by=operator(run), run_id=run.pk)


def failed(run: Run) -> None:
    Run.objects.across_tenants().update(state="failed", error={"code": "x"}, finished_at=run.created_at)


@dataclass(frozen=True)
class Verb:
    """A verb that is asked of a run: what the run has been through, what it becomes, and what that is answered."""

    name: str
    prepare: Callable[[Run], None]
    becomes: str
    status: int
    action: str
    queries: int


VERBS = [
    Verb("cancel", queued, "queued", 202, "run.cancel_requested", queries=5),
    Verb("pause", queued, "paused", 202, "run.paused", queries=7),
    Verb("resume", paused, "queued", 202, "run.resumed", queries=7),
    Verb("retry", failed, "queued", 202, "run.retried", queries=15),
    Verb("terminate", queued, "cancelled", 200, "run.terminated", queries=16),
]


@pytest.fixture(params=VERBS, ids=OPERATIONS)
def verb(request: pytest.FixtureRequest) -> Verb:
    chosen: Verb = request.param
    return chosen


@pytest.fixture
def run(tenant: Tenant, verb: Verb) -> Run:
    run = make_run(tenant)
    verb.prepare(run)
    return run


@pytest.fixture
def path(run: Run, verb: Verb) -> str:
    return f"/api/v1/runs/{run.pk}/{verb.name}"


@pytest.fixture
def before(run: Run) -> dict[str, Any]:
    return row(run)


def row(run: Run) -> dict[str, Any]:
    """All of a run."""
    return Run.objects.across_tenants().filter(pk=run.pk).values().get()


def test_it_answers_in_yaml(api: Api, verb: Verb, path: str):
    response = api.post(path, accept=YAML)
    assert (response.status_code, response.headers["Content-Type"]) == (verb.status, YAML)
    assert read(response)["state"] == verb.becomes


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant: Tenant, verb: Verb, path: str):
    first, second = api.post(path, idempotency_key="k"), api.post(path, idempotency_key="k")
    assert (first.status_code, second.status_code) == (verb.status, verb.status)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.for_tenant(tenant).filter(action=verb.action).count() == 1


# A request to cancel changes no state: what the audit has of it is in `test_cancel`.
@pytest.mark.parametrize("verb", VERBS[1:], ids=OPERATIONS[1:], indirect=True)
def test_who_did_it_is_in_the_audit(api: Api, tenant: Tenant, run: Run, verb: Verb, path: str):
    was = state_of(run)
    api.post(path)
    [entry] = AuditEntry.objects.for_tenant(tenant).filter(action=verb.action)
    assert (entry.actor_kind, entry.target) == ("key", f"run:{run.pk}")
    change = json.loads(entry.record)
    assert (change["before"]["state"], change["after"]["state"]) == (was, verb.becomes)


@written_by_hand
def test_it_is_not_asked_by_get(api: Api, run: Run, path: str, before: dict[str, Any]):
    assert_problem(api.get(path), 405, "method_not_allowed")
    assert row(run) == before


@written_by_hand
def test_it_answers_in_no_other_format_and_does_nothing(api: Api, run: Run, path: str, before: dict[str, Any]):
    assert_problem(api.post(path, accept="text/html"), 406, "not_acceptable")
    assert row(run) == before


def test_an_unknown_run_is_not_found(api: Api, verb: Verb):
    assert_problem(api.post(f"/api/v1/runs/{new_id()}/{verb.name}"), 404, "run_not_found")


@written_by_hand
def test_it_needs_a_key(nobody: Api, run: Run, path: str, before: dict[str, Any]):
    assert_problem(nobody.post(path), 401, "not_authenticated")
    assert row(run) == before


@written_by_hand
def test_a_viewer_may_not(tenant: Tenant, run: Run, path: str, before: dict[str, Any]):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(path), 403, "forbidden")
    assert row(run) == before


@written_by_hand
def test_it_hides_other_tenants(other_api: Api, run: Run, verb: Verb, path: str, before: dict[str, Any]):
    hidden, unknown = other_api.post(path), other_api.post(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/{verb.name}")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)
    assert row(run) == before


def test_its_queries_are_counted(api: Api, verb: Verb, path: str, django_assert_num_queries):
    api.get("/api/v1/workflows")
    with django_assert_num_queries(verb.queries):
        assert api.post(path).status_code == verb.status
