"""Child runs on the platform: awaited without an executor, stopped as their parents' nodes say, across executors."""

import asyncio
import threading
import time

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from pyflow.core.children import child_id
from pyflow.core.events import EventType
from runs.models import EventRecord, NodeItem, NodeRun, Run
from runs.queue.leases import claim
from runs.services.stop_children import stop_children, stop_orphans
from runs.storage.writer import store
from runs.worker.executor import RunExecutor
from runs.worker.sink import DatabaseSink
from tenants.access import Actor
from tenants.models import Tenant, UsageCounter
from tenants.quotas import set_plan
from tests.support import waiting
from tests.support.factories import records
from tests.support.factories.children import executed, start_child
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant, make_workflow
from tests.support.histories import assert_is_whole
from tests.support.invariants import written_by_hand
from tests.support.processes.running import cancel, ended, executing, expire, nodes, parked, send, state_of, types

pytestmark = pytest.mark.database

CHILD = workflow(
    "{id: double, type: transform, config: {input: '{{ input.n * 2 }}', expression: $}}",
    name="child",
    inputs="{n: integer}",
    outputs="{twice: '{{ double }}'}",
)
PARENT = "{id: call, type: workflow, config: {workflow: child, input: {n: 21}%s}}"


def parent(tenant: Tenant, more: str = "", child: str = CHILD, **sections: str) -> Run:
    make_workflow(tenant, child)
    return make_run(tenant, workflow(PARENT % more, name="parent", **sections))


def child_of(run: Run) -> Run:
    [found] = waiting.until(lambda: list(Run.objects.across_tenants().filter(parent=run)), what="child run")
    return found


def test_a_child_run_is_a_run_of_its_own(tenant, drain):
    run = parent(tenant, outputs="{got: '{{ call }}'}")
    drain()
    ended(run, "succeeded")
    child = child_of(run)
    assert run.outputs == {"got": {"twice": 42}}
    assert (child.state, child.input, child.outputs) == ("succeeded", {"n": 21}, {"twice": 42})
    assert (child.lineage, child.tenant_id, child.workflow.name) == (["parent"], tenant.pk, "child")
    assert (run.parent_id, run.lineage) == (None, [])
    assert_is_whole(child, ["double"])
    assert_is_whole(run, ["call"])


FAILING = workflow("{id: x, type: fail, config: {message: no stock}}", name="child")


def test_the_failure_of_a_child_fails_its_parent(tenant, drain):
    run = parent(tenant, child=FAILING)
    drain()
    ended(run, "failed")
    assert (run.error["code"], run.error["node_id"]) == ("child_run_failed", "call")
    assert "no stock" in run.error["message"]


def test_the_failure_of_a_child_may_be_its_parents_data(tenant, drain):
    run = parent(tenant, ", propagate: false", FAILING, outputs="{got: '{{ call }}'}")
    drain()
    got = ended(run, "succeeded").outputs["got"]
    assert (got["run_id"], got["state"]) == (str(child_of(run).pk), "failed")
    assert got["error"]["message"] == "no stock"


def test_an_unknown_workflow_is_refused(tenant, drain):
    run = make_run(tenant, workflow("{id: call, type: workflow, config: {workflow: nobody}}"))
    drain()
    assert ended(run, "failed").error["code"] == "child_run_refused"


def test_an_input_that_the_child_does_not_take_is_refused(tenant, drain):
    make_workflow(tenant, CHILD)
    run = make_run(tenant, workflow("{id: call, type: workflow, config: {workflow: child, input: {n: x}}}"))
    drain()
    assert ended(run, "failed").error["code"] == "child_run_refused"
    assert Run.objects.for_tenant(tenant).count() == 1


def test_a_child_that_no_quota_has_room_for_is_refused(tenant, drain):
    set_plan(tenant=tenant, plan="enterprise", overrides={"runs_per_day": 1}, by=Actor.system(tenant.pk, "a test"))
    run = parent(tenant)
    drain()
    assert ended(run, "failed").error["code"] == "child_run_refused"
    assert "Quota `runs_per_day` exceeded: limit 1, used 1." in run.error["message"]
    assert [found.pk for found in Run.objects.for_tenant(tenant)] == [run.pk]
    assert UsageCounter.objects.for_tenant(tenant).get(name="runs_per_day").count == 1


