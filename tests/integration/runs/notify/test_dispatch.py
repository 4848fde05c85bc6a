"""Notifications: sent after commits only, and never in the way of a transaction."""

import asyncio
import socket
import time
from dataclasses import replace
from uuid import UUID

import pytest
from django.db import transaction

from pyflow.core.bus import MemoryBus
from runs.models import Run
from runs.notify.current import of_settings, using
from runs.notify.notifications import ExecutorCallbacks, Notifications, queued_topic
from runs.notify.timing import Timing
from runs.notify.workers import ANY_QUEUE
from runs.tasks import sweep
from runs.worker import executor as executor_module
from tests.support import waiting
from tests.support.api import Api
from tests.support.factories.nodes import register, workflow
from tests.support.factories.records import record
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from tests.support.histories import assert_is_whole
from tests.support.processes.running import cancel, executing
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to
from tests.support.servers.event_bus import PlainBus

pytestmark = pytest.mark.database
IGNORED = ExecutorCallbacks(queued=lambda: None, news=lambda _: None, missed=lambda: None)


@pytest.fixture
def notifications(bus: MemoryBus) -> list[int]:
    heard: list[int] = []
    bus.subscribe([queued_topic("")], lambda _: heard.append(Run.objects.across_tenants().count()))
    bus.subscribe([ANY_QUEUE], lambda _: heard.append(Run.objects.across_tenants().count()))
    return heard


def test_it_notifies_after_the_commit(tenant, notifications):
    with transaction.atomic():
        make_run(tenant)
        assert notifications == []
    assert notifications == [1]


def test_it_does_not_notify_after_a_rollback(tenant, notifications):
    with transaction.atomic():
        make_run(tenant)
        transaction.set_rollback(True)
    assert notifications == []
    assert not Run.objects.for_tenant(tenant).exists()


def test_the_sweeper_notifies_of_a_run_whose_notification_was_lost(tenant, notifications):
    make_run(tenant)
    notifications.clear()
    sweep()
    assert notifications == [1]


def test_the_sweeper_notifies_of_a_run_whose_lease_has_expired(tenant, notifications):
    from runs.queue.leases import claim
    from tests.support.processes.running import expire

    run = make_run(tenant)
    claim("dead", 1)
    notifications.clear()
    sweep()
    assert notifications == []
    expire(run)
    sweep()
    assert notifications == [1]


def test_the_sweeper_is_quiet_when_there_is_nothing_to_do(tenant, notifications):
    record(make_run(tenant))
    notifications.clear()
    sweep()
    assert notifications == []


class DeafBus(MemoryBus):
    """Loses everything."""

    def _publish(self, topic: str, message: str) -> int:
        return 0


def test_an_executor_looks_for_itself_when_no_notification_came(tenant, finished):
    with using(Notifications(DeafBus())), executing():
        assert_is_whole(finished(make_run(tenant)), ["greet"])


def start(tenant) -> int:
    make_workflow(tenant)
    return Api(make_api_key(tenant)[1]).post("/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}).status_code


def test_a_broker_that_is_away_fails_no_request(tenant):
    with publishing_to(f"redis://127.0.0.1:{launcher.free_port()}/0"):
        assert start(tenant) == 202
    assert Run.objects.for_tenant(tenant).get().state == "queued"


def test_a_broker_that_accepts_and_says_nothing_neither_fails_nor_delays_a_request(tenant):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        publishing_to(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", Timing(send_timeout=60.0)) as notifications,
    ):
        assert start(tenant) == 202
        assert not notifications.flush(0), "it has been answered while the notification still waits for the broker"
    assert Run.objects.for_tenant(tenant).get().state == "queued"


def test_the_settings_name_a_factory_of_the_bus(settings):
    settings.PYFLOW_EVENT_BUS = "tests.support.servers.event_bus.PlainBus"
    settings.PYFLOW_EXECUTOR = "celery"
    chosen = of_settings()
    assert isinstance(chosen.bus, PlainBus)
    assert chosen.workers.are_remote


class Woken:
    """Workers that keep a list of the queues that they were woken for."""

    are_remote = True

    def __init__(self) -> None:
        self.queues: list[str] = []

    def wake(self, queue: str) -> None:
        self.queues.append(queue)

    def flush(self, timeout: float) -> bool:
        return True


def test_a_worker_is_woken_only_if_no_executor_of_the_queue_is_awake():
    bus, workers = MemoryBus(), Woken()
    notifications = Notifications(bus, workers)
    subscription = notifications.subscribe_executor(["gpu"], IGNORED)
    notifications.notify_queued_now("gpu")
    notifications.notify_queued_now("")
    subscription.close()
    notifications.notify_queued_now("gpu")
    assert workers.queues == ["", "gpu"]


def test_with_a_bus_that_counts_no_receivers_a_worker_is_always_woken():
    workers = Woken()
    notifications = Notifications(PlainBus(), workers)
    notifications.subscribe_executor(["gpu"], IGNORED)
    notifications.notify_queued_now("gpu")
    assert workers.queues == ["gpu"]


def test_an_executor_of_all_queues_is_notified_of_each():
    queued: list[int] = []
    notifications = Notifications(MemoryBus())
    notifications.subscribe_executor(None, replace(IGNORED, queued=lambda: queued.append(1)))
    notifications.notify_queued_now("gpu")
    notifications.notify_queued_now("")
    assert queued == [1, 1]


def test_news_of_a_run_that_is_just_being_claimed_reach_it_without_a_sweep(
    tenant, registry, executor, finished, settings, monkeypatch: pytest.MonkeyPatch
):
    """It is not among the active runs of the executor yet."""

    async def work(ctx: object) -> None:
        await asyncio.sleep(600)

    register(registry, "work", work)
    finished(make_run(tenant))  # what an executor looks at when it starts is looked at
    inner = executor._working.executor
    settings.PYFLOW_SWEEP_SECONDS = 600.0
    inner.wake()  # or it may wait for the sweep that was due before
    waiting.until(
        lambda: not inner._active and inner._delivery._look_at - time.monotonic() > 300, what="executor without sweeps"
    )
    read = executor_module.waiting_signals

    def cancel_afterwards(run_ids: list[UUID]) -> object:
        signals = read(run_ids)
        for run_id in run_ids:
            cancel(Run.objects.across_tenants().get(pk=run_id))
        return signals

    monkeypatch.setattr(executor_module, "waiting_signals", cancel_afterwards)
    assert finished(make_run(tenant, workflow("{id: a, type: work}"))).state == "cancelled"
