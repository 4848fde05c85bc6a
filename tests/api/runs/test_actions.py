"""`POST /api/v1/runs/actions`."""

import json
import threading
from uuid import UUID

import pytest
from django.db import OperationalError, connection

from pyflow.core.ids import new_id
from runs.api import actions
from runs.models import Run
from runs.services.bulk import MOST_RUNS
from tenants.access import Level, Role
from tenants.grants import share
from tenants.models import AuditEntry, IdempotentAnswer
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_member, make_run
from tests.support.factories.worlds import token_of
from tests.support.invariants import written_by_hand
from workflows.models import Workflow

OPERATION = "runs_actions"
PATH = "/api/v1/runs/actions"
pytestmark = pytest.mark.api


@pytest.fixture
def runs(tenant) -> list[Run]:
    return [make_run(tenant) for _ in range(3)]


def ids(*runs: Run) -> list[str]:
    return [str(run.pk) for run in runs]


def ask(api: Api, action: str, **what) -> dict:
    response = api.post(PATH, {"action": action, **what})
    assert response.status_code == 200, response.content
    return read(response)


def states(tenant) -> list[str]:
    return list(Run.objects.for_tenant(tenant).order_by("pk").values_list("state", flat=True))


def share_hello(tenant, member, level: Level) -> None:
    workflow = Workflow.objects.for_tenant(tenant).get(name="hello")
    share(
        by=a_test(tenant),
        principal=None,
        obj=workflow,
        target="workflow:hello",
        level=level,
        kind="member",
        grantee=str(member.pk),
    )


@pytest.mark.parametrize(
    ("action", "before", "after", "status"),
    [
        ("cancel", "waiting", "queued", 202),
        ("terminate", "queued", "cancelled", 200),
        ("pause", "queued", "paused", 202),
        ("retry", "failed", "queued", 202),
    ],
)
def test_each_run_is_asked(api: Api, tenant, runs, action: str, before: str, after: str, status: int):
    Run.objects.for_tenant(tenant).update(state=before)
    body = ask(api, action, runs=ids(*runs))
    assert [(item["id"], item["status"], item["run"]["state"]) for item in body["results"]] == [
        (str(run.pk), status, after) for run in runs
    ]
    assert (body["accepted"], body["next"], states(tenant)) == (3, None, [after] * 3)


def test_paused_runs_are_resumed(api: Api, tenant, runs):
    ask(api, "pause", runs=ids(*runs))
    assert ask(api, "resume", runs=ids(*runs))["accepted"] == 3
    assert states(tenant) == ["queued"] * 3


@written_by_hand
def test_one_that_refuses_keeps_no_other_from_being_asked(api: Api, other_tenant, tenant, runs):
    Run.objects.for_tenant(tenant).filter(pk=runs[1].pk).update(state="succeeded")
    hidden, unknown = str(make_run(other_tenant).pk), new_id()
    body = ask(api, "pause", runs=[*ids(runs[0]), hidden, *ids(runs[1]), unknown, *ids(runs[2], runs[2])])
    assert [item["status"] for item in body["results"]] == [202, 404, 409, 404, 202]
    conflict = body["results"][2]["problem"]
    assert (conflict["code"], conflict["state"], conflict["possible"]) == ("run_finished", "succeeded", ["rerun"])
    assert (body["accepted"], states(tenant)) == (2, ["paused", "succeeded", "paused"])


@written_by_hand
def test_a_filter_asks_those_that_would_be_changed(api: Api, tenant, runs):
    other = make_run(tenant, HELLO.replace("name: hello", "name: other"))
    Run.objects.for_tenant(tenant).filter(pk=runs[0].pk).update(state="failed")
    body = ask(api, "pause", filter={"workflow": ["hello"], "label": ["team:tests"]})
    assert [item["id"] for item in body["results"]] == ids(*runs[1:])
    assert states(tenant) == ["failed", "paused", "paused", "queued"]
    assert ask(api, "pause", filter={"workflow": ["hello"]})["results"] == []
    assert ask(api, "terminate", filter={"state": ["queued"], "search": str(other.pk)})["accepted"] == 1