def test_another_tenants_workflow_is_unknown(tenant, drain):
    make_workflow(make_tenant(), CHILD)
    run = make_run(tenant, workflow(PARENT % ""))
    drain()
    assert ended(run, "failed").error["code"] == "child_run_refused"


def test_recursion_is_refused(tenant, drain):
    make_workflow(tenant, workflow("{id: back, type: workflow, config: {workflow: parent}}", name="child"))
    run = make_run(tenant, workflow("{id: call, type: workflow, config: {workflow: child}}", name="parent"))
    drain()
    assert "parent" in ended(run, "failed").error["message"]
    assert child_of(run).error["code"] == "child_run_refused"
    assert Run.objects.for_tenant(tenant).count() == 2


def test_a_detached_child_outlives_its_parent(tenant, drain):
    held = workflow("{id: paid, type: signal, config: {name: paid}}", name="child")
    run = parent(tenant, ", wait: false", held, outputs="{got: '{{ call }}'}")
    drain()
    ended(run, "succeeded")
    child = parked(child_of(run))
    assert run.outputs == {"got": {"run_id": str(child.pk)}}
    send(child, "paid")
    drain()
    ended(child, "succeeded")


HELD = workflow("{id: paid, type: signal, config: {name: paid}}", name="child", outputs="{got: '{{ paid }}'}")


@pytest.mark.parametrize(
    ("on_cancel", "state"), [("request_cancel", "cancelled"), ("terminate", "cancelled"), ("abandon", "waiting")]
)
def test_what_becomes_of_a_child_when_its_parent_is_cancelled(tenant, executor, on_cancel: str, state: str):
    run = parent(tenant, f", on_cancel: {on_cancel}", HELD)
    child = parked(child_of(run))
    cancel(run)
    ended(run, "cancelled")
    waiting.until(lambda: state_of(child) == state, what=f"{state} child")


def test_parents_leave_room_for_their_children(tenant, settings, drain):
    """More parents than an executor takes at once: waiting for a child must not keep it from being executed."""
    settings.PYFLOW_CONCURRENT_RUNS = 2
    make_workflow(tenant, CHILD)
    runs = [make_run(tenant, workflow(PARENT % "", name="parent")) for _ in range(4)]
    connection.close()
    asyncio.run(asyncio.wait_for(RunExecutor().drain(), 60))
    for run in runs:
        ended(run, "succeeded")


@written_by_hand
def test_two_executors_start_one_child(tenant, drain):
    """A parent whose lease was lost is executed twice for a moment."""
    run = parent(tenant)
    for _ in range(2):
        start_child(executed(run), input={"n": 1})
    assert child_of(run).pk == child_uuid(run)


# --- waiting for a child


def test_a_run_that_waits_for_a_child_is_parked(tenant, executor):
    run = parent(tenant, child=HELD, outputs="{got: '{{ call }}'}")
    child = parked(child_of(run))
    parked(run)
    assert (run.owner, run.lease_until, run.wake_at) == ("", None, None)
    waiting.until(lambda: not executor._working.executor._active, what="idle executor")
    node = NodeRun.objects.for_tenant(tenant).get(run=run)
    assert (node.state, node.wait["details"]) == ("waiting", {"kind": "child", "runs": [str(child.pk)]})
    send(child, "paid", 7)
    ended(run, "succeeded")
    assert run.outputs == {"got": {"got": 7}}
    assert (run.claims, types(run)["node.started"], types(run)["node.waiting"]) == (2, 1, 1)
    assert_is_whole(run, ["call"])
    node.refresh_from_db()
    assert (node.attempts, node.wait) == (1, None)


def test_the_end_of_a_child_wakes_its_parent_in_the_same_transaction(tenant, drain):
    run = parent(tenant, child=HELD)
    drain()
    [child] = [parked(child_of(run))]
    parked(run)
    send(child, "paid")
    [claimed] = claim("me", 1, child.pk)
    end = end_of(claimed)
    with transaction.atomic():
        assert store([end]) == set()
        assert (state_of(child), state_of(run)) == ("succeeded", "queued")
        transaction.set_rollback(True)
    assert (state_of(child), state_of(run)) == ("running", "waiting")


