"""Runs whose executors are lost with them: taken up again, but not for ever."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from runs.models import POISON_LOSSES, EventRecord, NodeRun, NodeTask, Run
from runs.queue.leases import MAX_LOSSES, claim, poison_runs_wait, release
from runs.worker.executor import RunExecutor
from runs.worker.quarantine import Quarantine
from tests.support import waiting
from tests.support.factories.nodes import register, register_stubborn, workflow
from tests.support.factories.rows import make_run
from tests.support.histories import assert_is_whole
from tests.support.processes.platform import database_url
from tests.support.processes.running import state_of
from tests.support.servers import ledger as ledgers

pytestmark = pytest.mark.database


def lose(run: Run) -> None:
    """An executor claims it, in the end a quarantine, and never reports again."""
    [taken] = claim("dead", 1) or claim("dead", 1, poison_runs=True)
    assert taken.run_id == run.pk
    Run.objects.across_tenants().filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_run_that_is_lost_with_every_worker_fails(tenant, drain, registry):
    called: list[str] = []
    register(registry, "note", lambda ctx: called.append(ctx.node_id))
    run = make_run(tenant, workflow("{id: a, type: note}"))
    NodeRun.objects.create(tenant=tenant, run=run, node_id="a", state="running", attempts=1)
    for _ in range(MAX_LOSSES):
        lose(run)

    drain()

    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("failed", "worker_lost")
    assert called == []
    assert (run.owner, run.lease_until) == ("", None)
    node = NodeRun.objects.for_tenant(tenant).get()
    assert (node.state, node.error["code"]) == ("failed", "worker_lost")
    events = [(event.seq, event.type) for event in EventRecord.objects.for_tenant(tenant).filter(run__isnull=False)]
    assert events == [(1, "run.queued"), (2, "node.failed"), (3, "run.failed")]


def test_one_loss_less_is_survived_in_a_process_of_its_own(tenant, drain, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url())
    run = make_run(tenant)
    for _ in range(MAX_LOSSES - 1):
        lose(run)
    drain()
    assert_is_whole(run, ["greet"])
    assert (run.claims, run.losses) == (MAX_LOSSES, 0)


def test_a_poison_run_is_left_to_a_quarantine_which_takes_nothing_else(tenant):
    poison_runs = [make_run(tenant) for _ in range(2)]
    Run.objects.across_tenants().update(losses=POISON_LOSSES)
    other = make_run(tenant)
    assert poison_runs_wait(None)
    assert poison_runs_wait({""})
    assert not poison_runs_wait({"elsewhere"})
    assert [taken.run_id for taken in claim("me", 10)] == [other.pk]
    assert [taken.run_id for taken in claim("quarantine", 1, poison_runs=True)] == [poison_runs[0].pk]
    assert [taken.run_id for taken in claim("me", 10)] == []
    assert [taken.run_id for taken in claim("another", 10, poison_runs=True)] == [poison_runs[1].pk]
    assert not poison_runs_wait(None)


def test_a_quarantine_executes_one_run_at_a_time(tenant, registry):
    at_work, most = [], []

    async def work(ctx):
        at_work.append(ctx.run_id)
        most.append(len(at_work))
        await asyncio.sleep(0.05)
        at_work.remove(ctx.run_id)

    register(registry, "work", work)
    runs = [make_run(tenant, workflow("{id: a, type: work}")) for _ in range(3)]
    Run.objects.across_tenants().update(losses=POISON_LOSSES)
    connection.close()
    asyncio.run(RunExecutor(poison_runs=True).drain())
    assert most == [1, 1, 1]
    for run in runs:
        assert_is_whole(run, ["a"])


def test_a_quarantine_executes_the_poison_tasks_of_its_own_run(tenant, registry):
    """Nobody else would: without that the run would wait for ever."""
    register(registry, "work", lambda ctx: "done")
    run = make_run(tenant, workflow("{id: a, type: work}", settings="{distribute: true}"))
    Run.objects.across_tenants().update(losses=POISON_LOSSES)
    executor = RunExecutor(poison_runs=True)
    thread = threading.Thread(target=lambda: asyncio.run(executor.drain()))
    thread.start()
    tasks = NodeTask.objects.for_tenant(tenant)
    waiting.until(lambda: tasks.update(losses=POISON_LOSSES), what="task")
    thread.join(60)
    assert not thread.is_alive()
    assert_is_whole(run, ["a"])


def test_a_quarantine_ends_when_its_parent_is_gone_and_hands_its_run_back(tenant, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url())
    monkeypatch.setenv("PYFLOW_ALLOWED_NETWORKS", "127.0.0.0/8")
    quarantine = Quarantine(None)
    with ledgers.serving(tmp_path / "ledger") as ledger:
        ledger.hold("a")
        run = make_run(tenant, f"version: 2\nname: held\nnodes: {json.dumps([ledger.node('a')])}\n")
        Run.objects.across_tenants().update(losses=POISON_LOSSES)
        quarantine.open()
        try:
            waiting.until(lambda: ledger.calls("a"), 60, "call by the quarantine")
            quarantine.close()  # as the end of this process would
            waiting.until(lambda: not quarantine.is_busy, 60, "end of the quarantine")
        finally:
            quarantine.wait(0)
    run.refresh_from_db()
    assert (run.state, run.owner, run.losses) == ("queued", "", POISON_LOSSES)


def test_a_quarantine_whose_event_loop_stands_still_ends():
    """Whoever could notice it is another process, and may be gone."""
    code = """if True:
        import asyncio, itertools, django
        django.setup()
        from runs.worker import quarantine_process

        class Stuck:
            async def drain(self):
                await asyncio.sleep(0.1)
                max(itertools.repeat(0))  # gives nobody the interpreter

        asyncio.run(quarantine_process._drain(Stuck()))
    """
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "pyflow_site.settings", "PYFLOW_LEASE_SECONDS": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == -signal.SIGALRM


def test_a_completed_node_takes_the_losses_back(tenant, drain):
    """A poison run gets nowhere; one that was merely there when workers were replaced completes node after node."""
    run = make_run(tenant)
    lose(run)
    drain()
    assert_is_whole(run, ["greet"])
    assert run.losses == 0


def test_an_executor_that_lives_takes_the_loss_back(tenant, registry, executor):
    """It was frozen, or cut off from the database: others have its run, but it was not lost with it."""

    async def work(ctx):
        await asyncio.sleep(600)

    register(registry, "work", work)
    run = make_run(tenant, workflow("{id: a, type: work}"))
    waiting.until(lambda: state_of(run) == "running", what="claim")
    Run.objects.across_tenants().filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    [taken] = claim("other", 1)
    assert taken.losses == 1

    def taken_back() -> bool:
        run.refresh_from_db()
        return run.losses == 0

    waiting.until(taken_back, what="loss that is taken back")
    assert (run.owner, run.state) == ("other", "running")


def test_handing_back_is_no_loss(tenant, drain):
    run = make_run(tenant)
    for _ in range(MAX_LOSSES + 1):
        [taken] = claim("me", 1)
        release("me", [(run.pk, taken.epoch)])
    drain()
    assert_is_whole(run, ["greet"])


def test_a_run_that_was_not_started_in_time_ends_once(tenant, drain):
    run = make_run(tenant, workflow("{id: a, type: log, config: {message: x}}", settings="{queue_timeout: 1s}"))
    Run.objects.across_tenants().filter(pk=run.pk).update(queue_deadline=timezone.now() - timedelta(seconds=1))
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("timed_out", "queue_timeout")


def test_a_loss_is_taken_back_once_however_long_the_end_of_the_run_takes(tenant, registry, executor):
    cancelled, opened = register_stubborn(registry)
    lost, kept = (make_run(tenant, workflow("{id: a, type: stubborn}")) for _ in range(2))
    for run in (lost, kept):
        waiting.until(lambda run=run: state_of(run) == "running", what="claimed run")
    # As an heir does it who has lost it, too, and claims it again.
    lease = timezone.now() + timedelta(hours=1)
    rows = Run.objects.across_tenants().filter(pk=lost.pk)
    rows.update(owner="heir", epoch=F("epoch") + 2, lease_until=lease, losses=2)
    assert cancelled.wait(20)
    for _ in range(3):
        kept.refresh_from_db()
        before = kept.lease_until
        waiting.until(lambda before=before: state_of(kept) and kept.lease_until > before, what="renewal")
    assert (state_of(lost), lost.losses, lost.owner, kept.losses) == ("running", 1, "heir", 0)
    opened.set()  # it ends here at last: that is no other life of the executor
    inner = executor._working.executor
    waiting.until(lambda: lost.pk not in inner._active and not inner._lapsed, what="end of what is lost")
    assert (state_of(lost), lost.losses) == ("running", 1)