def test_a_filter_goes_on_where_the_last_answer_ended(api: Api, runs):
    first = ask(api, "cancel", filter={"workflow": ["hello"]}, limit=2)
    assert ([item["id"] for item in first["results"]], first["next"]) == (ids(*runs[:2]), str(runs[1].pk))
    second = ask(api, "cancel", filter={"workflow": ["hello"]}, limit=2, after=first["next"])
    assert ([item["id"] for item in second["results"]], second["next"]) == (ids(runs[2]), None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"runs": [str(UUID(int=0))]}, "/action"),
        ({"action": "delete", "runs": [str(UUID(int=0))]}, "/action"),
        ({"action": "cancel"}, ""),
        ({"action": "cancel", "runs": [str(UUID(int=0))], "filter": {"state": ["queued"]}}, ""),
        ({"action": "cancel", "runs": []}, "/runs"),
        ({"action": "cancel", "runs": ["x"]}, "/runs/0"),
        ({"action": "cancel", "runs": [str(UUID(int=n)) for n in range(MOST_RUNS + 1)]}, "/runs"),
        ({"action": "cancel", "filter": {}}, "/filter"),
        ({"action": "cancel", "filter": {"colour": "red"}}, "/filter/colour"),
        ({"action": "cancel", "filter": {"state": ["lost"]}}, "/filter/state"),
        ({"action": "cancel", "filter": {"state": ["queued"]}, "limit": MOST_RUNS + 1}, "/limit"),
        ({"action": "cancel", "runs": [str(UUID(int=0))], "after": str(UUID(int=0))}, "/after"),
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, tenant, runs, body: dict, pointer: str):
    problem = assert_problem(api.post(PATH, body), 422, "input_invalid")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert states(tenant) == ["queued"] * 3


def test_each_run_has_its_entry_in_the_audit(api: Api, tenant, runs):
    ask(api, "cancel", runs=ids(*runs))
    ask(api, "cancel", runs=ids(*runs))
    entries = AuditEntry.objects.for_tenant(tenant).filter(action="run.cancel_requested").order_by("seq")
    assert [entry.target for entry in entries] == [f"run:{run.pk}" for run in runs]
    assert len({json.loads(entry.record)["request_id"] for entry in entries}) == 1


def test_it_is_done_once_for_an_idempotency_key(api: Api, tenant, runs):
    first, second = (api.post(PATH, {"action": "retry", "runs": ids(*runs)}, idempotency_key="k") for _ in range(2))
    assert read(first) == read(second)
    assert second.headers["Idempotent-Replayed"] == "true"


@written_by_hand
@pytest.mark.parametrize("crash", ["between two batches", "before the answer is stored"])
def test_no_run_is_retried_twice_over_a_crash(api: Api, tenant, runs, monkeypatch, crash: str):
    Run.objects.for_tenant(tenant).update(state="failed")
    monkeypatch.setattr(actions, "BATCH", 1)
    request = {"action": "retry", "filter": {"state": ["failed"]}}
    act = actions.act_on_runs

    def die_at_the_second(**asked):
        if asked["run_ids"] == [runs[1].pk]:
            raise OperationalError("the connection is gone")
        return act(**asked)

    if crash == "between two batches":
        with monkeypatch.context() as dying:
            dying.setattr(actions, "act_on_runs", die_at_the_second)
            assert_problem(api.post(PATH, request, idempotency_key="k"), 503, "database_unavailable")
    else:
        api.post(PATH, request, idempotency_key="k")
        IdempotentAnswer.objects.for_tenant(tenant).latest("created_at").delete()
    Run.objects.for_tenant(tenant).filter(pk=runs[0].pk).update(state="failed")  # by the time that it is asked again
    body = read(api.post(PATH, request, idempotency_key="k"))
    assert ([item["id"] for item in body["results"]], body["accepted"]) == (ids(*runs), 3)
    retries = Run.objects.for_tenant(tenant).order_by("pk").values_list("retries", flat=True)
    assert list(retries) == [1, 1, 1]
    assert read(api.post(PATH, request, idempotency_key="k")) == body


def test_a_viewer_may_not(tenant, runs):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH, {"action": "cancel", "runs": ids(*runs)}), 403, "forbidden")


