"""Whose run comes next: tenants take turns, and none has more executed at a time than it may."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from runs.models import Run
from runs.queue import leases
from runs.queue.leases import claim
from runs.storage.intake import add_all
from runs.worker import executor as executor_module
from runs.worker.executor import RunExecutor
from tenants.models import Tenant
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import allow, make_run, make_tenant
from tests.support.histories import assert_is_whole
from tests.support.invariants import written_by_hand

pytestmark = pytest.mark.database


def queue_up(tenant: Tenant, count: int) -> list[Run]:
    """As many queued runs, of which all but one were accepted together."""
    run = make_run(tenant)
    copied = {"tenant": tenant, "workflow_id": run.workflow_id, "version_id": run.version_id, "input": run.input}
    add_all([Run(**copied) for _ in range(count - 1)])
    return list(Run.objects.for_tenant(tenant).order_by("created_at"))


def have_come_due(tenant: Tenant, count: int) -> set[UUID]:
    """As many runs that waited for a time which has come."""
    past = timezone.now() - timedelta(seconds=1)
    runs = [run.pk for run in queue_up(tenant, count)]
    Run.objects.across_tenants().filter(pk__in=runs).update(state="waiting", wake_at=past)
    return set(runs)


def be_lost(tenant: Tenant, count: int) -> set[UUID]:
    """As many runs whose executor is gone."""
    past = timezone.now() - timedelta(seconds=1)
    runs = [run.pk for run in queue_up(tenant, count)]
    Run.objects.across_tenants().filter(pk__in=runs).update(state="running", owner="dead", lease_until=past, epoch=1)
    return set(runs)


def test_a_crowd_of_one_tenant_does_not_delay_the_first_run_of_another(tenant):
    queue_up(tenant, 2_000)
    claim("me", 10)
    late = make_run(make_tenant())
    [taken] = claim("me", 1)
    assert taken.run_id == late.pk


def test_tenants_take_turns(tenant):
    queue_up(tenant, 50)
    queue_up(make_tenant(), 50)
    queue_up(make_tenant(), 3)
    assert sorted(Counter(taken.tenant_id for taken in claim("me", 21)).values()) == [3, 9, 9]


def test_a_place_that_one_tenant_does_not_need_is_anothers(tenant):
    queue_up(tenant, 50)
    queue_up(make_tenant(), 1)
    assert len(claim("me", 20)) == 20


def test_within_a_tenant_the_most_urgent_run_comes_first(tenant):
    runs = queue_up(tenant, 5)
    Run.objects.across_tenants().filter(pk=runs[3].pk).update(priority=9)
    assert [taken.run_id for taken in claim("me", 2)] == [runs[3].pk, runs[0].pk]


@written_by_hand
def test_runs_beyond_the_quota_stay_queued_and_others_go_on(tenant):
    allow(tenant, 2)
    runs = queue_up(tenant, 5)
    other = make_run(make_tenant())
    taken = {claimed.run_id for claimed in claim("me", 10)}
    assert taken == {runs[0].pk, runs[1].pk, other.pk}
    assert claim("me", 10) == []
    Run.objects.across_tenants().filter(pk=runs[0].pk).update(state="succeeded", lease_until=None)
    assert [claimed.run_id for claimed in claim("me", 10)] == [runs[2].pk]


def test_claims_at_the_same_time_never_exceed_the_quota(tenant):
    allow(tenant, 5)
    queue_up(tenant, 40)
    taken = []

    def take(number: int) -> None:
        for _ in range(5):
            taken.extend(claim(f"worker {number}", 3))
        connection.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len({claimed.run_id for claimed in taken}) == 5


def test_an_uneven_queue_is_claimed_once(tenant):
    """The second round of the fair share goes on behind what the first one took."""
    queue_up(tenant, 150)
    queue_up(make_tenant(), 1)
    taken = Counter(claimed.run_id for _ in range(3) for claimed in claim("me", 100))
    assert len(taken) == 151
    assert set(taken.values()) == {1}


@pytest.mark.parametrize("crowd", [have_come_due, be_lost])
def test_what_is_due_or_lost_of_one_tenant_does_not_delay_another(tenant, crowd):
    theirs = crowd(tenant, 150)
    other = make_tenant()
    late, left_behind = make_run(other), crowd(other, 1)
    taken = [claimed.run_id for _ in range(4) for claimed in claim("me", 50)]
    assert set(taken[:50]) >= {late.pk} | left_behind
    assert Counter(taken) == dict.fromkeys(theirs | left_behind | {late.pk}, 1)


def test_timers_that_come_due_take_no_more_places_than_the_quota_has(tenant):
    allow(tenant, 3)
    have_come_due(tenant, 10)
    be_lost(tenant, 10)
    assert len(claim("me", 50)) == 3
    assert claim("me", 50) == []


def test_more_timers_than_places_are_drained_without_another_sweep(tenant, settings, monkeypatch):
    """A claim that leaves some is followed by another at once: 5 of them, and then those of what was queued."""
    settings.PYFLOW_SWEEP_SECONDS = 3600.0
    settings.PYFLOW_LEASE_SECONDS = 60.0
    settings.PYFLOW_CONCURRENT_RUNS = 5
    monkeypatch.setattr(leases, "QUEUED_AT_ONCE", 10)
    due = have_come_due(tenant, 45)
    other = make_run(make_tenant())
    sweeps = []

    def counted(*args, **options):
        sweeps.append(options["overdue"])
        return claim(*args, **options)

    monkeypatch.setattr(executor_module, "claim", counted)
    connection.close()
    asyncio.run(RunExecutor().drain())
    runs = Run.objects.across_tenants().filter(pk__in=[*due, other.pk])
    assert {run.state for run in runs} == {"succeeded"}
    assert sum(sweeps) == 5


def test_an_executor_starts_nothing_that_it_executes(tenant, monkeypatch):
    run, other = make_run(tenant), make_run(make_tenant())

    def twice(*args, **options):
        taken = claim(*args, **options)
        taken += taken
        return taken

    monkeypatch.setattr(executor_module, "claim", twice)
    connection.close()
    executor = RunExecutor()
    asyncio.run(executor.drain())
    for one in (run, other):
        assert_is_whole(one, ["greet"])
    assert executor.refused == 2


def test_many_node_tasks_of_one_run_leave_places_to_the_runs_of_another_tenant(tenant, registry, drain, settings):
    settings.PYFLOW_CONCURRENT_RUNS = 1
    other, executed = make_tenant(), []

    def work(ctx) -> None:
        if not executed:
            make_run(other, workflow("{id: z, type: work}"))
        executed.append(ctx.node_id)

    register(registry, "work", work)
    nodes = [f"{{id: n{number}, type: work}}" for number in range(12)]
    run = make_run(tenant, workflow(*nodes, settings="{distribute: true}"))
    drain()
    assert_is_whole(run, [f"n{number}" for number in range(12)])
    assert executed.index("z") < 4
