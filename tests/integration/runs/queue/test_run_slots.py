"""The concurrency of workflows: slots of keys that runs hold to their end, whatever worker executes them."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from runs.models import Run, Slot
from runs.queue.leases import claim
from runs.queue.slots import places_of, reconcile
from runs.services.end import TERMINATED, end_run
from runs.worker.executor import RunExecutor
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import written_by_hand
from tests.support.processes.running import cancel, ended, nodes, parked, send, state_of

pytestmark = pytest.mark.database
GATE = "{id: gate, type: signal, config: {name: go}}"


def keyed(on_limit: str = "queue", limit: int = 1, node: str = GATE, **settings: object) -> str:
    more = "".join(f", {name}: {value}" for name, value in settings.items())
    concurrency = f"concurrency: {{key: '{{{{ input.key }}}}', limit: {limit}, on_limit: {on_limit}}}"
    return workflow(node, inputs="{key: string}", settings=f"{{{concurrency}{more}}}")


def start(tenant, source: str, key: str = "k") -> Run:
    return make_run(tenant, source, {"key": key})


def slots_left(tenant, count: int) -> None:
    """A slot is given back right after the end of its run has been committed."""
    waiting.until(lambda: Slot.objects.for_tenant(tenant).count() == count, what=f"{count} slots")


def test_a_run_waits_for_its_slot_without_a_worker_and_goes_on_when_it_is_free(tenant, executor):
    first = parked(start(tenant, keyed()))
    second = parked(start(tenant, keyed()))
    assert nodes(second) == {}
    assert (second.owner, second.started_at, second.wake_at) == ("", None, None)
    send(first, "go")
    ended(first, "succeeded")
    parked(second)
    send(second, "go")
    ended(second, "succeeded")
    slots_left(tenant, 0)


def test_what_waits_for_a_slot_does_not_block_what_is_behind_it(tenant, executor, settings):
    settings.PYFLOW_CONCURRENT_RUNS = 1
    parked(start(tenant, keyed()))
    for _ in range(3):
        parked(start(tenant, keyed()))
    parked(start(tenant, keyed(), "another key"))
    ended(make_run(tenant), "succeeded")


def test_as_many_as_the_limit_says_run_at_the_same_time(tenant, executor):
    runs = [parked(start(tenant, keyed(limit=2))) for _ in range(3)]
    assert [bool(nodes(run)) for run in runs] == [True, True, False]


@pytest.mark.parametrize(
    ("on_limit", "state"), [("skip", "cancelled"), ("fail", "failed"), ("cancel_newest", "cancelled")]
)
def test_one_too_many_is_refused_before_it_begins(tenant, executor, on_limit, state):
    parked(start(tenant, keyed(on_limit)))
    refused = ended(start(tenant, keyed(on_limit)), state)
    assert refused.error["code"] == ("concurrency_skipped" if on_limit == "skip" else "concurrency_limit")
    assert (nodes(refused), refused.started_at) == ({}, None)


def test_the_oldest_makes_room_for_the_newest(tenant, executor):
    oldest = parked(start(tenant, keyed("cancel_oldest")))
    newest = start(tenant, keyed("cancel_oldest"))
    ended(oldest, "cancelled")
    assert oldest.error["code"] == "concurrency_limit"
    parked(newest)
    send(newest, "go")
    ended(newest, "succeeded")


def test_a_waiting_run_that_is_cancelled_ends_at_once_and_leaves_the_queue(tenant, executor):
    first, second, third = (parked(start(tenant, keyed())) for _ in range(3))
    cancel(second)
    ended(second, "cancelled")
    send(first, "go")
    ended(first, "succeeded")
    parked(third)
    send(third, "go")
    ended(third, "succeeded")


def test_a_run_that_waits_too_long_for_a_slot_times_out(tenant, executor):
    parked(start(tenant, keyed()))
    late = ended(start(tenant, keyed(queue_timeout="300ms")), "timed_out")
    assert late.error["code"] == "queue_timeout"
    slots_left(tenant, 1)


def test_a_terminated_run_gives_its_slot_back(tenant, executor):
    first = parked(start(tenant, keyed()))
    second = parked(start(tenant, keyed()))
    end_run(run_id=first.pk, ending=TERMINATED)
    send(second, "go")
    ended(second, "succeeded")


@written_by_hand
def test_a_slot_whose_holder_could_not_give_it_back_is_reconciled(tenant, executor):
    first = parked(start(tenant, keyed()))
    second = parked(start(tenant, keyed()))
    # As after a crash between the end of the run and the return of its slot.
    Run.objects.across_tenants().filter(pk=first.pk).update(state="cancelled", finished_at=timezone.now())
    send(second, "go")
    ended(second, "succeeded")


def test_a_lost_executor_keeps_the_slot_for_the_next_one(tenant, drain, registry):
    calls = []
    register(registry, "note", lambda ctx: calls.append(ctx.run_id))
    run = start(tenant, keyed(node="{id: a, type: note}"))
    [dead] = claim("dead", 1)
    Slot.objects.create(tenant=tenant, run=run, key="k", lane="x", limit=1, held=True)
    Run.objects.across_tenants().filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert reconcile() == 0
    drain()
    ended(run, "succeeded")
    assert (calls, dead.run_id) == ([str(run.pk)], run.pk)
    assert not Slot.objects.for_tenant(tenant).exists()


def test_who_waits_can_see_for_whom(tenant, executor):
    first, second, third = (parked(start(tenant, keyed())) for _ in range(3))
    [place] = places_of(tenant_id=tenant.pk, run_id=third.pk)
    assert (place.key, place.limit, place.ahead, place.node_id) == ("k", 1, 1, "")
    assert [holder.run_id for holder in place.holders] == [first.pk]
    assert [place.ahead for place in places_of(tenant_id=tenant.pk, run_id=second.pk)] == [0]
    assert [place.ahead for place in places_of(tenant_id=tenant.pk, run_id=first.pk)] == [None]


def test_keys_of_other_tenants_are_other_keys(tenant, executor):
    parked(start(tenant, keyed()))
    assert nodes(parked(start(make_tenant(), keyed()))) == {"gate": "waiting"}


def test_many_executors_let_no_one_in_beyond_the_limit(tenant, registry, settings):
    settings.PYFLOW_CONCURRENT_RUNS = 4
    settings.PYFLOW_LEASE_SECONDS = 30.0
    lock, inside, most, done = threading.Lock(), 0, 0, 0

    async def count(ctx) -> None:
        nonlocal inside, most, done
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0.1)
        with lock:
            inside -= 1
            done += 1

    register(registry, "count", count)
    source = keyed(limit=2, node="{id: a, type: count}")
    runs = [start(tenant, source) for _ in range(16)]
    connections.close_all()
    threads = [threading.Thread(target=lambda: asyncio.run(RunExecutor(linger=1.0).drain())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state_of(run) for run in runs] == ["succeeded"] * 16
    assert most <= 2
    assert done == 16