def end_of(claimed):
    """What ends a run."""
    end = records.new_write(claimed)
    end.events = [records.event(claimed, EventType.RUN_SUCCEEDED, None, {"state": "succeeded"})]
    end.changes = {"state": "succeeded", "outputs": {"got": 1}, "finished_at": timezone.now(), "owner": ""}
    return end


def test_a_parent_goes_on_in_another_executor(tenant):
    with executing():
        run = parent(tenant, child=HELD, outputs="{got: '{{ call }}'}")
        child = parked(child_of(run))
        parked(run)
    send(child, "paid", 7)
    with executing():
        ended(run, "succeeded")
    assert run.outputs == {"got": {"got": 7}}
    assert child_of(run).pk == child.pk


def test_a_child_that_ends_while_its_parent_is_parked_is_not_missed(tenant, monkeypatch):
    """It ended after the parent had looked, before the parent was recorded as waiting."""
    run = parent(tenant, child=HELD, outputs="{got: '{{ call }}'}")
    park = DatabaseSink.park

    def finish_child() -> None:
        child = child_of(run)
        waiting.until(lambda: state_of(child) == "waiting", what="waiting child")
        send(child, "paid", 1)
        ended(child, "succeeded")
        connection.close()

    async def after_the_child(self, wake_at) -> None:
        if self._claim.run_id == run.pk:
            await asyncio.to_thread(finish_child)
        await park(self, wake_at)

    monkeypatch.setattr(DatabaseSink, "park", after_the_child)
    with executing():
        ended(run, "succeeded")
    assert run.outputs == {"got": {"got": 1}}


@written_by_hand
def test_a_child_whose_end_is_being_committed_while_its_parent_is_parked_is_not_missed(tenant, drain):
    """Neither of the two transactions sees what the other has written: the parent's row has to order them."""
    run = parent(tenant, child=HELD)
    drain()
    child = parked(child_of(run))
    parked(run)
    Run.objects.across_tenants().filter(pk__in=[run.pk, child.pk]).update(state="queued")
    [above] = claim("me", 1, run.pk)[:1]
    below = next(taken for taken in [above, *claim("me", 1, child.pk)] if taken.run_id == child.pk)
    above = above if above.run_id == run.pk else claim("me", 1, run.pk)[0]
    down = records.new_write(above)
    down.changes = {"state": "waiting", "owner": "", "lease_until": None}

    def put_parent_down() -> None:
        store([down])
        while down.busy:  # as the group writer does
            time.sleep(0.01)
            store([down])
        connection.close()

    other = threading.Thread(target=put_parent_down)
    with transaction.atomic():
        store([end_of(below)])
        other.start()
        other.join(0.3)  # long enough to go wrong, if nothing held it back
    other.join(60)
    assert not other.is_alive()
    assert state_of(run) == "queued"


def test_the_parent_of_a_child_that_ended_goes_on_beside_its_other_nodes(tenant, settings, registry):
    settings.PYFLOW_SWEEP_SECONDS = 600.0
    go = threading.Event()
    register(registry, "hold", lambda ctx: go.wait(10))
    make_workflow(tenant, HELD)
    with executing():
        run = make_run(tenant, workflow(PARENT % "", "{id: b, type: hold}", name="parent"))
        try:
            child = parked(child_of(run))
            waiting.until(lambda: nodes(run).get("call") == "waiting", what="waiting node")
            send(child, "paid", 1)
            waiting.until(lambda: nodes(run)["call"] == "succeeded", what="end of the node")
            assert state_of(run) == "running"
        finally:
            go.set()
        ended(run, "succeeded")
    assert run.claims == 1


