"""Executors for a while, and what became of the runs that they executed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from runs.models import EventRecord, NodeRun, Run
from runs.services.cancel import cancel_run
from runs.services.signals import signal_run
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
