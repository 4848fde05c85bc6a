"""Notify executors of queued runs and of news about runs, and waiting requests of ended ones, over the event bus.

The committed row is the job; this only saves time. Losing every notification, or receiving each twice, changes nothing
but latency: executors also poll. That a run is queued is published to the executors that are awake; only if none
receives it, a message wakes one. So there are few messages however many runs there are, and none delays a run while an
executor is awake.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from uuid import UUID

from django.db import transaction

from pyflow.core.bus import CountingBus
from pyflow.core.ports import MISSED, EventBus, Notification, Subscription
from runs.notify.endings import ENDED, MAX_IDS, EndWaiters
from runs.notify.workers import ANY_QUEUE, LocalWorkers, Workers

#: An executor that is full wakes another one, but not more often than this. Seconds.
PASS_ON_SECONDS = 0.5
#: How long the end of the process waits for what is not sent yet. Seconds.
EXIT_SECONDS = 1.0
#: The topic of news about runs: a message is the id of one.
NEWS = "news"
_QUEUED = "queued:"
#: The message that there are events of more runs than a message names.
ALL_RUNS = "*"


def queued_topic(queue: str) -> str:
    """The topic of queued runs of a queue."""
    return f"{_QUEUED}{queue}"


def events_topic(tenant_id: UUID) -> str:
    """The topic of new events in a tenant's log: a message names the runs that they are about, or is ``ALL_RUNS``."""
    return f"events:{tenant_id}"


def progress_topic(run_id: UUID | str) -> str:
    """The topic of progress of a run's nodes: a message is an event as JSON, which is in no log."""
    return f"progress:{run_id}"


@dataclass(frozen=True, slots=True)
class ExecutorCallbacks:
    """Functions to call, from any thread, for the notifications of an executor."""

    queued: Callable[[], None]
    news: Callable[[UUID], None]
    missed: Callable[[], None]


class Notifications:
    """Publishes and receives what runs, executors and requests notify each other of."""

    def __init__(self, bus: EventBus, workers: Workers | None = None, waiters: EndWaiters | None = None) -> None:
        """``workers``: wakes executors that are not awake; by default, those that share ``bus`` serve all queues."""
        self.bus = bus
        self.workers = workers or LocalWorkers(bus)
        self._waiters = waiters or EndWaiters(bus)
        #: Subscriptions of executors in this process.
        self._executors: set[_ExecutorSubscription] = set()
        self._counting = bus if isinstance(bus, CountingBus) else None
        if self._counting is not None:
            self._counting.on_unheard(self._wake_for_unheard)

    def notify_queued(self, queue: str = "") -> None:
        """Notify executors of runs in ``queue`` once the current transaction is committed (at once outside of one)."""
        transaction.on_commit(partial(self.notify_queued_now, queue))

    def notify_queued_now(self, queue: str = "") -> None:
        """Notify at once. Never raises and never waits: if the broker is away, the sweeper finds the run."""
        if self._counting is not None:
            self._counting.publish_counted(queued_topic(queue), "", partial(self._wake_if_unreceived, queue))
        else:
            self.bus.publish(queued_topic(queue))
            self.workers.wake(queue)

    def notify_news(self, run_id: UUID) -> None:
        """Notify the executor of a run, in whatever process, of news about it; once the transaction is committed."""
        transaction.on_commit(partial(self.bus.publish, NEWS, str(run_id)))

    def notify_ended(self, run_ids: Collection[UUID]) -> None:
        """Notify every process that waits for the end of one of these runs; once the transaction is committed."""
        rest = iter([str(run_id) for run_id in run_ids])
        while ids := list(islice(rest, MAX_IDS)):
            transaction.on_commit(partial(self.bus.publish, ENDED, ",".join(ids)))

    def notify_events(self, changed: Mapping[UUID, Collection[UUID]]) -> None:
        """Notify readers of tenants' logs of new events of these runs (none: outside of runs), after the commit."""
        for tenant_id, run_ids in changed.items():
            message = ",".join(map(str, run_ids)) if len(run_ids) <= MAX_IDS else ALL_RUNS
            transaction.on_commit(partial(self.bus.publish, events_topic(tenant_id), message))

    def wake_worker(self, queue: str = "") -> None:
        """Wake one more executor: those that are awake may be full, or frozen."""
        self.workers.wake(queue)

    def subscribe_executor(self, queues: Collection[str] | None, callbacks: ExecutorCallbacks) -> Subscription:
        """Call back for queued runs of ``queues`` (``None``: it serves all), and for news of any run."""
        subscription = _ExecutorSubscription(self._executors)
        topics = [queued_topic(""), ANY_QUEUE] if queues is None else [queued_topic(queue) for queue in queues]
        subscription.inner = self.bus.subscribe([NEWS, *topics], partial(_call_back, callbacks))
        return subscription

    def has_executor(self) -> bool:
        """Return whether an executor of this process is at work."""
        return bool(self._executors)

    def await_ends(self, run_ids: Collection[UUID], seconds: float, have_ended: Callable[[], bool]) -> bool:
        """Wait up to ``seconds`` until ``have_ended`` says so; see `EndWaiters.await_ends`."""
        return self._waiters.await_ends(run_ids, seconds, have_ended)

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until everything is sent, or given up; return whether it is."""
        until = time.monotonic() + timeout
        return self.bus.flush(timeout) and self.workers.flush(max(0.0, until - time.monotonic()))

    def _wake_if_unreceived(self, queue: str, receivers: int) -> None:
        if not receivers:
            self.workers.wake(queue)

    def _wake_for_unheard(self, notification: Notification) -> None:
        """Wake an executor in place of one of this process that has just ended, and was counted as a receiver."""
        if notification.topic.startswith(_QUEUED) and notification.topic != ANY_QUEUE:
            self.workers.wake(notification.topic.removeprefix(_QUEUED))


class _ExecutorSubscription:
    """A subscription that is among those of the process's executors while it is open."""

    def __init__(self, executors: set[_ExecutorSubscription]) -> None:
        self._executors = executors
        self.inner: Subscription | None = None
        executors.add(self)

    def close(self) -> None:
        self._executors.discard(self)
        if self.inner is not None:
            self.inner.close()


def _call_back(callbacks: ExecutorCallbacks, notification: Notification) -> None:
    if notification is MISSED:
        callbacks.missed()
    elif notification.topic != NEWS:
        callbacks.queued()
    elif (run_id := _run_id(notification.message)) is not None:
        callbacks.news(run_id)


def _run_id(message: str) -> UUID | None:
    try:
        return UUID(message)
    except ValueError:
        return None  # not one of ours
