"""Stop child runs whose parents do not wait for them any more, from executors and from the sweep."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from plumbing.database.transactions import retried
from pyflow.core.states import TERMINAL_RUN_STATES
from runs.errors import FencedError, RunFinishedError
from runs.models import Run
from runs.services.cancel import cancel_run
from runs.services.end import TERMINATED, end_run
from tenants import audit
from tenants.access import Actor

#: So many children of ended runs are stopped by one sweep, or by the request that ended their parent.
STOPPED_AT_ONCE = 100
#: Children that are to be stopped with their parents, and that nobody has stopped yet.
UNSTOPPED = Q(on_parent_cancel="terminate") | Q(on_parent_cancel="request_cancel", cancel_requested_at__isnull=True)


def stop_children(
    *,
    parent_id: UUID,
    epoch: int,
    only: Collection[UUID] | None = None,
    limit: int | None = None,
    wait: bool = True,
) -> int:
    """Stop the children (or ``only`` those) that a run does not wait for any more; returns how many it stopped.

    Each is terminated, asked to stop, or left alone, as its `workflow` node said; what is below one that is terminated
    goes with it. Runs are stopped from the top down, each in a transaction: an ended run starts no more children.
    ``limit``: no more than so many now. Unless it is to ``wait``, those are left to a sweep for which another
    transaction would have to be waited for. Raises ``FencedError`` if the run's epoch is not ``epoch`` any more: it
    goes on elsewhere, with these children.
    """
    left = Run.objects.across_tenants().filter(UNSTOPPED, parent=parent_id).exclude(state__in=TERMINAL_RUN_STATES)
    if only is not None:
        left = left.filter(pk__in=only)
    tried = stopped = 0
    for child in left.order_by("pk").only("pk", "tenant_id", "on_parent_cancel")[:limit]:
        tried += 1
        below = _stop(child, parent_id, epoch, wait=wait)
        if below is None:
            continue
        stopped += 1
        if below.epoch is not None:
            with suppress(FencedError):  # somebody has taken it up again
                room = None if limit is None else max(0, limit - stopped)
                stopped += stop_children(parent_id=child.pk, epoch=below.epoch, limit=room, wait=wait)
    if only is None and (limit is None or tried < limit) and not left.exists():
        done = Run.objects.across_tenants().filter(pk=parent_id, epoch=epoch, children_to_stop=True)
        done.update(children_to_stop=False)
    return stopped


def stop_children_after_commit(run: Run) -> None:
    """Stop the children of a run that the current transaction has ended, once it is committed.

    So no transaction locks a whole family while it waits for the audit. As many are stopped as by one sweep; sweeps
    stop the others, and all of them should this process die.
    """

    def stop() -> None:
        with suppress(FencedError):  # it was taken up again meanwhile
            stop_children(parent_id=run.pk, epoch=run.epoch, limit=STOPPED_AT_ONCE)

    if run.children_to_stop:
        transaction.on_commit(stop, robust=True)


def stop_orphans() -> int:
    """Stop children of runs that have ended, where whoever ended those did not come to it; returns how many.

    Any process may do it, at any time. It waits for no other transaction, since executors do it before they claim runs
    of all tenants: what is locked is stopped by a later sweep.
    """
    ended = Run.objects.across_tenants().filter(children_to_stop=True).order_by("pk")
    stopped = 0
    for parent_id, epoch in ended.values_list("pk", "epoch")[:STOPPED_AT_ONCE]:
        if stopped >= STOPPED_AT_ONCE:
            break
        with suppress(FencedError):  # it was taken up again meanwhile
            room = STOPPED_AT_ONCE - stopped
            stopped += stop_children(parent_id=parent_id, epoch=epoch, limit=room, wait=False)
    return stopped


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A child that was stopped, and the epoch under which it was terminated, if it was."""

    epoch: int | None = None


@retried
def _stop(child: Run, parent_id: UUID, epoch: int, *, wait: bool) -> _Stopped | None:
    """Stop one child; ``None`` if somebody would have to be waited for, and shall not be."""
    runs = Run.objects.across_tenants()
    skip = not wait and connection.features.has_select_for_update_skip_locked
    with transaction.atomic():
        # Both rows in the order of everybody else.
        rows = runs.filter(pk__in=[child.pk, parent_id]).order_by("pk")
        locked = dict(rows.select_for_update(no_key=True, skip_locked=skip).values_list("pk", "epoch"))
        if skip and len(locked) < 2:
            return None
        if locked.get(parent_id) != epoch:
            raise FencedError(f"run {parent_id} does not go on under epoch {epoch}, nor do its children")
        if child.on_parent_cancel == "terminate":
            ended = end_run(run_id=child.pk, ending=TERMINATED, wait=wait)
            return _Stopped(runs.values_list("epoch", flat=True).get(pk=child.pk) if ended else None)
        if skip and not audit.take_turn(child.tenant_id, wait=False):
            return None
        with suppress(RunFinishedError):  # it was quicker
            cancel_run(by=Actor.system(child.tenant_id, f"run:{parent_id}"), run_id=child.pk)
    return _Stopped()
