"""Nodes that any worker of a queue executes, while another process executes the run."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from runs.models import POISON_LOSSES, NodeItem, NodeRun, NodeTask
from runs.queue.leases import MAX_LOSSES
from runs.queue.node_tasks import claim_tasks, poison_tasks_wait, renew_tasks
from runs.services.pause import pause_run, resume_run
from runs.services.retry import retry_run
from runs.services.terminate import terminate_run
from tests.support import waiting
from tests.support.factories.nodes import register, register_stubborn, workflow
from tests.support.factories.rows import make_run
from tests.support.factories.secrets import make_secret
from tests.support.histories import assert_is_whole
from tests.support.processes.platform import database_url
from tests.support.processes.running import cancel, ended, nodes, operator, seqs, state_of, workers

pytestmark = pytest.mark.database


def where(seen: list) -> object:
    """A node that notes which executor's event loop it ran on."""

    async def run(ctx, config) -> object:
        seen.append((ctx.node_id, id(asyncio.get_running_loop()), ctx.attempt))
        return getattr(config, "value", None)

    return run


def test_a_node_with_a_queue_is_executed_by_a_worker_of_that_queue(tenant, registry):
    seen: list = []
    register(registry, "where", where(seen))
    nodes = (
        "{id: a, type: where, config: {value: 7}}",
        "{id: b, type: where, queue: gpu, depends_on: [a], config: {value: '{{ a + input.n }}'}}",
        "{id: c, type: where, depends_on: [b], config: {value: '{{ b }}'}}",
    )
    run = make_run(tenant, workflow(*nodes, inputs="{n: integer}", outputs="{c: '{{ c }}'}"), {"n": 1})
    with workers("", "gpu"):
        ended(run, "succeeded")
    assert_is_whole(run, "abc")
    assert run.outputs == {"c": 8}
    loops = {node: loop for node, loop, _ in seen}
    assert loops["a"] == loops["c"] != loops["b"]
    assert not NodeTask.objects.for_tenant(tenant).exists()


def test_a_distributed_fan_out_is_executed_in_chunks_and_recorded_item_by_item(tenant, registry):
    register(registry, "double", lambda ctx, config: config.value * 2)
    node = "{id: a, type: double, for_each: '{{ input.items }}', config: {value: '{{ item }}'}}"
    source = workflow(node, settings="{distribute: true}", inputs="{items: array}", outputs="{all: '{{ a }}'}")
    run = make_run(tenant, source, {"items": list(range(120))})
    with workers("", ""):
        ended(run, "succeeded")
    assert run.outputs == {"all": [2 * number for number in range(120)]}
    assert NodeItem.objects.for_tenant(tenant).filter(run=run, state="succeeded").count() == 120


def test_an_error_from_elsewhere_is_retried_as_if_it_had_happened_here(tenant, registry):
    seen: list[int] = []

    def flaky(ctx) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return "done"

    register(registry, "flaky", flaky)
    retry = "retry: {max_attempts: 3, initial_interval: 10ms, retry_on: [ConnectionError]}"
    run = make_run(tenant, workflow(f"{{id: a, type: flaky, queue: gpu, {retry}}}"))
    with workers("", "gpu"):
        ended(run, "succeeded")
    assert seen == [1, 2, 3]


def test_a_task_of_a_lost_worker_is_executed_by_another(tenant, registry):
    register(registry, "note", lambda ctx: "done")
    run = make_run(tenant, workflow("{id: a, type: note, queue: gpu}"))
    with workers(""):
        task = waiting.until(lambda: NodeTask.objects.for_tenant(tenant).first(), what="task")
        past = timezone.now() - timedelta(seconds=1)
        NodeTask.objects.for_tenant(tenant).update(owner="dead", lease_until=past, epoch=1)
        connection.close()
        with workers("gpu"):
            ended(run, "succeeded")
    assert task.node_id == "a"


