"""Executors for a while, and what became of the runs that they executed."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from runs.models import EventRecord, NodeRun, Run
from runs.services.cancel import cancel_run
from runs.services.signals import signal_run
from runs.worker.executor import RunExecutor
from runs.worker.inprocess import InProcessExecutor
from tenants.access import Actor
from tests.support import waiting


@contextmanager
def executing() -> Iterator[InProcessExecutor]:
    """An executor of its own for a while, as a server that is started and stopped."""
    executor = InProcessExecutor()
    executor.start()
    try:
        yield executor
    finally:
        executor.stop()


@contextmanager
def workers(*queues: str) -> Iterator[list[RunExecutor]]:
    """An executor for each queue, each on a thread of its own."""
    executors = [RunExecutor({queue}) for queue in queues]
    threads = [threading.Thread(target=lambda one=one: asyncio.run(one.serve()), daemon=True) for one in executors]
    for thread in threads:
        thread.start()
    try:
        yield executors
    finally:
        for one, thread in zip(executors, threads, strict=True):
            one.stop()
            thread.join(60)


def state_of(run: Run) -> str:
    """The state of a run as it is stored now."""
    run.refresh_from_db()
    return run.state


def parked(run: Run) -> Run:
    """The run once nobody executes it because it waits."""
    waiting.until(lambda: state_of(run) == "waiting", what="waiting run")
    return run


def ended(run: Run, state: str) -> Run:
    """The run once it has ended, as it should."""

    def look() -> bool:
        run.refresh_from_db()
        return run.finished_at is not None

    waiting.until(look, what=f"end of run {run.pk}")
    assert run.state == state, run.error
    return run


def send(run: Run, name: str, payload: object = None, signal_id: str | None = None) -> bool:
    """Deliver a signal."""
    return signal_run(by=operator(run), sender=None, run_id=run.pk, name=name, payload=payload, signal_id=signal_id)


def cancel(run: Run) -> None:
    """Ask a run to stop."""
    cancel_run(by=operator(run), run_id=run.pk)


def operator(run: Run) -> Actor:
    """Who does what a test needs done."""
    return Actor.system(run.tenant_id, "a test")


def nodes(run: Run) -> dict[str, str]:
    """The states of the node runs of a run."""
    return {row.node_id: row.state for row in NodeRun.objects.across_tenants().filter(run=run)}


def types(run: Run) -> Counter[str]:
    """How many events of each type a run has."""
    return Counter(event.type for event in EventRecord.objects.across_tenants().filter(run=run))


def seqs(run: Run) -> list[int]:
    """The numbers of a run's events."""
    return list(EventRecord.objects.across_tenants().filter(run=run).order_by("seq").values_list("seq", flat=True))


def expire(run: Run) -> None:
    """Let the lease of a run end, as if its executor had been silent for all of it."""
    Run.objects.across_tenants().filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