def test_a_parent_that_was_killed_sees_what_became_of_its_child(tenant, drain, registry):
    """It had other work, so it was not parked, when its process died."""
    note: list[str] = []
    register(registry, "note", lambda ctx: note.append(ctx.node_id))
    make_workflow(tenant, HELD)
    run = make_run(tenant, workflow(PARENT % "", "{id: b, type: note}", name="parent", outputs="{got: '{{ call }}'}"))
    [dead] = claim("dead", 1, run.pk)
    child = start_child(run, epoch=dead.epoch)
    wait = {"until": None, "signal": None, "details": {"kind": "child", "runs": [str(child.pk)]}}
    write = records.new_write(dead)
    write.events = [records.event(dead, EventType.NODE_WAITING, "call", {"attempt": 1, **wait})]
    write.nodes = {"call": records.succeeded(None) | {"state": "waiting", "finished_at": None, "wait": wait}}
    store([write])
    send(child, "paid", 3)
    drain()
    ended(child, "succeeded")
    assert (state_of(run), note) == ("running", [])
    expire(run)
    drain()
    ended(run, "succeeded")
    assert (run.outputs, note) == ({"got": {"got": 3}}, ["b"])


def child_uuid(run: Run):
    return Run._meta.pk.to_python(child_id(str(run.pk), "call", None))


def test_a_child_that_is_not_done_in_time_fails_its_node_and_is_stopped(tenant, executor):
    make_workflow(tenant, HELD)
    run = make_run(
        tenant, workflow("{id: call, type: workflow, timeout: 500ms, config: {workflow: child}}", name="parent")
    )
    parked(run)
    assert run.wake_at is not None
    ended(run, "failed")
    assert (nodes(run), run.error["node_id"]) == ({"call": "timed_out"}, "call")
    ended(child_of(run), "cancelled")


LIMITED = "{id: call, type: workflow, concurrency: {key: k}%s, config: {workflow: child}}"


def test_a_child_under_a_limit_holds_its_slot_until_it_ends(tenant, settings):
    """The slot is one of the executor, which therefore keeps the run, without looking at the child all the time."""
    settings.PYFLOW_SWEEP_SECONDS = 600.0
    make_workflow(tenant, HELD)
    with executing():
        runs = [make_run(tenant, workflow(LIMITED % "", name="parent")) for _ in range(2)]
        children = waiting.until(
            lambda: list(Run.objects.across_tenants().filter(parent__in=runs, state="waiting")), what="waiting child"
        )
        waiting.until(lambda: [state_of(run) for run in runs] == ["running", "running"], what="both parents")
        assert len(children) == 1
        send(children[0], "paid")
        ended(children[0].parent, "succeeded")
        other = next(run for run in runs if run.pk != children[0].parent_id)
        send(parked(child_of(other)), "paid")
        ended(other, "succeeded")


def test_a_child_under_a_limit_that_is_not_done_in_time_is_stopped(tenant, executor):
    make_workflow(tenant, HELD)
    run = make_run(tenant, workflow(LIMITED % ", timeout: 300ms", name="parent"))
    ended(run, "failed")
    assert nodes(run) == {"call": "timed_out"}
    ended(child_of(run), "cancelled")


def test_a_run_in_the_foreground_executes_its_children_and_theirs(tenant, tmp_path):
    """`runworkflow` executes one run, on a database that other executors may not even know."""
    make_workflow(tenant, CHILD)
    make_workflow(tenant, workflow("{id: b, type: workflow, config: {workflow: child, input: {n: 4}}}", name="middle"))
    other = make_run(tenant)
    file = tmp_path / "top.yaml"
    file.write_text(
        workflow("{id: a, type: workflow, config: {workflow: middle}}", name="top", outputs="{a: '{{ a }}'}")
    )
    connection.close()
    call_command("runworkflow", str(file), tenant=tenant.slug)
    assert Run.objects.for_tenant(tenant).get(workflow__name="top").outputs == {"a": {"b": {"twice": 8}}}
    assert state_of(other) == "queued"


# --- fan-outs of children

EACH = (
    "{id: call, type: workflow, for_each: '{{ input.rows }}', item_key: '{{ item }}', max_parallel: 2%s,"
    " config: {workflow: child, input: {n: '{{ item }}'}, on_cancel: terminate}}"
)
NUMBERED = workflow(
    "{id: paid, type: signal, config: {name: paid}}",
    "{id: x, type: fail, depends_on: [paid], when: 'paid >= 100', config: {message: too much}}",
    name="child",
    inputs="{n: integer}",
    outputs="{got: '{{ input.n + paid }}'}",
)


