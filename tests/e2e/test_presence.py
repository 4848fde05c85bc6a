"""`explain` says when no worker serves the queue that a run, or a task of a node, waits in."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.utils import timezone

from pyflow.core.states import RunState
from runs.explain.explanation import explain_run
from runs.models import NodeTask, Run
from runs.queue.presence import LIVE_SECONDS, REMEMBERED, REPORT_SECONDS, presence_of
from tests.support import waiting
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import written_by_hand
from tests.support.processes.platform import Worker, environment
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to

pytestmark = [pytest.mark.fleet, pytest.mark.e2e, written_by_hand]


@pytest.fixture
def broker() -> Iterator[launcher.Program]:
    with launcher.redis_server() as server, publishing_to(f"{server.url}/0"):
        yield server


def in_queue(queue: str, state: RunState = RunState.QUEUED, **values) -> Run:
    run = make_run(make_tenant())
    Run.objects.across_tenants().filter(pk=run.pk).update(state=state.value, queue=queue, **values)
    return run


def reasons(run: Run) -> dict[str, str]:
    return {it.code: it.detail for it in explain_run(tenant_id=run.tenant_id, run_id=run.pk).reasons}


def aged(broker: launcher.Program, queue: str, seconds: float) -> None:
    """Let the last report of a queue's workers be so old."""
    with redis.Redis.from_url(f"{broker.url}/0") as client:
        assert client.pexpire(f"pyflow:0:served:{queue}", REMEMBERED - timedelta(seconds=seconds))


def test_a_queue_without_workers_is_distinguished_from_one_with_workers(
    transactional_db, broker: launcher.Program, tmp_path: Path
):
    env = environment(tmp_path / "home", REDIS_URL=broker.url, PYFLOW_EXECUTOR="celery")
    assert reasons(in_queue(""))["unserved"].startswith("No worker serves the default queue: none has reported within")
    with Worker(env, tmp_path / "worker"):
        waiting.until(lambda: presence_of([""])[""].served, what="report of the worker")
        waits, parted = in_queue("gpu"), in_queue("", RunState.RUNNING, owner="w", epoch=1)
        Run.objects.across_tenants().filter(pk=parted.pk).update(lease_until=timezone.now() + timedelta(hours=1))
        NodeTask.objects.create(
            tenant_id=parted.tenant_id, run=parted, run_epoch=1, node_id="a", queue="gpu", places=[[None, 0.0, None]]
        )
        for run in (waits, parted):
            assert "No worker serves the queue 'gpu'" in reasons(run)["unserved"]
        assert presence_of(["", "gpu"])[""].served
    aged(broker, "", LIVE_SECONDS + REPORT_SECONDS)
    told = presence_of([""])[""]
    assert told.served is False
    assert told.detail.startswith("none has reported since 20")


def test_it_is_said_that_redis_cannot_be_asked(db, broker: launcher.Program):
    run = in_queue("gpu")
    broker.end()
    assert "Redis, in which workers report, does not answer" in reasons(run)["presence_unknown"]
