"""The language on the platform: fan-outs, waits, signals, approvals and sagas, across executors."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.nodes.approval import DecisionError
from runs.errors import RunFinishedError
from runs.models import NodeItem, NodeRun, Run, RunSignal
from runs.queue.leases import claim
from runs.services.signals import signal_run
from runs.worker.sink import DatabaseSink
from tenants.access import Role
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import a_test, make_principal, make_run
from tests.support.histories import assert_is_whole
from tests.support.processes.running import cancel, ended, executing, nodes, parked, send, state_of, types

pytestmark = pytest.mark.database

PAID = workflow("{id: paid, type: signal, config: {name: paid}}", outputs="{got: '{{ paid }}'}")
APPROVAL = workflow("{id: ship, type: approval, config: {assignees: ['role:admin']}}", outputs="{ok: '{{ ship }}'}")


def note(registry, type_name: str = "note") -> list[str]:
    """A node type that notes which nodes were called, in their order."""
    called: list[str] = []

    def call(ctx) -> str:
        called.append(ctx.node_id)
        return ctx.node_id

    register(registry, type_name, call)
    return called


# --- waits


def test_a_run_that_waits_is_parked_and_goes_on_when_its_time_has_come(tenant, executor):
    source = workflow(
        "{id: a, type: wait, config: {duration: 700ms}}", "{id: b, type: log, depends_on: [a], config: {message: x}}"
    )
    run = parked(make_run(tenant, source))
    assert (run.owner, run.lease_until) == ("", None)
    assert run.wake_at - run.started_at >= timedelta(seconds=0.7)
    waiting.until(lambda: not executor._working.executor._active, what="idle executor")
    node = NodeRun.objects.for_tenant(tenant).get()
    assert (node.state, node.wait["details"], node.wake_at) == ("waiting", {"kind": "wait"}, run.wake_at)
    due = run.wake_at
    ended(run, "succeeded")
    assert_is_whole(run, "ab")
    assert due <= run.finished_at
    assert run.wake_at is None
    assert run.claims == 2


def test_the_timeout_of_a_run_goes_on_while_it_waits(tenant, executor):
    source = workflow("{id: a, type: signal, config: {name: never}}", settings="{timeout: 700ms}")
    run = parked(make_run(tenant, source))
    assert run.wake_at is not None
    ended(run, "timed_out")
    assert run.error["code"] == "run_timeout"


@pytest.mark.parametrize("key", ["timeout", "total_timeout"])
@pytest.mark.parametrize("what", ["wait, config: {duration: 1h}", "signal, config: {name: never}"])
def test_the_timeout_of_a_node_that_waits_ends_it_in_another_executor(tenant, key, what):
    with executing():
        run = parked(make_run(tenant, workflow(f"{{id: a, type: {what}, {key}: 700ms}}")))
    node = NodeRun.objects.for_tenant(tenant).get()
    assert node.wait["details"] | {"on_timeout": "fail", "limit": key} == node.wait["details"]
    assert run.wake_at == node.wake_at
    assert (node.wake_at - node.started_at).total_seconds() == pytest.approx(0.7, abs=0.1)
    with executing():
        ended(run, "failed")
    node.refresh_from_db()
    assert (node.state, node.error["code"], node.attempts) == ("timed_out", "node_timeout", 1)
    assert f"`{key}`" in node.error["message"]


def test_a_payload_that_is_too_large_fails_its_node_and_is_taken(tenant, drain):
    run = make_run(tenant, workflow("{id: a, type: signal, max_output_size: 8, config: {name: go}}"))
    send(run, "go", "0123456789", "1")
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("failed", "output_too_large")
    assert RunSignal.objects.for_tenant(tenant).get().consumed


def test_a_wait_goes_on_in_another_executor(tenant):
    with executing():
        run = parked(make_run(tenant, workflow("{id: a, type: wait, config: {duration: 600ms}}")))
    due = run.wake_at
    with executing():
        ended(run, "succeeded")
    assert_is_whole(run, "a")
    assert run.finished_at >= due


def test_nobody_claims_a_run_before_its_time(tenant, drain):
    run = make_run(tenant, workflow("{id: a, type: wait, config: {duration: 1h}}"))
    drain()
    parked(run)
    assert claim("an eager one", 10) == []
    Run.objects.across_tenants().update(wake_at=timezone.now() - timedelta(seconds=1))
    [claimed] = claim("a punctual one", 10)
    assert claimed.run_id == run.pk


def test_a_run_with_other_work_is_not_parked(tenant, executor, registry):
    go = threading.Event()
    register(registry, "hold", lambda ctx: go.wait(10))
    run = make_run(tenant, workflow("{id: a, type: wait, config: {duration: 1ms}}", "{id: b, type: hold}"))
    waiting.until(lambda: nodes(run) == {"a": "succeeded", "b": "running"}, what="end of the wait")
    assert state_of(run) == "running"
    go.set()
    ended(run, "succeeded")
    assert run.claims == 1


def test_a_backoff_is_a_wait_too(tenant, drain, registry):
    def fail(ctx) -> None:
        raise ValueError("not yet")

    register(registry, "flaky", fail)
    run = make_run(
        tenant,
        workflow(
            "{id: a, type: flaky, retry: {max_attempts: 3, initial_interval: 1h, max_interval: 1h, jitter: none}}"
        ),
    )
    drain()
    parked(run)
    assert nodes(run) == {"a": "retrying"}
    assert run.wake_at >= run.started_at + timedelta(hours=1)


# --- signals


def test_a_signal_that_is_early_is_kept(tenant, drain):
    run = make_run(tenant, PAID)
    send(run, "paid", {"amount": 3})
    drain()
    assert_is_whole(run, ["paid"])
    assert run.outputs == {"got": {"amount": 3}}
    assert RunSignal.objects.for_tenant(tenant).get().consumed


def test_a_signal_wakes_the_run_that_waits_for_it_once(tenant, executor):
    run = parked(make_run(tenant, PAID))
    assert (run.wake_at, run.owner) == (None, "")
    assert send(run, "paid", 1, "x")
    ended(run, "succeeded")
    assert_is_whole(run, ["paid"])
    assert run.outputs == {"got": 1}
    assert RunSignal.objects.for_tenant(tenant).get().consumed
    with pytest.raises(RunFinishedError):
        send(run, "paid", 2, "x")


def test_a_signal_that_no_node_waits_for_yet_puts_the_run_down_again(tenant, executor):
    source = workflow(
        "{id: paid, type: signal, config: {name: paid}}",
        "{id: later, type: signal, depends_on: [paid], config: {name: something else}}",
        outputs="{got: '{{ paid }}'}",
    )
    run = parked(make_run(tenant, source))
    send(run, "something else")
    waiting.until(lambda: state_of(run) == "waiting" and run.claims == 2, what="second look")
    assert not RunSignal.objects.for_tenant(tenant).get().consumed
    send(run, "paid", 1)
    assert ended(run, "succeeded").outputs == {"got": 1}


def test_each_signal_is_taken_by_one_node_the_oldest_first(tenant, drain):
    source = workflow(
        "{id: a, type: signal, config: {name: paid}}",
        "{id: b, type: signal, depends_on: [a], config: {name: paid}}",
        outputs="{a: '{{ a }}', b: '{{ b }}'}",
    )
    run = make_run(tenant, source)
    assert [send(run, "paid", 1, "x"), send(run, "paid", 2, "x")] == [True, False]
    drain()
    parked(run)
    assert nodes(run) == {"a": "succeeded", "b": "waiting"}
    send(run, "paid", 3, "y")
    drain()
    assert_is_whole(run, "ab")
    assert run.outputs == {"a": 1, "b": 3}


def test_a_signal_reaches_a_run_while_it_executes_other_nodes(tenant, executor, registry):
    began, go = threading.Event(), threading.Event()

    def hold(ctx) -> None:
        began.set()
        go.wait(10)

    register(registry, "hold", hold)
    run = make_run(tenant, workflow("{id: paid, type: signal, config: {name: paid}}", "{id: b, type: hold}"))
    assert began.wait(10)
    try:
        waiting.until(lambda: nodes(run).get("paid") == "waiting", what="waiting node")
        send(run, "paid", 1)
        waiting.until(lambda: nodes(run)["paid"] == "succeeded", what="signal")
        assert state_of(run) == "running"
    finally:
        go.set()
    ended(run, "succeeded")
    assert run.claims == 1


def test_a_signal_that_does_not_come_in_time_fails_its_node(tenant, executor):
    source = workflow("{id: paid, type: signal, config: {name: paid, timeout: 300ms}}")
    run = ended(make_run(tenant, source), "failed")
    assert nodes(run) == {"paid": "timed_out"}
    assert run.error["node_id"] == "paid"


def test_a_signal_that_came_while_the_run_was_parked_is_not_missed(tenant, monkeypatch):
    """It was stored after the executor's last look, before the run was recorded as waiting."""
    run = make_run(tenant, PAID)
    park = DatabaseSink.park

    def tell() -> None:
        send(run, "paid", 1)
        connection.close()

    told: list[bool] = []

    async def once(self, wake_at) -> None:
        if not told:
            told.append(True)
            await asyncio.to_thread(tell)
        await park(self, wake_at)

    monkeypatch.setattr(DatabaseSink, "park", once)
    with executing():
        ended(run, "succeeded")
    assert run.outputs == {"got": 1}