def fan_out(tenant: Tenant, more: str = "") -> Run:
    make_workflow(tenant, NUMBERED)
    source = workflow(EACH % more, name="parent", inputs="{rows: array}", outputs="{all: '{{ call }}'}")
    return make_run(tenant, source, {"rows": [1, 2, 3]})


def child_for(run: Run, n: int) -> Run:
    return parked(Run.objects.across_tenants().get(parent=run, input={"n": n}))


def test_a_fan_out_of_children_is_parked_and_keeps_its_limit(tenant, drain):
    run = fan_out(tenant)
    drain()
    parked(run)
    assert run.owner == ""
    assert Run.objects.across_tenants().filter(parent=run).count() == 2
    send(child_for(run, 2), "paid", 20)
    drain()
    parked(run)
    assert Run.objects.across_tenants().filter(parent=run).count() == 3
    send(child_for(run, 1), "paid", 10)
    send(child_for(run, 3), "paid", 30)
    drain()
    assert [got["got"] for got in ended(run, "succeeded").outputs["all"]] == [11, 22, 33]
    items = NodeItem.objects.for_tenant(tenant).filter(run=run)
    assert sorted(items.values_list("index", "state", "attempts")) == [(n, "succeeded", 1) for n in range(3)]
    assert (types(run)["node.started"], NodeRun.objects.across_tenants().get(run=run).attempts) == (1, 1)


def test_the_failure_of_one_child_is_counted_once(tenant, drain):
    run = fan_out(tenant, ", tolerate_failures: 1")
    drain()
    send(child_for(run, 1), "paid", 100)
    drain()
    send(child_for(run, 2), "paid", 20)
    drain()
    send(child_for(run, 3), "paid", 30)
    drain()
    [failed, *others] = ended(run, "succeeded").outputs["all"]
    assert (failed, [got["got"] for got in others]) == (None, [22, 33])
    assert types(run)["node.failed"] == 1


def test_a_fan_out_that_failed_stops_its_other_children(tenant, drain):
    run = fan_out(tenant)
    drain()
    other = child_for(run, 2)
    send(child_for(run, 1), "paid", 100)
    drain()
    ended(run, "failed")
    assert state_of(other) == "cancelled"
    assert Run.objects.across_tenants().filter(parent=run).count() == 2


def test_cancelling_a_fan_out_stops_its_children(tenant, drain):
    run = fan_out(tenant)
    drain()
    parked(run)
    cancel(run)
    drain()
    ended(run, "cancelled")
    assert {child.state for child in Run.objects.across_tenants().filter(parent=run)} == {"cancelled"}


def test_the_items_of_a_fan_out_are_undone_by_children(tenant, executor, registry):
    register(registry, "visit", lambda ctx: ctx.node_id)
    make_workflow(tenant, HELD)
    source = workflow(
        "{id: each, type: visit, for_each: '{{ [1, 2] }}', compensate: {type: workflow, config: {workflow: child}}}",
        "{id: x, type: fail, depends_on: [each], config: {message: no stock}}",
        name="parent",
    )
    run = make_run(tenant, source)
    for _ in range(2):
        child = waiting.until(
            lambda: Run.objects.across_tenants().filter(parent=run, state="waiting").first(), what="undoing child"
        )
        send(child, "paid")
        ended(child, "succeeded")
    ended(run, "failed")
    assert (run.compensation, Run.objects.across_tenants().filter(parent=run).count()) == ("succeeded", 2)


# --- ending what is below


def tree(tenant: Tenant, drain, *, top: str = "terminate") -> tuple[Run, Run, dict[str, Run]]:
    """A parent, its child, and the child's own children by how their nodes treat them; all of them wait."""
    choices = ("terminate", "request_cancel", "abandon")
    make_workflow(tenant, workflow("{id: paid, type: signal, config: {name: paid}}", name="leaf"))
    calls = [f"{{id: {how}, type: workflow, config: {{workflow: leaf, on_cancel: {how}}}}}" for how in choices]
    loose = "{id: loose, type: workflow, config: {workflow: leaf, wait: false, on_cancel: terminate}}"
    run = parent(tenant, f", on_cancel: {top}", workflow(*calls, loose, name="child", inputs="{n: integer}"))
    drain()
    child = parked(child_of(run))
    below = {
        how: Run.objects.across_tenants().get(pk=child_id(str(child.pk), how, None)) for how in (*choices, "loose")
    }
    for leaf in below.values():
        parked(leaf)
    return parked(run), child, below


