"""News of active runs for their executors (signals, stops, ended children), and the notification of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.core.suspension import Signal
from runs.models import Run
from runs.notify.current import notifications
from runs.queue.signals import waiting_signals


@dataclass(frozen=True, slots=True)
class News:
    """News of active runs: signals, requested stops, ended children, results of node tasks and slots."""

    signals: list[tuple[UUID, Signal]]
    cancelled: list[UUID]
    paused: set[UUID]
    """Shall start no more nodes until they are resumed."""
    ended: list[UUID]
    """Not by their executor: they were terminated."""
    children: list[UUID]
    """Of the child runs that they wait for: those that have ended."""


def news(run_ids: Collection[UUID], children: Collection[UUID]) -> News:
    """Return the news of the active runs ``run_ids``, which wait for ``children``."""
    asked = Q(pk__in=run_ids, cancel_requested_at__isnull=False)
    over = Q(pk__in=[*run_ids, *children], state__in=TERMINAL_RUN_STATES)
    paused = Q(pk__in=run_ids, pause_requested_at__isnull=False)
    rows = Run.objects.across_tenants().filter(asked | over | paused)
    found = list(rows.values_list("pk", "state", "cancel_requested_at"))
    ended = {run_id for run_id, state, _ in found if state in TERMINAL_RUN_STATES}
    stopped = {run_id for run_id, _, cancelled in found if cancelled is not None}
    return News(
        signals=waiting_signals(run_ids),
        cancelled=[run_id for run_id in run_ids if run_id in stopped - ended],
        paused={run_id for run_id, _, _ in found} - ended - stopped,
        ended=[run_id for run_id in run_ids if run_id in ended],
        children=[run_id for run_id in children if run_id in ended],
    )


def notify_executor(run: Run) -> None:
    """Notify the executor of a running run that there is news of it, or the workers of its queue."""
    if run.state == RunState.RUNNING:
        notifications().notify_news(run.pk)
    else:
        notifications().notify_queued(run.queue)