@pytest.mark.breaks_invariant("node_tasks_are_of_running_runs", reason="its rows are put into the tables as they are")
def test_a_task_that_was_lost_twice_is_left_to_a_quarantine(tenant, registry):
    """It may only have shared a process with a bad one: with what it is lost next, it is alone."""
    register(registry, "slow", lambda ctx: None)
    run = make_run(tenant, workflow("{id: a, type: slow, queue: gpu}"))
    tasks = [
        NodeTask.objects.create(tenant=tenant, run=run, run_epoch=1, node_id="a", places=[[1, 0.0, None]], queue="gpu")
        for _ in range(2)
    ]
    past = timezone.now() - timedelta(seconds=1)
    rows = NodeTask.objects.for_tenant(tenant).filter(pk=tasks[0].pk)
    rows.update(owner="dead", lease_until=past, losses=POISON_LOSSES - 1, epoch=1)
    assert [taken.task_id for taken in claim_tasks("me", 10, {"gpu"}, overdue=True)] == [tasks[1].pk]
    assert (poison_tasks_wait({"gpu"}), poison_tasks_wait({"elsewhere"})) == (True, False)
    [suspect] = claim_tasks("quarantine", 1, {"gpu"}, overdue=True, poison_runs=True)
    assert (suspect.task_id, suspect.losses, suspect.epoch) == (tasks[0].pk, POISON_LOSSES, 3)
    assert not poison_tasks_wait(None)
    rows.update(lease_until=past)
    assert [taken.losses for taken in claim_tasks("me", 10, {"gpu"}, overdue=True)] == [MAX_LOSSES]


def test_a_loss_is_taken_back_once_when_the_worker_reports_again(tenant, registry):
    cancelled, opened = register_stubborn(registry)
    nodes = [f"{{id: {name}, type: stubborn, queue: gpu}}" for name in "ab"]
    make_run(tenant, workflow(*nodes))
    with workers("", "gpu"):
        tasks = NodeTask.objects.for_tenant(tenant)
        waiting.until(lambda: tasks.filter(lease_until__isnull=False).count() == 2, what="claimed tasks")
        lost, kept = (tasks.filter(node_id=name) for name in "ab")
        # As an heir does it who has lost it, too, and claims it again.
        lease = timezone.now() + timedelta(hours=1)
        lost.update(owner="heir", epoch=F("epoch") + 2, lease_until=lease, losses=2)
        assert cancelled.wait(20)
        for _ in range(2):  # and renews the others' leases while the node takes its time to end
            before = kept.get().lease_until
            waiting.until(lambda before=before: kept.get().lease_until > before, what="renewal")
        assert (lost.get().losses, lost.get().owner, kept.get().losses) == (1, "heir", 0)
        opened.set()