@pytest.mark.parametrize("signal_id", [None, "paid"])
def test_a_signal_that_came_before_its_node_was_recorded_as_waiting_is_not_taken_by_that(
    tenant, monkeypatch, signal_id
):
    """Its id is the name of the signal: the record of the wait has that name where that of the end has the id."""
    run = make_run(tenant, PAID)
    commit = DatabaseSink.commit

    def tell() -> None:
        send(run, "paid", 1, signal_id)
        connection.close()

    async def late(self, event) -> None:
        if event.type is EventType.NODE_WAITING:
            await asyncio.to_thread(tell)
        await commit(self, event)

    monkeypatch.setattr(DatabaseSink, "commit", late)
    with executing():
        ended(run, "succeeded")
    assert run.outputs == {"got": 1}


# --- approvals


@pytest.mark.parametrize("later", [False, True], ids=["same executor", "after a restart"])
def test_an_approval_is_answered_later(tenant, later: bool):
    decision = {"approved": True, "by": "ada", "comment": "go"}
    with executing():
        run = parked(make_run(tenant, APPROVAL))
        if not later:
            send(run, "approval:ship", decision)
            ended(run, "succeeded")
    if later:
        send(run, "approval:ship", decision)
        with executing():
            ended(run, "succeeded")
    assert_is_whole(run, ["ship"])
    assert run.outputs["ok"] == {**decision, "on_behalf_of": None, "data": None, "timed_out": False}


