"""Load of the installation over all tenants: waiting work per queue, and workers. For operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Min
from django.utils import timezone

from pyflow.core.states import RunState
from runs.models import NodeTask, Run

#: Maximum number of queues and of workers that are listed.
MOST_ROWS = 50


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """Waiting work of one queue: runs and node tasks, and the time since when the oldest run waits."""

    name: str
    runs: int
    tasks: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """A worker that executes runs. ``alive``: it has renewed at least one of its leases in time."""

    owner: str
    runs: int
    lease_until: datetime | None
    alive: bool


@dataclass(frozen=True, slots=True)
class Load:
    """Queues with work, and workers at work; a worker that has nothing to do is not known here."""

    queues: list[QueueLoad]
    workers: list[WorkerLoad]


def load() -> Load:
    """The load now: three queries over indexes of what is not finished."""
    runs = Run.objects.across_tenants().order_by()
    queued = runs.filter(state=RunState.QUEUED.value).values_list("queue")
    waiting = {name: (count, since) for name, count, since in queued.annotate(Count("pk"), Min("created_at"))}
    unclaimed = NodeTask.objects.across_tenants().filter(lease_until__isnull=True, outcomes__isnull=True).order_by()
    tasks = dict(unclaimed.values_list("queue").annotate(Count("pk")))
    queues = []
    for name in sorted({*waiting, *tasks}):
        count, since = waiting.get(name, (0, None))
        queues.append(QueueLoad(name, count, tasks.get(name, 0), since))
    running = runs.filter(state=RunState.RUNNING.value).values_list("owner").order_by("owner")
    now = timezone.now()
    workers = [
        WorkerLoad(owner, count, until, until is not None and until > now)
        for owner, count, until in running.annotate(Count("pk"), Max("lease_until"))[:MOST_ROWS]
    ]
    return Load(queues[:MOST_ROWS], workers)