def test_a_loss_is_taken_back_when_a_result_comes_too_late(tenant, registry, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # no renewal sees it before
    opened, notes = gated(registry)
    make_run(tenant, workflow("{id: a, type: gate, queue: gpu}"))
    with workers("", "gpu"):
        waiting.until(lambda: notes, what="call of the node")
        lease = timezone.now() + timedelta(hours=1)
        tasks = NodeTask.objects.for_tenant(tenant)
        tasks.update(owner="heir", epoch=F("epoch") + 1, lease_until=lease, losses=1)
        opened.set()
        waiting.until(lambda: tasks.get().losses == 0, what="loss taken back")
        assert (tasks.get().outcomes, tasks.get().owner) == (None, "heir")


def test_a_loss_is_taken_back_by_a_worker_that_stops(tenant, registry, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # no renewal sees it before
    _, notes = gated(registry)
    make_run(tenant, workflow("{id: a, type: gate, queue: gpu}"))
    with workers(""):
        with workers("gpu"):
            waiting.until(lambda: notes, what="call of the node")
            lease = timezone.now() + timedelta(hours=1)
            tasks = NodeTask.objects.for_tenant(tenant)
            tasks.update(owner="heir", epoch=F("epoch") + 1, lease_until=lease, losses=1)
        assert (tasks.get().losses, tasks.get().owner) == (0, "heir")


@pytest.mark.breaks_invariant("node_tasks_are_of_running_runs", reason="its rows are put into the tables as they are")
def test_a_worker_that_is_late_with_a_renewal_does_not_take_its_own_task_over(tenant):
    run = make_run(tenant)
    task = NodeTask.objects.create(
        tenant=tenant, run=run, run_epoch=1, node_id="greet", places=[[1, 0.0, None]], owner="me", epoch=1
    )
    NodeTask.objects.for_tenant(tenant).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert claim_tasks("me", 1, None, [task.pk], overdue=True) == []
    assert renew_tasks("me", [task.pk]) == {task.pk}
    task.refresh_from_db()
    assert (task.epoch, task.losses, task.lease_until > timezone.now()) == (1, 0, True)


def test_a_poison_task_is_executed_by_a_quarantine(tenant, registry, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url())
    run = make_run(tenant, workflow("{id: a, type: log, queue: gpu, config: {message: hello}}"))
    with workers(""):
        waiting.until(lambda: NodeTask.objects.for_tenant(tenant).exists(), what="task")
        NodeTask.objects.for_tenant(tenant).update(losses=POISON_LOSSES)
        with workers("gpu"):
            waiting.until(lambda: state_of(run) == "succeeded", 60, "end of the run")
    assert_is_whole(run, "a")


def test_a_task_that_may_happen_at_most_once_fails_when_its_worker_is_lost(tenant, registry):
    called: list[str] = []
    register(registry, "note", lambda ctx: called.append(ctx.node_id))
    run = make_run(tenant, workflow("{id: a, type: note, queue: gpu, on_lost: fail}"))
    with workers(""):
        waiting.until(lambda: NodeTask.objects.for_tenant(tenant).exists(), what="task")
        past = timezone.now() - timedelta(seconds=1)
        NodeTask.objects.for_tenant(tenant).update(owner="dead", lease_until=past, epoch=1)
        connection.close()
        with workers("gpu"):
            ended(run, "failed")
    assert called == []
    assert run.error["code"] == "worker_lost"


def test_cancelling_a_run_takes_back_what_it_asked_others_for(tenant, registry):
    register(registry, "note", lambda ctx: "done")
    run = make_run(tenant, workflow("{id: a, type: note, queue: nobody}"))
    with workers(""):
        waiting.until(lambda: NodeTask.objects.for_tenant(tenant).exists(), what="task")
        cancel(run)
        ended(run, "cancelled")
        waiting.until(lambda: not NodeTask.objects.for_tenant(tenant).exists(), what="end of the task")
    assert NodeRun.objects.for_tenant(tenant).get().state == "cancelled"


def test_a_run_with_a_queue_is_left_to_its_workers(tenant, registry):
    seen: list = []
    register(registry, "where", where(seen))
    run = make_run(tenant, workflow("{id: a, type: where}", settings="{queue: gpu}"))
    other = make_run(tenant, workflow("{id: a, type: where}", name="other"))
    with workers(""):
        ended(other, "succeeded")
        assert state_of(run) == "queued"
        with workers("gpu"):
            ended(run, "succeeded")


def test_a_secret_that_a_node_read_elsewhere_is_masked_in_the_whole_run(tenant, registry):
    make_secret(tenant, "PAGER", "sesame-pager-77")
    register(registry, "reads", lambda ctx, config: f"it is {ctx.secret('PAGER')}")
    register(registry, "echoes", lambda ctx, config: "a service says sesame-pager-77")
    run = make_run(tenant, workflow("{id: a, type: reads, queue: gpu}", "{id: b, type: echoes, depends_on: [a]}"))
    with workers("", "gpu"):
        ended(run, "succeeded")
    outputs = dict(NodeRun.objects.for_tenant(tenant).filter(run=run).values_list("node_id", "output"))
    assert outputs == {"a": "it is ***", "b": "a service says ***"}
    assert len(run.secrets_used) == 1


def gated(registry) -> tuple[threading.Event, list[str]]:
    """A node type whose nodes note their call and wait until they are let through or cancelled, and the notes."""
    opened, notes = threading.Event(), []

    async def run(ctx, config) -> object:
        notes.append(f"{ctx.node_id} begins")
        try:
            while not opened.is_set():  # noqa: ASYNC110 - by another thread
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            notes.append(f"{ctx.node_id} is cancelled")
            raise
        return ctx.node_id

    register(registry, "gate", run)
    return opened, notes


def test_a_pause_lets_what_is_executed_elsewhere_end_and_records_it(tenant, registry, heard, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # none is to run out on a busy machine: a node would be called twice
    opened, notes = gated(registry)
    run = make_run(
        tenant, workflow("{id: a, type: gate, queue: gpu}", "{id: b, type: gate, queue: gpu, depends_on: [a]}")
    )
    with workers("", "gpu"):
        waiting.until(lambda: notes, what="call of the first node")
        assert pause_run(by=operator(run), run_id=run.pk).state == "running"
        assert heard.wait(20)
        opened.set()
        waiting.until(lambda: state_of(run) == "paused", what="paused run")
        assert (notes, nodes(run), run.owner) == (["a begins"], {"a": "succeeded"}, "")
        waiting.until(lambda: not NodeTask.objects.for_tenant(tenant).exists(), what="end of the task")
        resume_run(by=operator(run), run_id=run.pk)
        ended(run, "succeeded")
    assert notes == ["a begins", "b begins"]
    assert_is_whole(run, "ab")


def test_a_task_that_nobody_claimed_waits_through_a_pause_of_its_run(tenant, registry, heard, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # none is to run out on a busy machine: a node would be called twice
    opened, notes = gated(registry)
    opened.set()
    run = make_run(tenant, workflow("{id: a, type: gate, queue: gpu}", "{id: b, type: gate, depends_on: [a]}"))
    with workers(""):
        waiting.until(lambda: NodeTask.objects.for_tenant(tenant).exists(), what="task")
        pause_run(by=operator(run), run_id=run.pk)
        assert heard.wait(20)
        with workers("gpu"):
            waiting.until(lambda: state_of(run) == "paused", what="paused run")
        assert (notes, nodes(run)) == (["a begins"], {"a": "succeeded"})
        resume_run(by=operator(run), run_id=run.pk)
        ended(run, "succeeded")
    assert notes == ["a begins", "b begins"]


def test_a_run_is_terminated_while_its_nodes_are_executed_elsewhere(tenant, registry):
    opened, notes = gated(registry)
    run = make_run(tenant, workflow("{id: a, type: gate, queue: gpu}", "{id: b, type: gate, depends_on: [a]}"))
    with workers("", "gpu"):
        waiting.until(lambda: notes, what="call of the node")
        # Starts are recorded a moment later, and not waited for (runs/worker/sink.py).
        waiting.until(lambda: nodes(run) == {"a": "running"}, what="record of the start")
        terminate_run(by=operator(run), run_id=run.pk)
        assert (state_of(run), nodes(run)) == ("cancelled", {"a": "cancelled"})
        waiting.until(lambda: not NodeTask.objects.for_tenant(tenant).exists(), what="end of the task")
        waiting.until(lambda: "a is cancelled" in notes, what="end of the node")
    opened.set()
    assert (state_of(run), nodes(run), notes) == ("cancelled", {"a": "cancelled"}, ["a begins", "a is cancelled"])
    assert seqs(run) == list(range(1, run.event_seq + 1))


def test_a_distributed_fan_out_is_terminated_with_its_tasks(tenant, registry):
    _, notes = gated(registry)
    node = "{id: a, type: gate, for_each: '{{ [1, 2, 3, 4, 5, 6] }}', max_parallel: 3}"
    run = make_run(tenant, workflow(node, settings="{distribute: true}"))
    with workers("", ""):
        waiting.until(lambda: len(notes) >= 3, what="calls of the first items")
        terminate_run(by=operator(run), run_id=run.pk)
        waiting.until(lambda: not NodeTask.objects.for_tenant(tenant).exists(), what="end of the tasks")
        waiting.until(lambda: notes.count("a is cancelled") == notes.count("a begins"), what="end of the items")
    assert state_of(run) == "cancelled"
    assert not NodeItem.objects.for_tenant(tenant).filter(state="succeeded").exists()


def test_a_run_is_retried_after_its_tasks_were_terminated(tenant, registry, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # none is to run out on a busy machine: a node would be called twice
    opened, notes = gated(registry)
    run = make_run(tenant, workflow("{id: a, type: gate, queue: gpu}"))
    with workers("", "gpu"):
        waiting.until(lambda: notes, what="call of the node")
        terminate_run(by=operator(run), run_id=run.pk)
        opened.set()
        retry_run(by=operator(run), run_id=run.pk)
        ended(run, "succeeded")
    assert notes.count("a begins") == 2
    assert not NodeTask.objects.for_tenant(tenant).exists()