def test_a_decision_of_the_wrong_shape_changes_nothing(tenant, drain):
    run = make_run(tenant, APPROVAL)
    drain()
    with pytest.raises(DecisionError):
        send(run, "approval:ship", {"approved": "yes"})
    parked(run)
    assert not RunSignal.objects.for_tenant(tenant).exists()


TEMPLATED = """
version: 2
name: asks
inputs: {who: string}
outputs: {ok: "{{ ship }}"}
nodes: [{id: ship, type: approval, config: {assignees: ["{{ input.who }}"]}}]
"""


def test_an_early_decision_is_checked_again_where_a_template_makes_the_assignees(tenant, drain):
    run = make_run(tenant, TEMPLATED, {"who": "key:ci"})
    for name in ("other", "ci"):
        sender = replace(make_principal(tenant, Role.EDITOR), name=name)
        assert signal_run(
            by=a_test(tenant), sender=sender, run_id=run.pk, name="approval:ship", payload={"approved": name == "ci"},
            signal_id=name,
        )  # fmt: skip
    drain()
    ended(run, "succeeded")
    assert (run.outputs["ok"]["approved"], run.outputs["ok"]["by"]) == (True, "key:ci")
    assert all(RunSignal.objects.for_tenant(tenant).values_list("consumed", flat=True))
    assert types(run)["node.signal_refused"] == 1


def test_a_refused_decision_leaves_the_run_waiting_and_is_refused_once(tenant, drain):
    run = make_run(tenant, TEMPLATED, {"who": "key:ci"})
    sender = replace(make_principal(tenant, Role.EDITOR), name="other")
    signal_run(
        by=a_test(tenant), sender=sender, run_id=run.pk, name="approval:ship", payload={"approved": True},
        signal_id=None,
    )  # fmt: skip
    drain()
    parked(run)
    assert nodes(run) == {"ship": "waiting"}
    assert RunSignal.objects.for_tenant(tenant).get().consumed
    Run.objects.across_tenants().update(state="queued")
    drain()
    parked(run)
    assert types(run)["node.signal_refused"] == 1


def test_a_signal_whose_id_is_the_name_that_is_waited_for_is_taken_once(tenant, drain):
    run = make_run(tenant, PAID)
    send(run, "paid", 1, "paid")
    drain()
    ended(run, "succeeded")
    assert RunSignal.objects.for_tenant(tenant).get().consumed


def test_a_rejection_fails_the_run_and_is_taken(tenant, drain):
    run = make_run(tenant, APPROVAL)
    drain()
    send(run, "approval:ship", {"approved": False, "by": "ada", "comment": "too dear"})
    drain()
    assert "too dear" in ended(run, "failed").error["message"]
    assert RunSignal.objects.for_tenant(tenant).get().consumed


