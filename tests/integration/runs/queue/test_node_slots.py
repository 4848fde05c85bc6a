"""The concurrency of nodes: slots of keys that attempts hold, whatever worker executes their runs."""

import asyncio
import threading
import time

import pytest
from django.db import connections

from pyflow.execution.shared import ConcurrencyLimitError, SkippedByLimitError
from runs.models import NodeRun, Run, Slot
from runs.queue.leases import claim
from runs.queue.slots import Ticket, Verdict, enter, leave, places_of, reconcile, states_of_tickets
from runs.worker.executor import RunExecutor
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand
from tests.support.processes.running import ended, executing, state_of

pytestmark = pytest.mark.database
NODE = "{{id: a, type: busy, concurrency: {{key: k, limit: {limit}, on_limit: {on_limit}}}}}"


def source(on_limit: str = "queue", limit: int = 1) -> str:
    return workflow(NODE.format(limit=limit, on_limit=on_limit))


def ticket(taken, **values) -> Ticket:
    given = {"key": "k", "limit": 1, "on_limit": "queue", "priority": 5, "node_id": "a", "run_epoch": taken.epoch}
    return Ticket(tenant_id=taken.tenant_id, run_id=taken.run_id, **given | values)


def test_nodes_of_runs_on_different_executors_share_the_slots_of_a_key(tenant, registry, settings):
    settings.PYFLOW_CONCURRENT_RUNS = 2
    settings.PYFLOW_LEASE_SECONDS = 30.0
    lock, inside, most = threading.Lock(), 0, 0

    async def busy(ctx) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0.05)
        with lock:
            inside -= 1

    register(registry, "busy", busy)
    runs = [make_run(tenant, source()) for _ in range(6)]
    connections.close_all()
    threads = [threading.Thread(target=lambda: asyncio.run(RunExecutor(linger=0.5).drain())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state_of(run) for run in runs] == ["succeeded"] * 6
    assert most == 1
    assert not Slot.objects.for_tenant(tenant).exists()


@pytest.mark.parametrize(
    ("on_limit", "state", "code"),
    [
        ("skip", "succeeded", SkippedByLimitError.code),
        ("fail", "failed", ConcurrencyLimitError.code),
        ("cancel_newest", "failed", ConcurrencyLimitError.code),
    ],
)
def test_a_node_without_a_slot_is_refused(tenant, registry, drain, on_limit, state, code):
    register(registry, "busy", lambda ctx: 1)
    holder = make_run(tenant, source())
    [taken] = claim("another", 1)
    assert enter(ticket(taken)) is Verdict.HELD
    run = make_run(tenant, source(on_limit))
    drain()
    run.refresh_from_db()
    assert (run.state, holder.pk) == (state, taken.run_id)
    assert run.error is None or run.error["code"] == code


@pytest.mark.parametrize(("limit", "state"), [("total_timeout", "failed"), ("timeout", "succeeded")])
def test_waiting_for_a_slot_counts_against_the_total_timeout_only(tenant, registry, limit, state):
    register(registry, "busy", lambda ctx: 1)
    make_run(tenant, source())
    [taken] = claim("another", 1)
    theirs = ticket(taken)
    assert enter(theirs) is Verdict.HELD
    run = make_run(tenant, source().replace("type: busy", f"type: busy, {limit}: 500ms"))
    with executing():
        if state == "succeeded":
            waiting.until(lambda: Slot.objects.for_tenant(tenant).count() == 2, what="a node that waits for its slot")
            time.sleep(0.6)  # longer than an attempt may take
            leave(theirs)
        ended(run, state)
    node = NodeRun.objects.for_tenant(tenant).get(run=run)
    assert node.state == ("timed_out" if state == "failed" else "succeeded")
    assert not Slot.objects.for_tenant(tenant).filter(run=run).exists()


def test_the_oldest_node_makes_room_and_the_next_one_is_notified(tenant):
    make_run(tenant)
    [taken] = claim("me", 1)
    first, second, third = (ticket(taken, on_limit="cancel_oldest", node_id=name) for name in "abc")
    assert [enter(first), enter(second)] == [Verdict.HELD, Verdict.WAITING]
    assert states_of_tickets([first.id, second.id]) == {first.id: (True, True), second.id: (False, False)}
    leave(first)
    assert states_of_tickets([first.id, second.id]) == {second.id: (True, False)}
    assert enter(third) is Verdict.WAITING
    assert [place.ahead for place in places_of(tenant_id=tenant.pk, run_id=taken.run_id)] == [0, None]


def test_slots_of_an_executor_that_lost_its_run_are_freed(tenant):
    lost, alive = make_run(tenant), make_run(tenant)
    [dead, taken] = claim("me", 2)
    assert (dead.run_id, taken.run_id) == (lost.pk, alive.pk)
    held, waiting = ticket(dead), ticket(taken)
    assert [enter(held), enter(waiting)] == [Verdict.HELD, Verdict.WAITING]
    assert reconcile() == 0
    Run.objects.across_tenants().filter(pk=lost.pk).update(epoch=dead.epoch + 1)
    assert reconcile() == 1
    assert states_of_tickets([held.id, waiting.id]) == {waiting.id: (True, False)}


@written_by_hand
def test_a_slot_of_a_lost_executor_is_taken_without_waiting_for_the_sweeper(tenant):
    make_run(tenant), make_run(tenant)
    [dead, taken] = claim("me", 2)
    enter(ticket(dead))
    Run.objects.across_tenants().filter(pk=dead.run_id).update(state="queued")
    assert enter(ticket(taken)) is Verdict.HELD


def test_one_that_waits_for_an_executor_that_is_gone_asks_nobody_to_make_room(tenant):
    make_run(tenant), make_run(tenant)
    [dead, taken] = claim("me", 2)
    first, second, third = (ticket(one, on_limit="cancel_oldest", limit=2) for one in (taken, taken, dead))
    assert [enter(one) for one in (first, second, third)] == [Verdict.HELD, Verdict.HELD, Verdict.WAITING]
    Run.objects.across_tenants().filter(pk=dead.run_id).update(epoch=dead.epoch + 1)
    fourth = ticket(taken, on_limit="cancel_oldest", limit=2)
    assert enter(fourth) is Verdict.WAITING
    assert states_of_tickets([second.id]) == {second.id: (True, False)}
    leave(first)
    assert states_of_tickets([second.id, fourth.id]) == {second.id: (True, False), fourth.id: (True, False)}


def test_one_that_waits_for_a_lower_limit_keeps_nobody_out_that_is_more_urgent(tenant):
    make_run(tenant)
    [taken] = claim("me", 1)
    assert [enter(ticket(taken)) for _ in range(2)] == [Verdict.HELD, Verdict.WAITING]
    assert enter(ticket(taken, limit=2)) is Verdict.WAITING
    assert enter(ticket(taken, limit=2, priority=6)) is Verdict.HELD
