"""`until` on the platform: nothing is held between rounds, and rounds outlive the executors that made them."""

import json
import signal
from datetime import timedelta

import pytest
from django.utils import timezone

from runs.api.serializers import show_attempts
from runs.explain.explanation import explain_run
from runs.models import EventRecord, NodeItem, NodeRun, NodeTask, Run, Slot
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.processes.platform import drain_elsewhere
from tests.support.processes.running import cancel, ended, executing, expire, nodes, parked, types, workers
from tests.support.servers import ledger as ledgers

pytestmark = pytest.mark.database

ROUNDS = "{when: 'output == 3', every: 1h}"


@pytest.fixture
def asked(registry) -> list[tuple[str, int]]:
    """The calls of `ask`, which gives how often its node (or item) was asked."""
    calls: list[tuple[str, int]] = []

    def ask(ctx, config) -> int:
        name = getattr(config, "name", ctx.node_id)
        calls.append((name, ctx.attempt))
        return sum(call[0] == name for call in calls)

    register(registry, "ask", ask)
    return calls


def make_due(run: Run) -> None:
    """Let the hour pass for which a run waits."""
    past = timezone.now() - timedelta(seconds=1)
    for rows in (
        Run.objects.for_tenant(run.tenant_id).filter(pk=run.pk),
        NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, wake_at__isnull=False),
        NodeItem.objects.for_tenant(run.tenant_id).filter(run=run, wake_at__isnull=False),
    ):
        rows.update(wake_at=past)


def node_of(run: Run) -> NodeRun:
    return NodeRun.objects.for_tenant(run.tenant_id).get(run=run)


def test_a_run_is_parked_between_rounds(tenant, drain, asked):
    source = workflow(f"{{id: a, type: ask, until: {ROUNDS}, concurrency: {{key: k}}}}", outputs="{got: '{{ a }}'}")
    run = make_run(tenant, source)
    for number in (1, 2):
        drain()
        parked(run)
        node = node_of(run)
        assert (node.state, node.round, node.attempts, run.owner) == ("waiting", number, number, "")
        assert node.wait["details"] == {"kind": "round", "round": number + 1}
        assert run.wake_at == node.wake_at
        assert not Slot.objects.for_tenant(tenant).exists()
        [why] = explain_run(tenant_id=tenant.pk, run_id=run.pk).nodes
        due = node.wake_at.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
        assert (why.code, why.until) == ("round", node.wake_at)
        assert why.detail == f"Waits for round {number + 1} at {due}."
        make_due(run)
    drain()
    ended(run, "succeeded")
    assert run.outputs == {"got": 3}
    assert (node_of(run).round, node_of(run).attempts, asked) == (3, 3, [("a", 1)] * 3)
    assert types(run)["node.started"] == 3
    history = show_attempts(EventRecord.objects.for_tenant(tenant).filter(run=run, node_id="a").order_by("seq"))
    assert [(attempt["attempt"], attempt["round"], attempt["state"]) for attempt in history] == [
        (1, 1, "succeeded"),
        (2, 2, "succeeded"),
        (3, 3, "succeeded"),
    ]


def test_items_wait_for_their_rounds_without_an_executor(tenant, drain, asked):
    rounds = "{when: 'output >= item', every: 1h}"
    each = f"{{id: a, type: ask, for_each: [1, 3, 2], config: {{name: '{{{{ item }}}}'}}, until: {rounds}}}"
    run = make_run(tenant, workflow(each, outputs="{got: '{{ a }}'}"))
    drain()
    parked(run)
    items = NodeItem.objects.for_tenant(tenant).order_by("index")
    assert list(items.values_list("state", "round")) == [("succeeded", 1), ("waiting", 1), ("waiting", 1)]
    assert items[1].wait["details"] == {"kind": "round", "round": 2}
    [why] = explain_run(tenant_id=tenant.pk, run_id=run.pk).nodes
    assert (why.code, why.items) == ("items", {"succeeded": 1, "waiting": 2})
    for _ in range(2):
        make_due(run)
        drain()
    ended(run, "succeeded")
    assert run.outputs == {"got": [1, 3, 2]}
    assert list(items.values_list("state", "round", "attempts", "wake_at")) == [
        ("succeeded", 1, 1, None),
        ("succeeded", 3, 3, None),
        ("succeeded", 2, 2, None),
    ]


def test_a_round_goes_on_in_another_executor(tenant, asked):
    run = make_run(tenant, workflow("{id: a, type: ask, until: {when: 'output == 2', every: 300ms}}"))
    with executing():
        parked(run)
    with executing():
        ended(run, "succeeded")
    assert (node_of(run).round, len(asked)) == (2, 2)


def test_a_kill_within_a_round_repeats_that_round_only(tenant, tmp_path):
    with ledgers.serving(tmp_path / "ledger") as ledger:
        node = ledger.node("a") | {"until": {"when": "round == 3", "every": "1h"}}
        run = make_run(tenant, f"version: 2\nname: rounds\nnodes: {json.dumps([node])}\n")
        assert drain_elsewhere().wait(60) == 0
        parked(run)
        make_due(run)
        ledger.hold("a")
        process = drain_elsewhere()
        try:
            waiting.until(lambda: len(ledger.calls("a")) == 2 and node_of(run).round == 2, 60, "second round")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        ledger.release("a")
        node = node_of(run)
        assert (node.state, node.attempts, node.earlier_attempts) == ("running", 2, 1)
        expire(run)
        assert drain_elsewhere().wait(60) == 0
        assert (parked(run).claims, node_of(run).round, node_of(run).attempts) == (3, 2, 3)
        make_due(run)
        assert drain_elsewhere().wait(60) == 0
        ended(run, "succeeded")
        assert (node_of(run).round, node_of(run).attempts, len(ledger.calls("a"))) == (3, 4, 4)


def test_rounds_of_a_node_with_a_queue_are_tasks_of_it(tenant, asked):
    source = workflow("{id: a, type: ask, queue: far, until: {when: 'output == 2', every: 300ms}}")
    with workers("", "far"):
        run = make_run(tenant, source)
        ended(run, "succeeded")
    assert (node_of(run).round, asked) == (2, [("a", 1), ("a", 1)])
    assert not NodeTask.objects.for_tenant(tenant).exists()


def test_cancelling_a_run_between_rounds_ends_its_node_and_items(tenant, drain, asked):
    each = f"{{id: b, type: ask, for_each: [1], config: {{name: x}}, until: {ROUNDS}}}"
    run = make_run(tenant, workflow(f"{{id: a, type: ask, until: {ROUNDS}}}", each))
    drain()
    parked(run)
    cancel(run)
    drain()
    ended(run, "cancelled")
    assert nodes(run) == {"a": "cancelled", "b": "cancelled"}
    item = NodeItem.objects.for_tenant(tenant).get()
    assert (item.state, item.wait, item.wake_at) == ("cancelled", None, None)
