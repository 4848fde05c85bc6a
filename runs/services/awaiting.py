"""Wait for the ends of runs, for requests whose answer is the result."""

from __future__ import annotations

import threading
from collections.abc import Collection
from uuid import UUID

from django.db import connection

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.models import Run
from runs.notify.current import notifications
from runs.services.find import find_runs, runs_beside
from tenants.scoping import tenant_scope

#: So many requests may wait in one process; each holds a thread.
MOST_WAITING = 64
_places = threading.BoundedSemaphore(MOST_WAITING)


def await_runs(
    *, tenant_id: UUID, run_ids: Collection[UUID], seconds: float, states: Collection[str] = TERMINAL_RUN_STATES
) -> dict[UUID, Run] | None:
    """The runs as they are once all of them are in one of ``states``, or after so many seconds.

    ``None`` if as many requests as may wait in this process do so already. Enters no transaction while it waits; one
    thread waits for all of the runs, and asks the database for those that are left with one query.
    """
    if not _places.acquire(blocking=False):
        return None
    left = set(run_ids)

    def are_there() -> bool:
        with tenant_scope(tenant_id, write=False):
            left.intersection_update(runs_beside(tenant_id=tenant_id, run_ids=left, states=states))
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()  # one of a pool goes back there
        return not left

    try:
        notifications().await_ends(run_ids, seconds, are_there)
    finally:
        _places.release()
    with tenant_scope(tenant_id, write=False):
        return find_runs(tenant_id=tenant_id, run_ids=run_ids)