def test_a_terminated_child_takes_what_is_below_with_it_as_its_own_nodes_say(tenant, drain):
    run, child, below = tree(tenant, drain)
    cancel(run)
    drain()
    ended(run, "cancelled")
    ended(child, "cancelled")
    assert {how: state_of(leaf) for how, leaf in below.items()} == {
        "terminate": "cancelled",
        "request_cancel": "cancelled",
        "abandon": "waiting",
        "loose": "waiting",
    }
    assert below["terminate"].error["message"] == "terminated with its parent"
    assert below["request_cancel"].error["message"] == "the run was cancelled"


def test_the_nodes_of_a_terminated_child_are_cancelled_with_it(tenant, drain):
    _, child, _ = tree(tenant, drain)
    before = types(child)
    events = EventRecord.objects.across_tenants().filter(run=child)
    last = events.order_by("seq").last().seq
    stop_children(parent_id=child.parent_id, epoch=child.parent.epoch)
    state_of(child)
    assert nodes(child) == {
        "terminate": "cancelled",
        "request_cancel": "cancelled",
        "abandon": "cancelled",
        "loose": "succeeded",
    }
    assert types(child) - before == {"node.failed": 3, "run.cancelled": 1}
    new = list(events.filter(seq__gt=last).order_by("seq"))
    assert [event.seq for event in new] == list(range(last + 1, last + 5))
    assert (new[-1].type, child.event_seq) == ("run.cancelled", last + 4)
    for row in NodeRun.objects.across_tenants().filter(run=child, state="cancelled"):
        assert (row.error["code"], row.wait, row.wake_at) == ("node_cancelled", None, None)
        assert row.finished_at == child.finished_at


@written_by_hand
@pytest.mark.breaks_invariant("what_has_come_is_not_waited_for", reason="its rows are put into the tables as they are")
def test_ending_what_is_below_goes_on_where_a_process_died(tenant, drain):
    """It had ended the child and none of the child's children."""
    _, child, below = tree(tenant, drain)
    ended_now = {"state": "cancelled", "finished_at": timezone.now(), "children_to_stop": True}
    Run.objects.across_tenants().filter(pk=child.pk).update(**ended_now)
    assert stop_orphans() == 2
    assert stop_orphans() == 0
    assert state_of(below["terminate"]) == "cancelled"
    assert state_of(below["abandon"]) == "waiting"


def test_a_terminated_run_stops_where_it_is_executed(tenant, registry, settings):
    settings.PYFLOW_SWEEP_SECONDS = settings.PYFLOW_LEASE_SECONDS = 600.0
    began, stopped = threading.Event(), threading.Event()

    async def hold(ctx) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    register(registry, "hold", hold)
    with executing():
        run = parent(
            tenant, ", on_cancel: terminate", workflow("{id: a, type: hold}", name="child", inputs="{n: integer}")
        )
        assert began.wait(10)
        waiting.until(lambda: nodes(child_of(run)) == {"a": "running"}, what="record of the node")
        parked(run)
        cancel(run)
        ended(run, "cancelled")
        assert stopped.wait(10)
        child = ended(child_of(run), "cancelled")
    assert nodes(child) == {"a": "cancelled"}


def test_a_cancelled_parent_whose_process_died_stops_its_child(tenant, drain):
    """The node was recorded as started; nobody knew yet that it waits."""
    make_workflow(tenant, HELD)
    run = make_run(tenant, workflow("{id: call, type: workflow, config: {workflow: child}}", name="parent"))
    [dead] = claim("dead", 1, run.pk)
    write = records.new_write(dead)
    write.events = [records.event(dead, EventType.NODE_STARTED, "call", {"attempt": 1})]
    write.nodes = {"call": records.succeeded(None) | {"state": "running", "finished_at": None}}
    store([write])
    start_child(run, epoch=dead.epoch)
    cancel(run)
    expire(run)
    drain()
    ended(run, "cancelled")
    stop_orphans()  # a sweep: the child may have been locked by its own executor when the parent ended
    drain()
    ended(child_of(run), "cancelled")
