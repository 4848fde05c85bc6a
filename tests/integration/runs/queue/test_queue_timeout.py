"""``settings.queue_timeout``: it holds whether or not anybody ever claims the run."""

import asyncio
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from runs.models import EventRecord, Run
from runs.queue.leases import claim
from runs.services import end
from runs.services.end import end_unstarted
from runs.services.pause import pause_run
from runs.services.retry import retry_run
from runs.tasks import sweep
from runs.worker.executor import RunExecutor
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import a_test, make_run
from tests.support.processes.running import ended, state_of

pytestmark = pytest.mark.database
LOG = "{id: a, type: log, config: {message: x}}"
TIMELY = workflow(LOG, settings="{queue_timeout: 1h, queue: served-by-nobody}")


def be_late(*runs: Run) -> None:
    rows = Run.objects.across_tenants().filter(pk__in=[run.pk for run in runs])
    rows.update(queue_deadline=timezone.now() - timedelta(seconds=1))


def test_a_run_in_a_queue_that_nobody_serves_ends_by_the_sweep(tenant):
    late, timely = make_run(tenant, TIMELY), make_run(tenant, TIMELY)
    be_late(late)
    sweep()
    ended(late, "timed_out")
    assert late.error["code"] == "queue_timeout"
    events = EventRecord.objects.for_tenant(tenant).filter(run=late).order_by("seq")
    assert [(event.seq, event.type) for event in events] == [(1, "run.queued"), (2, "run.failed")]
    assert state_of(timely) == "queued"


def test_an_executor_of_other_queues_ends_it_too(tenant):
    run = make_run(tenant, TIMELY)
    be_late(run)
    connection.close()  # or SQLite's writer would be this one, idle
    asyncio.run(RunExecutor({"another"}).drain())
    ended(run, "timed_out")
    assert run.claims == 0


def test_one_that_is_claimed_meanwhile_is_its_executors(tenant, monkeypatch):
    run = make_run(tenant, TIMELY)
    be_late(run)
    end_run = end.end_run

    def claimed_first(**ending):
        claim("me", 1)
        return end_run(**ending)

    monkeypatch.setattr(end, "end_run", claimed_first)
    assert end_unstarted() == 0
    assert state_of(run) == "running"


def test_a_run_that_has_begun_or_is_paused_is_left_alone(tenant):
    begun, paused = make_run(tenant, TIMELY), make_run(tenant, TIMELY)
    Run.objects.across_tenants().filter(pk=begun.pk).update(started_at=timezone.now())
    pause_run(by=a_test(tenant), run_id=paused.pk)
    be_late(begun, paused)
    assert end_unstarted() == 0


def test_a_retry_has_the_time_again(tenant):
    run = make_run(tenant, TIMELY)
    be_late(run)
    assert end_unstarted() == 1
    retry_run(by=a_test(tenant), run_id=run.pk)
    assert end_unstarted() == 0
    assert state_of(run) == "queued"


def test_many_are_ended_in_parts(tenant, monkeypatch):
    monkeypatch.setattr(end, "ENDED_AT_ONCE", 2)
    runs = [make_run(tenant, TIMELY) for _ in range(3)]
    be_late(*runs)
    assert [end_unstarted() for _ in range(3)] == [2, 1, 0]
