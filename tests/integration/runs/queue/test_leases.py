"""Who executes a run: claims, take-overs, fences."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from pyflow.core.events import EventType
from runs.models import EventRecord, NodeRun, Run
from runs.queue.leases import claim, release, renew
from runs.storage.writer import store
from runs.worker import executor as executor_module
from runs.worker.executor import RunExecutor
from runs.worker.inprocess import InProcessExecutor
from tests.support import waiting
from tests.support.factories import records
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant
from tests.support.histories import assert_is_whole
from tests.support.invariants import written_by_hand
from tests.support.processes.running import expire

pytestmark = pytest.mark.database


def test_a_claim_takes_the_oldest_runs_first(tenant):
    runs = [make_run(tenant) for _ in range(5)]
    assert [taken.run_id for taken in claim("me", 3)] == [run.pk for run in runs[:3]]
    assert [taken.run_id for taken in claim("me", 3)] == [run.pk for run in runs[3:]]
    assert claim("me", 3) == []


def test_a_claim_is_a_new_epoch_and_a_lease(tenant, settings):
    run = make_run(tenant)
    [taken] = claim("me", 1)
    run.refresh_from_db()
    assert (run.state, run.owner, run.claims, run.epoch) == ("running", "me", 1, 1)
    assert taken.epoch == 1
    left = run.lease_until - timezone.now()
    assert timedelta(0) < left <= timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)


def test_a_run_is_taken_over_only_when_its_lease_has_ended(tenant):
    run = make_run(tenant)
    [dead] = claim("dead", 1)
    assert claim("heir", 1) == []
    expire(run)
    [taken] = claim("heir", 1)
    assert taken.run_id == run.pk
    assert taken.epoch > dead.epoch


def test_nobody_takes_its_own_runs_over(tenant):
    """A process that was too busy to renew goes on with what it has."""
    run = make_run(tenant)
    [mine] = claim("me", 1)
    expire(run)
    assert claim("me", 1, None, [run.pk]) == []
    assert renew("me", [(run.pk, mine.epoch)]) == {run.pk}
    assert claim("other", 1) == []


def test_only_held_leases_are_renewed(tenant):
    mine, lost = make_run(tenant), make_run(tenant)
    claim("me", 2)
    Run.objects.across_tenants().filter(pk=lost.pk).update(owner="heir", epoch=2)
    assert renew("me", [(mine.pk, 1), (lost.pk, 1)]) == {mine.pk}


def test_what_is_handed_back_is_free_at_once_and_fenced(tenant):
    run = make_run(tenant)
    [old] = claim("me", 1)
    assert release("me", [(run.pk, old.epoch)]) == {run.pk}
    [new] = claim("heir", 1)
    assert new.epoch > old.epoch
    write = records.new_write(old)
    write.events = [records.event(old, EventType.RUN_STARTED)]
    assert store([write]) == {run.pk}


def test_a_finished_run_is_not_handed_back(tenant):
    run = make_run(tenant)
    records.record(run)
    assert release(records.OWNER, [(run.pk, Run.objects.across_tenants().get(pk=run.pk).epoch)]) == set()
    run.refresh_from_db()
    assert run.state == "succeeded"


def test_a_replaced_executor_writes_nothing(tenant):
    run = make_run(tenant)
    [old] = claim("frozen", 1)
    expire(run)
    claim("heir", 1)
    write = records.new_write(old)
    write.events = [records.event(old, EventType.NODE_SUCCEEDED, "greet", {"output": "late", "attempt": 1})]
    write.nodes = {"greet": records.succeeded("late")}
    write.changes = {"state": "succeeded", "outputs": {"greeting": "late"}}

    assert store([write]) == {run.pk}

    run.refresh_from_db()
    assert (run.state, run.outputs, run.event_seq) == ("running", None, 1)
    assert not NodeRun.objects.for_tenant(tenant).exists()
    assert EventRecord.objects.for_tenant(tenant).filter(run__isnull=False).count() == 1


def test_a_fenced_write_does_not_hinder_others_of_its_batch(tenant):
    stale, fine = make_run(tenant), make_run(tenant)
    old, good = claim("me", 2)
    Run.objects.across_tenants().filter(pk=stale.pk).update(epoch=2)
    writes = [records.new_write(old), records.new_write(good)]
    for write, claimed in zip(writes, (old, good), strict=True):
        write.events = [records.event(claimed, EventType.RUN_STARTED)]
    assert store(writes) == {stale.pk}
    assert [event.run_id for event in EventRecord.objects.for_tenant(tenant).filter(seq=2)] == [fine.pk]


@written_by_hand
def test_a_cancelled_or_finished_run_takes_no_more_events(tenant):
    run = make_run(tenant)
    [claimed] = claim("me", 1)
    Run.objects.across_tenants().filter(pk=run.pk).update(state="cancelled")
    write = records.new_write(claimed)
    write.events = [records.event(claimed, EventType.NODE_STARTED, "greet", {"attempt": 1})]
    assert store([write]) == {run.pk}


def test_completed_nodes_are_not_executed_again_after_a_take_over(tenant, drain, registry):
    called = []
    register(registry, "note", lambda ctx: called.append(ctx.node_id) or f"new {ctx.node_id}")
    nodes = ["{id: a, type: note}", "{id: b, type: note, depends_on: [a]}", "{id: c, type: note, depends_on: [b]}"]
    run = make_run(tenant, workflow(*nodes, outputs="{a: '{{ a }}', c: '{{ c }}'}"))
    [dead] = claim("dead", 1)
    write = records.new_write(dead)
    write.events = [
        records.event(dead, EventType.RUN_STARTED, None, {"state": "running"}),
        records.event(dead, EventType.NODE_SUCCEEDED, "a", {"output": "old a", "attempt": 1}),
        records.event(dead, EventType.NODE_STARTED, "b", {"attempt": 1}),
    ]
    write.nodes = {"a": records.succeeded("old a"), "b": records.succeeded(None) | {"state": "running"}}
    store([write])
    expire(run)

    drain()

    assert called == ["b", "c"]
    assert_is_whole(run, "abc")
    assert run.outputs == {"a": "old a", "c": "new c"}
    assert NodeRun.objects.for_tenant(tenant).get(node_id="b").attempts == 2


def test_a_fenced_executor_stops_and_leaves_the_run_to_its_heir(tenant, registry, executor):
    """Its epoch is bumped behind its back while a node runs; the result that comes then counts for nothing."""
    began, go = threading.Event(), threading.Event()

    def wait(ctx) -> str:
        began.set()
        go.wait(10)
        return "late"

    register(registry, "hold", wait)
    run = make_run(tenant, workflow("{id: a, type: hold}", "{id: b, type: log, depends_on: [a], config: {message: x}}"))
    assert began.wait(10)
    lease = timezone.now() + timedelta(hours=1)
    Run.objects.across_tenants().filter(pk=run.pk).update(owner="heir", epoch=99, lease_until=lease)
    inner = executor._working.executor
    go.set()
    waiting.until(lambda: not inner._active, what="end of the fenced execution")
    run.refresh_from_db()
    assert (run.state, run.owner, run.epoch) == ("running", "heir", 99)
    assert not NodeRun.objects.for_tenant(tenant).filter(state="succeeded").exists()
    assert not EventRecord.objects.for_tenant(tenant).filter(type="node.succeeded").exists()


def test_a_lease_is_kept_while_a_node_takes_longer_than_it(tenant, registry, executor, finished, settings):
    began, go = threading.Event(), threading.Event()

    def wait(ctx) -> int:
        began.set()
        go.wait(20)
        return ctx.attempt

    register(registry, "hold", wait)
    run = make_run(tenant, workflow("{id: a, type: hold}"))
    assert began.wait(10)
    first = Run.objects.across_tenants().get(pk=run.pk).lease_until
    settings_length = timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)
    waiting.until(
        lambda: Run.objects.across_tenants().get(pk=run.pk).lease_until > first + settings_length,
        what="renewal beyond the first lease",
    )
    assert claim("thief", 1) == []
    go.set()
    assert_is_whole(finished(run), "a")
    assert run.claims == 1


def test_stopping_hands_unfinished_runs_back(tenant, registry, finished):
    began, again = threading.Event(), []

    async def wait(ctx) -> str:
        began.set()
        if not again:
            await asyncio.Event().wait()  # for ever
        return f"attempt {ctx.attempt}"

    register(registry, "hold", wait)
    first = InProcessExecutor()
    first.start()
    run = make_run(tenant, workflow("{id: a, type: hold}"))
    assert began.wait(10)
    waiting.until(lambda: NodeRun.objects.for_tenant(tenant).exists(), what="record of the start")
    first.stop()
    run.refresh_from_db()
    assert (run.state, run.owner, run.lease_until) == ("queued", "", None)
    again.append(True)
    second = InProcessExecutor()
    second.start()
    try:
        assert_is_whole(finished(run), "a")
    finally:
        second.stop()
    assert NodeRun.objects.for_tenant(tenant).get().output == "attempt 2"


def test_a_run_that_is_claimed_while_its_executor_stops_is_handed_back_and_not_begun(tenant, drain, monkeypatch):
    runs = [make_run(tenant), make_run(make_tenant())]
    stopping = RunExecutor()

    def stop_meanwhile(*args, **options):
        taken = claim(*args, **options)
        stopping.stop()
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(executor_module, "claim", stop_meanwhile)
        connection.close()
        asyncio.run(stopping.serve())
    for run in runs:
        run.refresh_from_db()
        assert (run.state, run.owner, run.claims, run.epoch, run.event_seq) == ("queued", "", 1, 2, 1)
    drain()
    for run in runs:
        assert_is_whole(run, ["greet"])
        assert (run.claims, run.losses) == (2, 0)


def test_an_executor_that_claims_a_run_again_which_it_has_lost_keeps_it(tenant, registry, drain, monkeypatch):
    """It was lost, fenced and queued when the next claim had begun already: what was lost is an epoch, not the run."""
    began, go, turns, epochs = threading.Event(), threading.Event(), threading.Event(), []

    def hold(ctx) -> int:
        epochs.append(Run.objects.across_tenants().get(pk=ctx.run_id).epoch)
        connection.close()
        began.set()
        assert go.wait(20)
        if ctx.attempt > 1:
            assert turns.wait(20)
        return ctx.attempt

    register(registry, "hold", hold)
    run, other = make_run(tenant, workflow("{id: a, type: hold}")), make_run(make_tenant())
    executor, real = RunExecutor(), executor_module.reconcile
    released = []

    def lose_meanwhile() -> int:
        """What an executor does on its thread for claims before it looks at what is executed here."""
        if began.is_set() and not go.is_set():
            Run.objects.across_tenants().filter(pk=run.pk).update(
                state="queued", owner="", lease_until=None, epoch=F("epoch") + 1, losses=1
            )
            go.set()
            waiting.until(lambda: run.pk not in executor._active, what="end of the fenced execution")
        return real()

    def noted(owner, leases):
        held = release(owner, leases)
        released.append((set(leases), held))
        if held or (run.pk, 1) in leases:
            turns.set()
        return held

    monkeypatch.setattr(executor_module, "reconcile", lose_meanwhile)
    monkeypatch.setattr(executor_module, "release", noted)
    connection.close()
    asyncio.run(executor.drain())
    assert released == [({(run.pk, 1)}, set())]
    assert epochs == [1, 3]
    assert_is_whole(run, "a")
    assert (run.claims, run.epoch, run.losses) == (2, 3, 0)
    assert_is_whole(other, ["greet"])


def test_two_executors_never_execute_one_run(tenant, registry, settings):
    settings.PYFLOW_LEASE_SECONDS = 30.0  # they fight for SQLite's one lock: no lease may end of that
    called = []
    register(registry, "note", lambda ctx: called.append((ctx.run_id, ctx.node_id)))
    runs = [
        make_run(tenant, workflow("{id: a, type: note}", "{id: b, type: note, depends_on: [a]}")) for _ in range(30)
    ]
    connection.close()

    def work(_: int) -> None:
        asyncio.run(RunExecutor().drain())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))

    assert Counter(called) == {(str(run.pk), node): 1 for run in runs for node in "ab"}
    for run in runs:
        assert_is_whole(run, "ab")
        assert run.claims == 1


def test_claims_of_many_at_once_never_overlap(tenant):
    runs = [make_run(tenant) for _ in range(40)]

    def take(number: int) -> list:
        taken = [claimed.run_id for _ in range(5) for claimed in claim(f"owner {number}", 3)]
        connection.close()
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [run_id for each in threads.map(take, range(4)) for run_id in each]

    assert Counter(taken) == {run.pk: 1 for run in runs}