def test_a_rejection_does_not_answer_the_same_question_again(tenant, drain):
    """The run goes on after its node has failed: nobody else takes the decision that failed it."""
    source = workflow(
        "{id: a, type: approval, on_error: continue, config: {assignees: ['role:admin']}}",
        "{id: b, type: signal, depends_on: [a], run_if: all_done, config: {name: 'approval:a'}}",
    )
    run = make_run(tenant, source)
    drain()
    send(run, "approval:a", {"approved": False, "by": "ada"})
    drain()
    parked(run)
    assert nodes(run) == {"a": "failed", "b": "waiting"}
    assert RunSignal.objects.for_tenant(tenant).get().consumed


def test_a_wait_keeps_the_beginning_and_the_attempts_of_its_node(tenant, drain):
    run = make_run(tenant, PAID)
    drain()
    began = NodeRun.objects.for_tenant(tenant).get().started_at
    send(run, "paid")
    drain()
    node = NodeRun.objects.for_tenant(tenant).get()
    assert (node.state, node.attempts, node.started_at, node.wait) == ("succeeded", 1, began, None)


# --- fan-out

EACH = (
    "{id: each, type: visit, config: {item: '{{ item }}'}, for_each: '{{ input.rows }}', item_key: '{{ item }}',"
    " max_parallel: 1%s}"
)


def test_the_items_of_a_fan_out_are_rows(tenant, drain, registry):
    def visit(ctx, config) -> str:
        if config.item == "poison":
            raise ValueError("it is poisoned")
        return str(config.item).upper()

    register(registry, "visit", visit)
    source = workflow(EACH % ", tolerate_failures: 1", inputs="{rows: array}", outputs="{all: '{{ each }}'}")
    run = make_run(tenant, source, {"rows": ["a", "poison", "c"]})
    drain()
    assert ended(run, "succeeded").outputs == {"all": ["A", None, "C"]}
    items = list(NodeItem.objects.for_tenant(tenant).filter(run=run).order_by("index"))
    assert [(item.index, item.key, item.state, item.attempts, item.output) for item in items] == [
        (0, "a", "succeeded", 1, "A"),
        (1, "poison", "failed", 1, None),
        (2, "c", "succeeded", 1, "C"),
    ]
    assert [item.error and item.error["message"] for item in items] == [None, "it is poisoned", None]


def test_a_run_that_is_taken_over_repeats_unfinished_items_only(tenant, registry):
    called: list[str] = []
    stuck, free = threading.Event(), []

    async def visit(ctx, config) -> str:
        called.append(config.item)
        if config.item == "c" and not free:
            stuck.set()
            await asyncio.Event().wait()
        return str(config.item).upper()

    register(registry, "visit", visit)
    source = workflow(EACH % "", inputs="{rows: array}", outputs="{all: '{{ each }}'}")
    with executing():
        run = make_run(tenant, source, {"rows": ["a", "b", "c", "d"]})
        assert stuck.wait(10)
    assert NodeItem.objects.for_tenant(tenant).filter(state="succeeded").count() == 2
    free.append(True)
    with executing():
        ended(run, "succeeded")
    assert_is_whole_of_items(run, 4)
    assert called == ["a", "b", "c", "c", "d"]
    assert run.outputs == {"all": ["A", "B", "C", "D"]}


def assert_is_whole_of_items(run: Run, count: int) -> None:
    items = NodeItem.objects.across_tenants().filter(run=run, state="succeeded")
    assert sorted(items.values_list("index", flat=True)) == list(range(count))


# --- cancel

CLEANED = "[{id: clean, type: note}]"


@pytest.mark.parametrize("when", ["queued", "waiting", "running"])
def test_a_cancelled_run_is_undone_and_finished_wherever_it_was(tenant, registry, when: str):
    called = note(registry)
    began = threading.Event()

    async def hold(ctx) -> None:
        began.set()
        await asyncio.Event().wait()

    register(registry, "hold", hold)
    last = {"waiting": "{id: b, type: signal, depends_on: [a], config: {name: x}}"}.get(
        when, "{id: b, type: hold, depends_on: [a]}"
    )
    first = "{id: a, type: note, compensate: {type: note}}"
    if when == "queued":
        run = make_run(tenant, workflow(first, last, **{"finally": CLEANED}))
        cancel(run)
    with executing():
        if when == "waiting":
            run = parked(make_run(tenant, workflow(first, last, **{"finally": CLEANED})))
            cancel(run)
        elif when == "running":
            run = make_run(tenant, workflow(first, last, **{"finally": CLEANED}))
            assert began.wait(10)
            cancel(run)
        ended(run, "cancelled")
    assert run.error["code"] == "run_cancelled"
    assert called[-1] == "clean"
    if when == "queued":
        assert called == ["clean"]
        assert run.compensation == ""
    else:
        assert (called[0], len(called)) == ("a", 3)
        assert run.compensation == "succeeded"
    assert (run.owner, run.lease_until, run.wake_at) == ("", None, None)
    assert types(run)["run.cancelled"] == 1


