"""Celery tasks. A message only wakes an executor: it names no run, and losing it loses nothing."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

from celery import current_app, shared_task
from celery.signals import worker_init, worker_process_init, worker_ready, worker_shutting_down
from django.conf import settings
from django.db import connections

from pyflow.isolation import node_loop
from runs.notify.current import notifications
from runs.notify.notifications import EXIT_SECONDS
from runs.notify.workers import EXECUTE_TASK, celery_queue
from runs.queue.leases import unclaimed_queues
from runs.queue.node_tasks import unclaimed_task_queues
from runs.queue.slots import reconcile
from runs.services.end import end_unstarted
from runs.services.stop_children import stop_orphans
from runs.storage import counters, retention
from runs.worker.executor import RunExecutor
from runs.worker.watchdog import Watchdog

logger = logging.getLogger(__name__)
#: Objects made between two looks of the garbage collector: a run makes hundreds, nearly all of which need none.
GC_THRESHOLD = 20_000

_watchdog: Watchdog | None = None


@shared_task(name=EXECUTE_TASK, ignore_result=True)
def execute() -> None:
    """Execute runs until there are none left to claim, and for a while after that none have come."""
    executor = RunExecutor(served_queues(), linger=settings.PYFLOW_LINGER_SECONDS)
    # An event loop of its own: Celery's pool runs tasks in plain processes.
    node_loop.run(executor.drain() if _watchdog is None else _watchdog.drain(executor))
    connections.close_all()
    notifications().flush(EXIT_SECONDS)
    if executor.is_worn:
        logger.warning("nodes never returned, or left threads or open files behind: this process is replaced")
        sys.exit(0)


@shared_task(name="runs.sweep", ignore_result=True, expires=10)
def sweep() -> None:
    """Wake executors for runs that nobody executes: their message was lost, or their executor was.

    Before that, end those that were not started in time, stop children that were left when their parents ended, and
    free the slots that nobody holds any more, which may let others go on.
    """
    end_unstarted()
    stop_orphans()
    reconcile()
    for queue in unclaimed_queues() | unclaimed_task_queues():
        notifications().wake_worker(queue)


@shared_task(name="runs.prune", ignore_result=True, expires=600)
def prune() -> None:
    """Remove what is kept no longer."""
    retention.prune()


@shared_task(name="runs.repair_counters", ignore_result=True, expires=3600)
def repair_counters() -> None:
    """Compare the counters of quotas with their rows, and repair those that differ."""
    counters.repair_counters()


def served_queues() -> frozenset[str]:
    """The queues of this worker (`-Q`), as runs name them."""
    default = celery_queue("")
    return frozenset("" if name == default else name for name in current_app.amqp.queues.consume_from)


@worker_init.connect
def _make_watchdog(**_: Any) -> None:
    global _watchdog  # noqa: PLW0603 - one per worker, inherited by its pool
    _watchdog = Watchdog()


@worker_ready.connect
def _start_watchdog(**_: Any) -> None:
    queues = served_queues()
    if _watchdog is not None:
        _watchdog.start(queues)
    for queue in queues:  # what has come while no worker was there
        notifications().wake_worker(queue)


@worker_process_init.connect
def _enter_pool(**_: Any) -> None:
    if _watchdog is not None:
        _watchdog.entered_pool()
    # What is imported stays: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    if _watchdog is not None:
        _watchdog.shut_down()
