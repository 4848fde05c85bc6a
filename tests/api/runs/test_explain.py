"""`GET /api/v1/runs/{id}/explain`."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from plugins import discovery
from pyflow.core.ids import new_id
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import Subscription
from pyflow.core.states import RUN_VERBS, RunState
from runs.models import NodeItem, NodeRun, NodeTask, Run, RunSignal, Slot
from runs.notify.current import notifications
from runs.notify.notifications import ExecutorCallbacks
from runs.queue import presence
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.children import executed, start_child
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from tests.support.invariants import written_by_hand
from workflows.models import Workflow

OPERATION = "runs_explain"
pytestmark = [
    pytest.mark.api,
    written_by_hand,
    pytest.mark.breaks_invariant(
        "node_tasks_are_of_running_runs",
        "slots_are_of_runs_that_go_on",
        reason="its rows are put into the tables as they are",
    ),
]
CHAIN = workflow(
    "{id: a, type: log, config: {message: a}}",
    "{id: b, type: log, config: {message: b}, depends_on: [a]}",
    "{id: c, type: log, config: {message: c}, depends_on: [b]}",
    "{id: d, type: log, config: {message: d}}",
    **{"finally": "[{id: z, type: log, config: {message: z}}]"},
)
LATER = timezone.now() + timedelta(hours=1)
ERROR = {"code": "node_failed", "message": "no stock", "type": "ValueError", "node_id": "a"}


def explained(api: Api, run: Run) -> dict:
    response = api.get(f"/api/v1/runs/{run.pk}/explain")
    assert response.status_code == 200, response.content
    return read(response)


def change(run: Run, state: str, **values) -> None:
    if state == "running":
        values = {"owner": "worker-1", "lease_until": LATER, "epoch": 3, "claims": 3} | values
    Run.objects.for_tenant(run.tenant_id).filter(pk=run.pk).update(state=state, **values)


def node(run: Run, node_id: str, state: str, **values) -> NodeRun:
    return NodeRun.objects.create(tenant_id=run.tenant_id, run=run, node_id=node_id, state=state, **values)


def of_node(body: dict, node_id: str) -> dict:
    return next(item for item in body["nodes"] if item["id"] == node_id)


def codes(body: dict) -> list[str]:
    return [reason["code"] for reason in body["reasons"]]


def possible(body: dict) -> set[str]:
    return {verb["verb"] for verb in body["verbs"] if verb["possible"]}


@pytest.fixture
def run(tenant) -> Run:
    return make_run(tenant, CHAIN)


@pytest.fixture(autouse=True)
def served() -> Iterator[Subscription]:
    """An executor in this process, which leaves the rows as they are."""
    callbacks = ExecutorCallbacks(queued=lambda: None, news=lambda _: None, missed=lambda: None)
    subscription = notifications().subscribe_executor(None, callbacks)
    if settings.PYFLOW_EXECUTOR == "celery":  # there it is workers that report
        presence.report(["", "gpu"])
    yield subscription
    subscription.close()


def test_a_queued_run_has_its_place_among_those_of_its_tenant(api: Api, tenant):
    first, second, urgent = (make_run(tenant, CHAIN) for _ in range(3))
    elsewhere = make_run(tenant, CHAIN)
    change(urgent, "queued", priority=9)
    change(elsewhere, "queued", queue="gpu")
    assert [explained(api, run)["queue"]["ahead"] for run in (urgent, first, second, elsewhere)] == [0, 1, 2, 0]
    body = explained(api, second)
    assert (body["state"], codes(body)) == ("queued", ["queue"])
    assert "2 of the tenant's runs are ahead of it" in body["reasons"][0]["detail"]
    assert body["queue"] | {"ahead": 0} == {
        "name": "", "priority": 5, "ahead": 0, "running": 0, "limit": None, "deadline": None,
    }  # fmt: skip
    assert body["states"] == {"pending": 4}
    assert [item["code"] for item in body["nodes"]] == ["ready", "dependencies", "dependencies", "ready"]
    assert of_node(body, "c")["waits_for"] == ["b"]


def test_runs_that_wait_without_any_executor_are_explained_as_unserved(api: Api, tenant, run: Run, served):
    waits, goes_on = make_run(tenant, CHAIN), make_run(tenant, CHAIN)
    change(waits, "queued", queue="gpu")
    change(goes_on, "running")
    assert "unserved" not in codes(explained(api, waits))
    served.close()
    if settings.PYFLOW_EXECUTOR == "celery":
        change(waits, "queued", queue="unheard")
        assert codes(explained(api, waits))[-1] == "unserved"
        return
    unserved = explained(api, waits)["reasons"][-1]
    assert unserved["code"] == "unserved"
    assert "No worker serves the queue 'gpu': no executor is at work in the server's process." in unserved["detail"]
    assert codes(explained(api, run))[-1] == "unserved"
    assert codes(explained(api, goes_on)) == ["running"], "it waits in no queue"


def test_the_quota_that_keeps_a_run_in_the_queue_is_named(api: Api, tenant, run: Run):
    other = make_run(tenant, CHAIN)
    change(other, "running")
    tenant.limits = {"concurrent_runs": 1}
    tenant.save()
    change(run, "queued", queue_deadline=LATER)
    body = explained(Api(make_api_key(tenant)[1]), run)
    assert codes(body) == ["queue", "quota", "queue_timeout"]
    assert (body["queue"]["running"], body["queue"]["limit"]) == (1, 1)


def test_a_running_run_shows_its_lease_and_its_running_nodes(api: Api, run: Run):
    change(run, "running")
    node(run, "a", "running", attempts=2, started_at=timezone.now())
    node(run, "d", "succeeded", attempts=1)
    body = explained(api, run)
    assert codes(body) == ["running"]
    lease = body["lease"]
    assert (lease["owner"], lease["epoch"], lease["claims"], lease["expired"]) == ("worker-1", 3, 3, False)
    assert body["states"] == {"pending": 2, "running": 1, "succeeded": 1}
    assert [(item["id"], item["code"]) for item in body["nodes"]] == [
        ("a", "running"), ("b", "dependencies"), ("c", "dependencies"),
    ]  # fmt: skip
    assert of_node(body, "a")["attempts"] == 2


def test_an_expired_lease_is_reported(api: Api, run: Run):
    change(run, "running", lease_until=timezone.now() - timedelta(seconds=1), losses=1)
    node(run, "a", "running", attempts=1)
    body = explained(api, run)
    assert (codes(body), body["lease"]["expired"], body["lease"]["losses"]) == (["lost"], True, 1)
    assert of_node(body, "a")["code"] == "lost"


def test_a_node_that_is_executed_elsewhere_names_its_worker(api: Api, run: Run):
    change(run, "running")
    node(run, "a", "running", attempts=1)
    about = {"tenant_id": run.tenant_id, "run": run, "node_id": "a", "queue": "gpu", "places": [[1, 0.0, None]]}
    NodeTask.objects.create(run_epoch=3, owner="worker-2", lease_until=LATER, epoch=1, **about)
    NodeTask.objects.create(run_epoch=3, **about)
    NodeTask.objects.create(run_epoch=2, owner="of the executor before", **about)
    told = of_node(explained(api, run), "a")
    assert (told["code"], [task["owner"] for task in told["tasks"]]) == ("task", ["worker-2", ""])
    assert "workers have claimed 1 of 2" in told["detail"]


@pytest.mark.parametrize(
    ("wait", "code", "signal"),
    [
        ({"until": 1, "signal": None, "details": {}}, "timer", None),
        ({"until": None, "signal": "paid", "details": {}}, "signal", "paid"),
        (
            {"until": None, "signal": "approval:a", "details": {"kind": "approval", "assignees": ["ada"]}},
            "approval",
            "approval:a",
        ),
    ],
)
def test_a_waiting_node_explains_what_it_waits_for(api: Api, run: Run, wait: dict, code: str, signal: str | None):
    change(run, "waiting", wake_at=LATER)
    node(run, "a", "waiting", attempts=1, wait=wait, wake_at=LATER if wait["until"] else None)
    body = explained(api, run)
    told = of_node(body, "a")
    assert (codes(body), told["code"], told["signal"]) == (["waiting"], code, signal)
    assert (told["until"] is not None) == (code == "timer")
    assert "ada" in told["detail"] or code != "approval"


def test_signals_that_came_early_are_named(api: Api, run: Run):
    RunSignal.objects.create(tenant_id=run.tenant_id, run=run, name="paid", dedupe_id="1")
    RunSignal.objects.create(tenant_id=run.tenant_id, run=run, name="old", dedupe_id="2", consumed=True)
    assert explained(api, run)["signals"] == ["paid"]


def test_a_node_that_waits_for_a_child_run_names_it(api: Api, tenant, run: Run):
    child = make_run(tenant)
    change(child, "waiting", parent=run)
    change(run, "waiting")
    details = {"kind": "child", "runs": [str(child.pk), new_id()]}
    node(run, "a", "waiting", attempts=1, wait={"until": None, "signal": None, "details": details})
    told = of_node(explained(api, run), "a")
    [shown] = told["children"]
    assert (told["code"], shown["run_id"], shown["workflow"], shown["state"]) == (
        "child_run", str(child.pk), "hello", "waiting",
    )  # fmt: skip


def test_a_backoff_shows_its_end_and_the_last_error(api: Api, run: Run):
    change(run, "running")
    node(run, "a", "retrying", attempts=2, wake_at=LATER, error=ERROR)
    told = of_node(explained(api, run), "a")
    assert (told["code"], told["attempts"], told["error"]["message"]) == ("retry", 2, "no stock")
    assert told["until"] == LATER.isoformat()


def test_a_run_without_a_slot_names_the_holders(api: Api, tenant, run: Run):
    holder, earlier = make_run(tenant, CHAIN), make_run(tenant, CHAIN)
    change(run, "waiting")
    for owner, held in ((holder, True), (earlier, False), (run, False)):
        Slot.objects.create(tenant=tenant, run=owner, key="shop", lane="1" * 64, limit=1, held=held)
    body = explained(api, run)
    [place] = body["slots"]
    assert (codes(body), place["key"], place["limit"], place["held"], place["ahead"]) == (["slot"], "shop", 1, 1, 1)
    assert [item["run_id"] for item in place["holders"]] == [str(holder.pk)]
    assert str(holder.pk) in body["reasons"][0]["detail"]


def test_a_node_without_a_slot_names_the_holders(api: Api, tenant, run: Run):
    holder = make_run(tenant, CHAIN)
    change(run, "running")
    node(run, "a", "running", attempts=1)
    for owner, held in ((holder, True), (run, False)):
        Slot.objects.create(
            tenant=tenant, run=owner, node_id="a", run_epoch=3, key="k", lane="2" * 64, limit=1, held=held
        )
    told = of_node(explained(api, run), "a")
    assert told["code"] == "slot"
    assert f"by {holder.pk}/a" in told["detail"]


def test_of_very_many_holders_only_some_are_named(api: Api, tenant, run: Run):
    change(run, "waiting")
    about = {"tenant": tenant, "key": "k", "lane": "3" * 64, "limit": 30}
    Slot.objects.bulk_create(
        Slot(run=run, node_id=f"n{number}", run_epoch=1, held=True, **about) for number in range(30)
    )
    Slot.objects.create(run=run, held=False, **about)
    body = explained(api, run)
    place = next(item for item in body["slots"] if item["ahead"] is not None)
    assert (place["held"], len(place["holders"])) == (30, 20)


def test_a_failure_is_traced_to_the_first_node_and_what_came_of_it(api: Api, run: Run):
    now = timezone.now()
    change(run, "failed", error=ERROR, finished_at=now)
    node(run, "a", "failed", attempts=3, error=ERROR, finished_at=now - timedelta(seconds=2))
    node(run, "b", "skipped", reason="upstream", finished_at=now)
    node(run, "c", "skipped", reason="upstream", finished_at=now)
    node(run, "d", "failed", attempts=1, error=ERROR | {"message": "later"}, finished_at=now)
    body = explained(api, run)
    failure = body["failure"]
    assert (failure["node_id"], failure["error"]["message"], failure["child"]) == ("a", "no stock", None)
    assert failure["consequences"] == [
        {"id": "b", "state": "skipped", "because": ["a"]},
        {"id": "c", "state": "skipped", "because": ["b"]},
    ]
    assert (codes(body), possible(body)) == (["ended"], {"retry", "rerun"})
    assert "no stock" in body["reasons"][0]["detail"]
    assert of_node(body, "d")["detail"] == "node_failed: later"


def test_a_failure_that_is_tolerated_is_no_cause(api: Api, run: Run):
    change(run, "succeeded")
    node(run, "a", "failed", attempts=1, error=ERROR, finished_at=timezone.now(), tolerated=True)
    assert explained(api, run)["failure"] is None


def test_a_failure_in_a_child_run_leads_there(api: Api, tenant, run: Run):
    change(run, "failed", error=ERROR, finished_at=timezone.now())
    node(run, "a", "failed", attempts=1, error=ERROR, finished_at=timezone.now())
    make_workflow(tenant)
    executed(run)
    children = [start_child(run, "a", None, attempt, workflow="hello", input={"who": "Ada"}) for attempt in (1, 2)]
    change(run, "failed", error=ERROR, finished_at=timezone.now())
    for child in children:
        change(child, "failed", error=ERROR)
    told = explained(api, run)["failure"]["child"]
    assert (told["run_id"], told["state"], told["error"]["code"], told["attempt"]) == (
        str(children[1].pk), "failed", "node_failed", 2,
    )  # fmt: skip
    shown = of_node(explained(api, run), "a")["children"]
    assert [(one["run_id"], one["attempt"]) for one in shown] == [(str(children[1].pk), 2), (str(children[0].pk), 1)]


def test_a_run_that_ended_as_a_whole_has_no_first_node(api: Api, run: Run):
    error = {"code": "worker_lost", "message": "lost", "type": "WorkerLostError", "node_id": None}
    change(run, "failed", error=error, finished_at=timezone.now())
    failure = explained(api, run)["failure"]
    assert (failure["node_id"], failure["error"]["code"]) == (None, "worker_lost")


def test_the_items_of_a_fan_out_are_counted(api: Api, run: Run):
    change(run, "running")
    node(run, "a", "running", attempts=1)
    now = timezone.now()
    owned = {"tenant_id": run.tenant_id, "run": run, "node_id": "a", "at": now}
    for i, state in enumerate(["succeeded", "succeeded", "retrying"]):
        wake_at = now if state == "retrying" else None
        NodeItem.objects.create(**owned, index=i, key=str(i), state=state, attempts=1, wake_at=wake_at)
    shown = of_node(explained(api, run), "a")
    assert shown["items"] == {"succeeded": 2, "retrying": 1}
    [item] = shown["waiting_items"]
    assert (item["index"], item["key"], item["code"], item["signal"]) == (2, "2", "retry", None)
    assert item["detail"].startswith("Attempt 1 failed: the next one starts at ")


@pytest.mark.parametrize("state", list(RunState))
def test_what_can_be_asked_of_it_is_what_the_verbs_allow(api: Api, run: Run, state: RunState):
    change(run, state.value, pause_requested_at=timezone.now() if state is RunState.PAUSED else None)
    assert possible(explained(api, run)) == set(RUN_VERBS[state])


def test_every_verb_that_is_not_possible_says_why(api: Api, run: Run):
    change(run, "queued", cancel_requested_at=timezone.now())
    Workflow.objects.for_tenant(run.tenant_id).update(archived_at=timezone.now())
    body = explained(api, run)
    assert codes(body)[0] == "cancelling"
    assert possible(body) == {"terminate", "signal"}
    assert all(verb["why_not"] for verb in body["verbs"] if not verb["possible"])


def test_a_paused_run_says_since_when(api: Api, run: Run):
    change(run, "paused", pause_requested_at=timezone.now())
    body = explained(api, run)
    assert (codes(body), of_node(body, "a")["code"]) == (["paused"], "ready")
    change(run, "running", pause_requested_at=timezone.now())
    body = explained(api, run)
    assert codes(body) == ["pausing", "running"]
    assert "resume" in possible(body)


def test_what_was_undone_cannot_be_retried(api: Api, tenant):
    run = make_run(
        tenant, workflow("{id: a, type: log, config: {message: a}, compensate: {type: log, config: {message: b}}}")
    )
    change(run, "failed")
    node(run, "a:compensate", "succeeded", attempts=1)
    [retry] = [verb for verb in explained(api, run)["verbs"] if verb["verb"] == "retry"]
    assert (retry["possible"], "a:compensate" in retry["why_not"]) == (False, True)


def test_of_very_many_nodes_only_some_are_explained(api: Api, tenant):
    run = make_run(tenant, workflow(*(f"{{id: n{i}, type: log, config: {{message: x}}}}" for i in range(250))))
    node(run, "n240", "waiting", attempts=1, wait={"until": 1, "signal": None, "details": {}}, wake_at=LATER)
    body = explained(api, run)
    assert (len(body["nodes"]), body["more_nodes"], body["nodes"][0]["id"]) == (200, 50, "n240")


def test_a_version_that_cannot_run_here_any_more_is_explained(api: Api, run: Run):
    node(run, "a", "retrying", attempts=1, error=ERROR)
    nothing = discovery.Discovered(NodeRegistry(), ())
    with discovery.using(nothing):
        body = explained(api, run)
    assert (codes(body), body["states"]) == (["not_runnable", "queue"], {"retrying": 1})
    assert "log" in body["reasons"][0]["detail"]


def test_it_answers_in_yaml(api: Api, run: Run):
    response = api.get(f"/api/v1/runs/{run.pk}/explain", accept=YAML)
    assert (response.headers["Content-Type"], read(response)["run"]) == (YAML, str(run.pk))


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.get(f"/api/v1/runs/{new_id()}/explain"), 404, "run_not_found")


def test_it_takes_no_parameters(api: Api, run: Run):
    assert_problem(api.get(f"/api/v1/runs/{run.pk}/explain?verbose=1"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, run: Run):
    assert_problem(nobody.get(f"/api/v1/runs/{run.pk}/explain"), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, run: Run):
    hidden = other_api.get(f"/api/v1/runs/{run.pk}/explain")
    unknown = other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/explain")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


@pytest.mark.parametrize(("state", "queries"), [("queued", 8), ("running", 6), ("waiting", 5), ("failed", 4)])
def test_its_queries_are_counted(api: Api, run: Run, state: str, queries: int, django_assert_num_queries):
    change(run, state)
    node(run, "a", "failed" if state == "failed" else "retrying", attempts=1, error=ERROR)
    api.get("/api/v1/workflows")
    with django_assert_num_queries(queries):
        assert api.get(f"/api/v1/runs/{run.pk}/explain").status_code == 200