# --- saga


def test_a_failure_undoes_what_completed_in_reverse_order(tenant, drain, registry):
    undone: list[str] = []
    note(registry, "do")
    register(registry, "undo", lambda ctx: undone.append(ctx.node_id))
    source = workflow(
        "{id: a, type: do, compensate: {type: undo}}",
        "{id: b, type: do, depends_on: [a], compensate: {type: undo}}",
        "{id: c, type: fail, depends_on: [b], config: {message: no stock}, compensate: {type: undo}}",
        "{id: d, type: do, depends_on: [c], compensate: {type: undo}}",
    )
    run = make_run(tenant, source)
    drain()
    ended(run, "failed")
    assert (run.error["message"], run.compensation) == ("no stock", "succeeded")
    assert ["a" in undone[1], "b" in undone[0], len(undone)] == [True, True, 2]


def test_undoing_that_fails_is_seen_on_the_run(tenant, drain, registry):
    note(registry, "do")
    source = workflow(
        "{id: a, type: do, compensate: {type: fail, config: {message: cannot}}}",
        "{id: b, type: fail, depends_on: [a], config: {message: no stock}}",
    )
    run = make_run(tenant, source)
    drain()
    ended(run, "failed")
    assert (run.error["message"], run.compensation) == ("no stock", "failed")


def test_undoing_goes_on_in_another_executor_and_undoes_nothing_twice(tenant, registry):
    undone: list[str] = []
    stuck, free = threading.Event(), []

    async def undo(ctx) -> None:
        if undone and not free:
            stuck.set()
            await asyncio.Event().wait()
        undone.append(ctx.node_id)

    note(registry, "do")
    register(registry, "undo", undo)
    source = workflow(
        "{id: a, type: do, compensate: {type: undo}}",
        "{id: b, type: do, depends_on: [a], compensate: {type: undo}}",
        "{id: x, type: fail, depends_on: [b], config: {message: no stock}}",
    )
    with executing():
        run = make_run(tenant, source)
        waiting.until(lambda: undone or stuck.is_set(), what="undoing")
        waiting.until(lambda: len(undone) == 1 and stuck.is_set(), 5, "stuck undoing")
    free.append(True)
    with executing():
        ended(run, "failed")
    assert len(undone) == len(set(undone)) == 2
    assert run.compensation == "succeeded"


def test_the_items_of_a_fan_out_are_undone_after_a_wait(tenant, drain, registry):
    """The run is parked in between: the items come from the record by then."""
    undone: list[object] = []
    register(registry, "visit", lambda ctx, config: str(config.item).upper())
    register(registry, "undo", lambda ctx, config: undone.append(config.item))
    source = workflow(
        EACH % ", compensate: {type: undo, config: {item: '{{ item }}'}}",
        "{id: go, type: signal, depends_on: [each], config: {name: go}}",
        "{id: x, type: fail, depends_on: [go], config: {message: no stock}}",
        inputs="{rows: array}",
    )
    run = make_run(tenant, source, {"rows": ["a", "b"]})
    drain()
    parked(run)
    send(run, "go")
    drain()
    ended(run, "failed")
    assert (undone, run.compensation) == (["b", "a"], "succeeded")


def test_a_decision_of_a_sender_who_is_not_known_is_refused(tenant, drain):
    """Such rows are older than the record of senders: nobody could check who may decide."""
    run = make_run(tenant, workflow("{id: ship, type: approval, config: {assignees: [ada@example.org]}}"))
    RunSignal.objects.for_tenant(tenant).create(
        tenant=tenant, run=run, name="approval:ship", payload={"approved": True, "by": "user:ada"}, dedupe_id="old"
    )
    drain()
    assert nodes(parked(run)) == {"ship": "waiting"}
    assert types(run)["node.signal_refused"] == 1
    send(run, "approval:ship", {"approved": True})  # the platform itself
    drain()
    ended(run, "succeeded")