def test_a_key_without_the_scope_may_not(tenant, runs):
    reader = Api(make_api_key(tenant, scopes=["runs:read"])[1])
    problem = assert_problem(reader.post(PATH, {"action": "cancel", "runs": ids(*runs)}), 403, "forbidden")
    assert "runs:write" in problem["detail"]


def test_who_may_run_one_workflow_acts_on_its_runs_only(tenant, runs):
    other = make_run(tenant, HELLO.replace("name: hello", "name: other"))
    member = make_member(tenant, Role.VIEWER)
    share_hello(tenant, member, Level.READ)
    api = Api(token_of(member))
    assert_problem(api.post(PATH, {"action": "pause", "runs": ids(*runs)}), 403, "forbidden")
    share_hello(tenant, member, Level.RUN)
    body = ask(api, "pause", runs=ids(runs[0], other))
    assert [item["status"] for item in body["results"]] == [202, 403]
    assert [item["id"] for item in ask(api, "pause", filter={"state": ["queued"]})["results"]] == ids(*runs[1:])
    assert states(tenant) == ["paused", "paused", "paused", "queued"]


def test_what_another_tenant_shared_counts_nothing_here(tenant, other_tenant, runs):
    make_run(other_tenant)
    member, elsewhere = make_member(tenant, Role.VIEWER), make_member(other_tenant, Role.VIEWER)
    type(elsewhere).objects.for_tenant(other_tenant).filter(pk=elsewhere.pk).update(user=member.user)
    share_hello(other_tenant, elsewhere, Level.RUN)
    assert_problem(Api(token_of(member)).post(PATH, {"action": "pause", "runs": ids(*runs)}), 403, "forbidden")


@pytest.mark.django_db(transaction=True)  # children are stopped after the commit
def test_a_run_is_terminated_with_its_children(api: Api, tenant, runs):
    parent, child, last = runs
    Run.objects.for_tenant(tenant).filter(pk=child.pk).update(parent=parent, on_parent_cancel="terminate")
    body = ask(api, "terminate", runs=ids(last, parent))
    assert [item["status"] for item in body["results"]] == [200, 200]
    assert states(tenant) == ["cancelled"] * 3
    assert [item["status"] for item in ask(api, "terminate", runs=ids(child))["results"]] == [409]


def test_it_answers_in_yaml(api: Api, runs):
    response = api.post(PATH, {"action": "pause", "runs": ids(*runs)}, accept=YAML)
    assert (response.headers["Content-Type"], read(response)["accepted"]) == (YAML, 3)


def test_it_needs_a_key(nobody: Api, runs):
    assert_problem(nobody.post(PATH, {"action": "cancel", "runs": ids(*runs)}), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant, runs):
    body = ask(other_api, "cancel", runs=[*ids(runs[0]), new_id()])
    hidden, unknown = (item["problem"] | {"request_id": ""} for item in body["results"])
    text = json.dumps(unknown).replace(body["results"][1]["id"], body["results"][0]["id"])
    assert json.loads(text) == hidden
    assert ask(other_api, "cancel", filter={"workflow": ["hello"]})["results"] == []
    assert not Run.objects.for_tenant(tenant).filter(cancel_requested_at__isnull=False).exists()


@pytest.mark.vendor("each vendor keeps two requests with one idempotency key apart in its own way")
def test_its_queries_are_counted(api: Api, runs, django_assert_num_queries):
    api.get("/api/v1/workflows")
    turns = connection.vendor == "postgresql"  # batches of a tenant take turns
    with django_assert_num_queries(turns + 2 + 2 * 7):
        assert api.post(PATH, {"action": "pause", "runs": ids(*runs[:2])}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_two_requests_for_the_same_runs_do_not_wait_for_each_other(api: Api, tenant, runs):
    wanted, answers = ids(*runs), []

    def send(order: list[str], action: str) -> None:
        try:
            answers.extend(api.post(PATH, {"action": action, "runs": order}).status_code for _ in range(5))
        finally:
            connection.close()

    threads = [
        threading.Thread(target=send, args=(order, action))
        for order, action in ((wanted, "pause"), (wanted[::-1], "resume"))
    ]
    connection.close()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 10
