"""Fan-outs of nodes that wait, on the platform: rows wait, nobody executes them, and each item is addressed."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from pyflow.nodes.approval import DecisionError
from runs.errors import NotAssigneeError, SignalNotAwaitedError
from runs.explain.explanation import explain_run
from runs.models import NodeItem, NodeRun, Run, RunSignal
from runs.services.signals import pending_approvals, signal_run
from runs.services.terminate import terminate_run
from runs.worker.sink import DatabaseSink
from tenants.access import Role
from tests.support import waiting
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import a_test, make_principal, make_run, make_tenant
from tests.support.processes.running import cancel, ended, executing, nodes, parked, send

pytestmark = pytest.mark.database

PAID = workflow(
    "{id: a, type: signal, for_each: [x, y, z], item_key: '{{ item }}', config: {name: 'paid-{{ item }}'}}",
    outputs="{got: '{{ a }}'}",
)
ASKS = """
version: 2
name: asks
inputs: {who: object}
outputs: {ok: "{{ ship }}"}
nodes:
  - id: ship
    type: approval
    for_each: "{{ input.who }}"
    collect: mapping
    config: {assignees: ["{{ item }}"], on_reject: continue}
"""
WHO = {"who": {"north": "key:ada", "south": "key:bob"}}


def items_of(run: Run) -> dict[str, str]:
    rows = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run).order_by("index")
    return dict(rows.values_list("key", "state"))


def decide(run: Run, name: str, key: str, *, approved: bool = True) -> bool:
    sender = replace(make_principal(run.tenant, Role.EDITOR), name=name)
    return signal_run(
        by=a_test(run.tenant), sender=sender, run_id=run.pk, name=f"approval:ship:{key}",
        payload={"approved": approved}, signal_id=None,
    )  # fmt: skip


def test_timers_of_items_are_rows(tenant):
    source = workflow("{id: a, type: wait, for_each: [300ms, 1h], config: {duration: '{{ item }}'}}")
    with executing():
        run = parked(make_run(tenant, source))
        rows = NodeItem.objects.for_tenant(tenant).order_by("index")
        assert [row.wait["details"] for row in rows] == [{"kind": "wait"}] * 2
        assert run.wake_at == rows[0].wake_at
    assert (run.owner, NodeRun.objects.for_tenant(tenant).get().wait["details"]) == ("", {"kind": "items"})
    with executing():
        waiting.until(lambda: items_of(run) == {"0": "succeeded", "1": "waiting"}, what="first timer")
        run = parked(run)
        assert run.wake_at == rows[1].wake_at
    past = timezone.now() - timedelta(seconds=1)
    left = rows.get(state="waiting")
    left.wake_at, left.wait["until"] = past, past.isoformat()
    left.save()
    NodeRun.objects.for_tenant(tenant).update(wake_at=past)
    Run.objects.for_tenant(tenant).update(wake_at=past)
    with executing():
        ended(run, "succeeded")


def test_each_item_takes_its_signal_whoever_executes_the_run(tenant):
    with executing():
        run = parked(make_run(tenant, PAID))
        assert items_of(run) == {"x": "waiting", "y": "waiting", "z": "waiting"}
        send(run, "paid-y", 2, "two")
    with executing():
        waiting.until(lambda: items_of(run)["y"] == "succeeded", what="signal")
        assert parked(run).wake_at is None
        assert RunSignal.objects.for_tenant(tenant).get().consumed
    send(run, "paid-x", 1, "one")
    send(run, "paid-z", 3, "three")
    with executing():
        assert ended(run, "succeeded").outputs == {"got": [1, 2, 3]}
    assert all(RunSignal.objects.for_tenant(tenant).values_list("consumed", flat=True))


def test_a_signal_of_an_item_that_came_while_the_run_was_parked_is_not_missed(tenant, monkeypatch):
    run = make_run(tenant, PAID)
    park, told = DatabaseSink.park, []

    def tell() -> None:
        for number, name in enumerate("xyz"):
            send(run, f"paid-{name}", number)
        connection.close()

    async def once(self, wake_at) -> None:
        if not told:
            told.append(True)
            await asyncio.to_thread(tell)
        await park(self, wake_at)

    monkeypatch.setattr(DatabaseSink, "park", once)
    with executing():
        assert ended(run, "succeeded").outputs == {"got": [0, 1, 2]}


def test_decisions_are_listed_explained_and_checked_per_item(tenant, drain):
    run = make_run(tenant, ASKS, WHO)
    drain()
    parked(run)
    of_nodes, of_items = pending_approvals(tenant.pk)
    assert list(of_nodes) == []
    assert [(item.key, item.wait["signal"]) for item in of_items.order_by("id")] == [
        ("north", "approval:ship:north"),
        ("south", "approval:ship:south"),
    ]
    [ada] = pending_approvals(tenant.pk, names=frozenset({"key:ada"}))[1]
    assert ada.key == "north"
    [why] = explain_run(tenant_id=tenant.pk, run_id=run.pk).nodes
    assert (why.code, why.detail) == ("items", "Waits for its items (2 waiting).")
    assert [(item.key, item.code, item.signal) for item in why.waiting_items] == [
        ("north", "approval", "approval:ship:north"),
        ("south", "approval", "approval:ship:south"),
    ]
    assert why.waiting_items[0].detail == "Waits for the decision of key:ada (signal 'approval:ship:north')."
    with pytest.raises(NotAssigneeError):
        decide(run, "bob", "north")
    with pytest.raises(DecisionError):
        send(run, "approval:ship:north", {"approved": "yes"})
    assert decide(run, "ada", "north", approved=False)
    drain()
    parked(run)
    assert items_of(run) == {"north": "succeeded", "south": "waiting"}
    with pytest.raises(SignalNotAwaitedError):
        decide(run, "ada", "north")
    with pytest.raises(SignalNotAwaitedError):
        send(run, "approval:ships", {"approved": True})
    assert decide(run, "bob", "south")
    drain()
    outputs = ended(run, "succeeded").outputs["ok"]
    assert {key: (decision["approved"], decision["by"]) for key, decision in outputs.items()} == {
        "north": (False, "key:ada"),
        "south": (True, "key:bob"),
    }


def test_an_early_decision_on_an_item_is_checked_when_it_waits(tenant, drain):
    run = make_run(tenant, ASKS, WHO)
    decide(run, "bob", "north")
    decide(run, "ada", "north")
    drain()
    parked(run)
    assert items_of(run) == {"north": "succeeded", "south": "waiting"}
    assert all(RunSignal.objects.for_tenant(tenant).values_list("consumed", flat=True))


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
def test_a_run_that_is_stopped_leaves_no_item_waiting(tenant, drain, verb):
    run = make_run(tenant, PAID)
    drain()
    parked(run)
    if verb == "cancel":
        cancel(run)
        drain()
    else:
        terminate_run(by=a_test(tenant), run_id=run.pk)
    ended(run, "cancelled")
    assert nodes(run) == {"a": "cancelled"}
    assert set(items_of(run).values()) == {"cancelled"}
    assert not NodeItem.objects.for_tenant(tenant).filter(wait__isnull=False).exists()


def test_items_of_two_tenants_do_not_meet(tenant, drain):
    other_tenant = make_tenant("other")
    mine, theirs = make_run(tenant, PAID), make_run(other_tenant, PAID)
    drain()
    parked(mine), parked(theirs)
    for name in "xyz":
        send(mine, f"paid-{name}", name)
    drain()
    assert ended(mine, "succeeded").outputs == {"got": ["x", "y", "z"]}
    assert set(items_of(theirs).values()) == {"waiting"}
