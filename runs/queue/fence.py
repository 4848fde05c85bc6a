"""The fence around what executors write: a write names the epoch of its run, and counts only while that epoch lasts.

The group writer names the epoch in its own statement (``bulk``). Every other write on an executor's behalf begins with
one of these two.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from pyflow.core.states import RunState
from runs.errors import FencedError
from runs.models import Run


def hold_epoch(run_id: UUID, epoch: int) -> Run:
    """Lock a run that is executed under ``epoch``: until the transaction ends nobody ends it or takes it over.

    Only what refers to the run is added under this lock, so it does not conflict with the checks of foreign keys.
    Raises ``FencedError`` if the run has ended or belongs to another executor.
    """
    run = _executed(run_id, epoch).select_for_update(no_key=True).only("pk", "epoch", "retries").first()
    if run is None:
        raise FencedError(f"run {run_id} is not executed under epoch {epoch} any more")
    return run


def check_epoch(run_id: UUID, epoch: int) -> None:
    """Raise ``FencedError`` unless a run is executed under ``epoch``: for transactions that lock runs in an order.

    One may be taken over before such a transaction commits. What it adds is of the run, or carries the epoch, and is
    removed with either.
    """
    if not _executed(run_id, epoch).exists():
        raise FencedError(f"run {run_id} is not executed under epoch {epoch} any more")


def _executed(run_id: UUID, epoch: int) -> QuerySet[Run]:
    return Run.objects.across_tenants().filter(pk=run_id, epoch=epoch, state=RunState.RUNNING.value)
