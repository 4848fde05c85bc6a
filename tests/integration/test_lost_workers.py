"""Runs whose executors are lost with them: taken up again, but not for ever."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.leases import MAX_LOSSES, claim, release
from runs.models import NodeRun, Run, RunEvent
from tests.support.factories import make_run
from tests.support.histories import assert_is_whole
from tests.support.nodes import register, workflow

pytestmark = pytest.mark.database


def lose(run: Run) -> None:
    """An executor claims it, and is never heard of again."""
    [taken] = claim("dead", 1)
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
    events = [(event.seq, event.type) for event in RunEvent.objects.for_tenant(tenant)]
    assert events == [(1, "run.queued"), (2, "node.failed"), (3, "run.failed")]


def test_one_loss_less_is_survived(tenant, drain):
    run = make_run(tenant)
    for _ in range(MAX_LOSSES - 1):
        lose(run)
    drain()
    assert_is_whole(run, ["greet"])


def test_a_completed_node_takes_the_losses_back(tenant, drain):
    """A poison run gets nowhere; one that was merely there when workers were replaced completes node after node."""
    run = make_run(tenant)
    lose(run)
    drain()
    assert_is_whole(run, ["greet"])
    assert run.losses == 0


def test_handing_back_is_no_loss(tenant, drain):
    run = make_run(tenant)
    for _ in range(MAX_LOSSES + 1):
        claim("me", 1)
        release("me", [run.pk])
    drain()
    assert_is_whole(run, ["greet"])


def test_a_run_that_was_not_started_in_time_ends_once(tenant, drain):
    run = make_run(tenant, workflow("{id: a, type: log, config: {message: x}}", settings="{queue_timeout: 1s}"))
    Run.objects.across_tenants().filter(pk=run.pk).update(queue_deadline=timezone.now() - timedelta(seconds=1))
    drain()
    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("timed_out", "queue_timeout")
