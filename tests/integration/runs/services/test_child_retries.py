"""A run that is retried goes on with the child runs it had, however it ended; each attempt has a child of its own."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from runs.models import NodeRun, Run
from runs.queue.fair_share import places_taken
from runs.queue.leases import claim
from runs.services.end import TERMINATED, end_run
from runs.services.retry import retry_run
from runs.services.stop_children import stop_orphans
from runs.services.terminate import terminate_run
from runs.worker.executor import RunExecutor
from tenants.access import Actor
from tenants.models import Tenant
from tenants.quotas import set_plan
from tests.support import waiting
from tests.support.factories.children import executed, start_child
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant, make_workflow
from tests.support.invariants import written_by_hand
from tests.support.processes.running import cancel, ended, executing, expire, nodes, operator, parked, send, state_of

pytestmark = pytest.mark.database

PAID = "{id: paid, type: signal, config: {name: paid}}"
LEAF = workflow(PAID, name="leaf", outputs="{got: '{{ paid }}'}")
MIDDLE = workflow(
    "{id: below, type: workflow, config: {workflow: leaf%s}}", name="middle", outputs="{got: '{{ below }}'}"
)
EACH = "{id: call, type: workflow, for_each: '{{ [1, 2, 3] }}', max_parallel: 2, config: {workflow: %s%s}}"


def children_of(run: Run) -> list[Run]:
    return list(Run.objects.across_tenants().filter(parent=run).order_by("created_at", "pk"))


def retry(run: Run) -> None:
    retry_run(by=operator(run), run_id=run.pk)


def terminate(run: Run) -> None:
    terminate_run(by=operator(run), run_id=run.pk)


def time_out(run: Run) -> None:
    """Let its time be over: it began long ago, and something wakes it."""
    Run.objects.across_tenants().filter(pk=run.pk).update(
        started_at=timezone.now() - timedelta(hours=2), state="queued", wake_at=None
    )


def leaves_below(run: Run) -> list[Run]:
    found: list[Run] = []
    for child in children_of(run):
        found += [child] if child.workflow.name == "leaf" else leaves_below(child)
    return found


def pay_all(run: Run, drain) -> None:
    """Let each leaf that waits have its signal, until nothing waits any more."""
    for _ in range(5):
        for leaf in leaves_below(run):
            if state_of(leaf) == "waiting":
                send(leaf, "paid", 1)
        drain()


@pytest.mark.parametrize(
    ("stop", "on_cancel", "workflow_name"),
    [
        (terminate, "terminate", "leaf"),
        (terminate, "request_cancel", "middle"),
        (cancel, "terminate", "middle"),
        (cancel, "abandon", "middle"),
        (time_out, "request_cancel", "leaf"),
    ],
)
def test_a_fan_out_whose_children_waited_is_taken_up_again(tenant, drain, stop, on_cancel, workflow_name):
    for source in (LEAF, MIDDLE % f", on_cancel: {on_cancel}"):
        make_workflow(tenant, source)
    source = workflow(
        EACH % (workflow_name, f", on_cancel: {on_cancel}"),
        name="top", settings="{timeout: 1h}", outputs="{all: '{{ call }}'}",
    )  # fmt: skip
    run = make_run(tenant, source)
    drain()
    parked(run)
    before = {child.pk for child in children_of(run)}
    assert len(before) == 2
    stop(run)
    drain()
    assert state_of(run) == ("timed_out" if stop is time_out else "cancelled")
    retry(run)
    drain()
    pay_all(run, drain)
    ended(run, "succeeded")
    after = children_of(run)
    assert before < {child.pk for child in after}
    assert [child.state for child in after] == ["succeeded"] * 3
    assert len(leaves_below(run)) == 3
    assert len(run.outputs["all"]) == 3


def test_a_child_whose_clean_up_still_runs_is_retried_when_it_has_ended(tenant, drain):
    cleans = "[{id: cleaned, type: signal, config: {name: cleaned}}]"
    make_workflow(tenant, workflow(PAID, name="leaf", outputs="{got: '{{ paid }}'}", **{"finally": cleans}))
    run = make_run(
        tenant, workflow("{id: call, type: workflow, config: {workflow: leaf}}", outputs="{it: '{{ call }}'}")
    )
    drain()
    cancel(run)
    drain()
    ended(run, "cancelled")
    [child] = children_of(run)
    assert nodes(parked(child)) == {"paid": "cancelled", "cleaned": "waiting"}
    retry(run)
    drain()
    assert nodes(parked(run)) == {"call": "waiting"}
    send(child, "cleaned", 1)
    drain()
    assert (nodes(parked(child)), child.retries) == ({"paid": "waiting", "cleaned": "pending"}, 1)
    send(child, "paid", 7)
    drain()
    send(parked(child), "cleaned", 2)
    drain()
    assert ended(run, "succeeded").outputs == {"it": {"got": 7}}
    assert len(children_of(run)) == 1


def test_a_child_that_undid_its_work_while_its_parent_was_retried_is_started_anew(tenant, registry, drain):
    register(registry, "visit", lambda ctx: ctx.node_id)
    undoes = "{id: a, type: visit, compensate: {type: visit}}"
    nodes_of_it = (undoes, PAID.replace("}}", "}, depends_on: [a]}"))
    make_workflow(tenant, workflow(*nodes_of_it, name="leaf", settings="{queue: gpu}"))
    run = make_run(tenant, workflow("{id: call, type: workflow, config: {workflow: leaf}}"))
    drain()
    cancel(run)
    connection.close()
    asyncio.run(RunExecutor({""}).drain())
    ended(run, "cancelled")
    [child] = children_of(run)
    assert (child.state, child.cancel_requested_at is not None) == ("queued", True)
    retry(run)
    drain()
    ended(child, "cancelled")
    assert nodes(child)["a:compensate"] == "succeeded"
    [_, another] = children_of(run)
    send(parked(another), "paid")
    drain()
    ended(run, "succeeded")
    assert (another.called_by["retry"], another.called_by["attempt"]) == (1, 1)


def flaky(registry, until: int) -> Counter[str]:
    """Register ``try``: a node that fails until it was called so often by all runs together."""
    calls: Counter[str] = Counter()

    def run(ctx) -> int:
        calls[ctx.node_id] += 1
        if calls[ctx.node_id] < until:
            raise ConnectionError("not yet")
        return calls[ctx.node_id]

    register(registry, "try", run)
    return calls


RETRYING = "{id: call, type: workflow, retry: {max_attempts: 2, initial_interval: 1ms}, config: {workflow: leaf}}"


def test_a_retried_run_retries_the_child_of_the_last_attempt_and_then_starts_others(tenant, registry, drain):
    calls = flaky(registry, until=4)
    make_workflow(tenant, workflow("{id: x, type: try}", name="leaf"))
    run = make_run(tenant, workflow(RETRYING))
    drain()
    ended(run, "failed")
    assert (calls["x"], len(children_of(run))) == (2, 2)
    retry(run)
    drain()
    ended(run, "succeeded")
    places = [(child.called_by["attempt"], child.called_by["retry"]) for child in children_of(run)]
    assert places == [(1, 0), (2, 0), (2, 1)]
    assert [(child.state, child.retries) for child in children_of(run)] == [
        ("failed", 0),
        ("failed", 1),
        ("succeeded", 0),
    ]


def test_children_of_what_finishes_a_run_are_started_anew_at_its_new_end(tenant, registry, drain):
    flaky(registry, until=2)
    make_workflow(tenant, workflow("{id: z, type: log, config: {message: bye}}", name="leaf"))
    last = "[{id: last, type: workflow, config: {workflow: leaf}}]"
    run = make_run(tenant, workflow("{id: x, type: try}", **{"finally": last}))
    drain()
    ended(run, "failed")
    retry(run)
    drain()
    ended(run, "succeeded")
    assert [(child.state, child.retries) for child in children_of(run)] == [("succeeded", 0)] * 2


def test_a_crash_within_an_attempt_finds_its_child_again(tenant, drain):
    """The node was on record as running, under a limit: its executor died while its child ran."""
    make_workflow(tenant, LEAF)
    under_a_limit = "{id: call, type: workflow, concurrency: {key: k}, config: {workflow: leaf}}"
    run = make_run(tenant, workflow(under_a_limit, outputs="{it: '{{ call }}'}"))
    with executing():
        child = waiting.until(lambda: children_of(run), what="child")[0]
        waiting.until(lambda: nodes(run) == {"call": "running"}, what="record of the node")
        parked(child)
    with executing():  # the first handed it back; this one is lost
        waiting.until(lambda: state_of(run) == "running", what="claim")
    Run.objects.across_tenants().filter(pk=run.pk).update(state="running", owner="dead", lease_until=timezone.now())
    expire(run)
    send(child, "paid", 3)
    with executing():
        ended(run, "succeeded")
    assert (run.outputs, [one.pk for one in children_of(run)]) == ({"it": {"got": 3}}, [child.pk])
    assert NodeRun.objects.across_tenants().get(run=run).attempts == 1


def test_the_timeout_of_a_retried_attempt_counts_from_the_retry(tenant, drain):
    make_workflow(tenant, LEAF)
    source = workflow("{id: call, type: workflow, timeout: 1h, config: {workflow: leaf}}", outputs="{it: '{{ call }}'}")
    run = make_run(tenant, source)
    drain()
    terminate(run)
    [child] = children_of(run)
    long_ago = timezone.now() - timedelta(hours=2)
    called_by = child.called_by | {"since": long_ago.timestamp()}
    Run.objects.across_tenants().filter(pk=child.pk).update(created_at=long_ago, called_by=called_by)
    drain()
    retry(run)
    drain()
    send(parked(child), "paid", 3)
    drain()
    assert ended(run, "succeeded").outputs == {"it": {"got": 3}}


def test_an_attempt_that_takes_too_long_stops_its_own_child_only(tenant, drain):
    make_workflow(tenant, LEAF)
    source = workflow(RETRYING.replace("config:", "timeout: 1h, config:"), outputs="{it: '{{ call }}'}")
    run = make_run(tenant, source)
    drain()
    [first] = children_of(run)
    long_ago = (timezone.now() - timedelta(hours=2)).timestamp()
    Run.objects.across_tenants().filter(pk=first.pk).update(called_by=first.called_by | {"since": long_ago})
    Run.objects.across_tenants().filter(pk=run.pk).update(state="queued", wake_at=None)
    drain()
    waiting.until(lambda: drain() or len(children_of(run)) == 2, what="next attempt")
    second = children_of(run)[1]
    assert (state_of(first), state_of(second)) == ("cancelled", "waiting")
    send(second, "paid", 2)
    drain()
    assert ended(run, "succeeded").outputs == {"it": {"got": 2}}


# --- children of parents that have ended


def test_children_are_stopped_although_whoever_ended_their_parent_died(tenant, drain):
    for source in (LEAF, MIDDLE % ", on_cancel: terminate"):
        make_workflow(tenant, source)
    other = make_run(make_tenant(), workflow(PAID))
    run = make_run(tenant, workflow(EACH % ("middle", ", on_cancel: terminate")))
    drain()
    parked(run)
    end_run(run_id=run.pk, ending=TERMINATED)  # and no more than that
    assert Run.objects.across_tenants().get(pk=run.pk).children_to_stop
    drain()
    assert [state_of(child) for child in [*children_of(run), *leaves_below(run)]] == ["cancelled"] * 4
    assert not Run.objects.across_tenants().filter(children_to_stop=True).exists()
    assert state_of(other) == "waiting"


def test_a_sweep_leaves_what_was_retried_meanwhile_alone(tenant, drain):
    make_workflow(tenant, LEAF)
    run = make_run(tenant, workflow(EACH % ("leaf", "")))
    drain()
    end_run(run_id=parked(run).pk, ending=TERMINATED)
    retry(run)
    assert stop_orphans() == 0
    assert [state_of(child) for child in children_of(run)] == ["waiting"] * 2


def test_a_child_that_its_operator_retries_is_not_stopped(tenant, drain):
    """Its parent has ended, and whoever retries the child alone wants it to go on."""
    make_workflow(tenant, LEAF)
    run = make_run(tenant, workflow(EACH % ("leaf", ", on_cancel: terminate")))
    drain()
    terminate(parked(run))
    child = children_of(run)[0]
    retry(child)
    drain()
    assert stop_orphans() == 0
    send(parked(child), "paid")
    drain()
    ended(child, "succeeded")


# --- limits and queues


def set_limit(tenant: Tenant, limit: int) -> None:
    overrides = {"concurrent_runs": limit}
    set_plan(tenant=tenant, plan="enterprise", overrides=overrides, by=Actor.system(tenant.pk, "a test"))


def test_a_tenant_that_may_execute_one_run_executes_children_and_theirs(tenant, drain):
    """A run that waits for a child is not executed meanwhile, so it does not count."""
    set_limit(tenant, 1)
    other = make_run(make_tenant())
    make_workflow(tenant, workflow("{id: x, type: transform, config: {input: 1, expression: $}}", name="leaf"))
    make_workflow(tenant, MIDDLE % "")
    runs = [make_run(tenant, workflow(EACH % ("middle", ""), name="top")) for _ in range(2)]
    with executing():
        for run in (*runs, other):
            ended(run, "succeeded")


HELD_EACH = (
    "{id: call, type: workflow, for_each: [1, 2, 3], max_parallel: 3, concurrency: {key: '%s {{ item }}'},"
    " config: {workflow: %s}}"
)


@pytest.mark.parametrize("queue", ["", "gpu"])
def test_a_quota_of_one_run_has_room_for_children_that_are_waited_for_in_a_slot(tenant, queue: str):
    """The parent keeps its place while it waits in its slot: it and one child at a time share it."""
    set_limit(tenant, 1)
    settings = {"settings": f"{{queue: {queue}}}"} if queue else {}
    make_workflow(
        tenant, workflow("{id: x, type: transform, config: {input: 1, expression: $}}", name="leaf", **settings)
    )
    make_workflow(tenant, workflow(HELD_EACH % ("middle", "leaf"), name="middle"))
    runs = [make_run(tenant, workflow(HELD_EACH % ("top", "middle"), name="top")) for _ in range(2)]
    other = make_run(make_tenant())
    with executing():
        for run in (*runs, other):
            ended(run, "succeeded")


@written_by_hand
def test_of_children_that_are_waited_for_in_a_slot_one_has_the_place_of_its_parent(tenant):
    set_limit(tenant, 1)
    make_workflow(tenant, workflow(PAID, name="child"))
    parent = executed(make_run(tenant, workflow(HELD_EACH % ("parent", "child"), name="parent")))
    first, second = (start_child(parent, "call", item) for item in "12")
    plain = make_run(tenant, workflow(PAID, name="plain"))
    assert [taken.run_id for taken in claim("me", 10)] == [first.pk]
    assert list(claim("me", 10)) == []
    assert places_taken([tenant.pk])[tenant.pk] == 1
    Run.objects.across_tenants().filter(pk=first.pk).update(state="succeeded")
    assert [taken.run_id for taken in claim("me", 10)] == [second.pk]
    Run.objects.across_tenants().filter(pk__in=[parent.pk, second.pk]).update(state="succeeded")
    assert [taken.run_id for taken in claim("me", 10)] == [plain.pk]


def test_children_in_another_queue_are_stopped_and_taken_up_again(tenant, drain):
    make_workflow(tenant, workflow(PAID, name="leaf", settings="{queue: gpu}"))
    run = make_run(tenant, workflow(EACH % ("leaf", ", on_cancel: request_cancel")))
    drain()
    terminate(parked(run))
    drain()
    assert {state_of(child) for child in children_of(run)} == {"cancelled"}
    retry(run)
    drain()
    pay_all(run, drain)
    ended(run, "succeeded")
    assert {child.queue for child in children_of(run)} == {"gpu"}


def test_a_run_that_is_terminated_while_it_starts_children_leaves_none(tenant, settings, registry):
    settings.PYFLOW_LEASE_SECONDS = 30.0
    make_workflow(tenant, LEAF)
    source = "{id: call, type: workflow, for_each: '{{ range(300) | list }}', max_parallel: 300,"
    run = make_run(tenant, workflow(source + " config: {workflow: leaf, on_cancel: terminate}}"))
    other = make_run(make_tenant(), workflow(PAID))
    with executing():
        waiting.until(lambda: Run.objects.across_tenants().filter(parent=run).count() >= 20, what="children")
        terminate(run)
        started = len(children_of(run))
        waiting.until(lambda: state_of(other) == "waiting", what="run of another tenant")
    connection.close()
    # The request stops as many as one sweep does; how many had been started by then depends on the machine.
    while stop_orphans():
        pass
    assert len(children_of(run)) == started <= 300
    assert {child.state for child in children_of(run)} == {"cancelled"}
