"""Start the child runs of a claimed run, or find those that were started before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction
from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.children import ChildRequest
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from runs.errors import RunUndoneError
from runs.models import Run, Trigger
from runs.queue.fence import hold_epoch
from runs.services.locks import lock_families
from runs.services.retry import retry_ended
from runs.services.start import start_version
from tenants.access import Actor
from workflows.latest import latest_version

Place = tuple[str, str | None]


class ChildStarts:
    """Starts child runs for the executor that has their parent under ``epoch``; used on its database thread."""

    def __init__(self, parent_id: UUID, tenant_id: UUID, epoch: int) -> None:
        self._parent_id = parent_id
        self._tenant_id = tenant_id
        self._epoch = epoch
        #: What a retry of the parent takes up again, once known.
        self._taken_up: Mapping[Place, UUID] | None = None

    @retried
    def start(self, request: ChildRequest) -> Run:
        """The child run of an attempt, started unless it was before.

        Raises ``FencedError`` if the parent has ended or is executed elsewhere, or as ``latest_version`` and
        ``start_version`` do.
        """
        with transaction.atomic():
            parent = hold_epoch(self._parent_id, self._epoch)
            run_id = self._id_of(request, parent)
            child = Run.objects.for_tenant(self._tenant_id).filter(pk=run_id).first()
            if child is None:
                return self._start(request, run_id, parent.retries)
        if child.state in TERMINAL_RUN_STATES and (child.called_by or {}).get("again"):
            return self.start(request) if self._take_up(child) is None else _read(child)
        return child

    def _start(self, request: ChildRequest, run_id: UUID, retry: int) -> Run:
        place: dict[str, Any] = {"node_id": request.node_id, "item": request.item, "attempt": request.attempt}
        place |= {"retry": retry, "in_place": request.config.wait and not request.may_suspend}
        config = request.config
        return start_version(
            version=latest_version(tenant_id=self._tenant_id, name=config.workflow),
            input=config.input,
            run_id=run_id,
            parent_id=self._parent_id,
            lineage=list(request.lineage),
            on_parent_cancel=config.on_cancel if config.wait else "",
            called_by=place | {"since": timezone.now().timestamp()},
            by=Actor.system(self._tenant_id, f"run:{self._parent_id}"),
            trigger=Trigger.WORKFLOW,
        )

    def _id_of(self, request: ChildRequest, parent: Run) -> UUID:
        own = UUID(request.run_id)
        if not parent.retries:
            return own
        if self._taken_up is None:
            self._taken_up = _taken_up(parent)
        known = self._taken_up.get((request.node_id, request.item)) if request.attempt == 1 else None
        # Attempts count from 1 again after a retry of the parent: each has a child of its own.
        return known or uuid5(own, f"\0retry {parent.retries}")

    def _take_up(self, child: Run) -> Run | None:
        """Retry a child that was ending when its parent was retried; ``None`` if it cannot go on from where it was."""
        with transaction.atomic():
            lock_families(self._tenant_id, [child.pk])
            hold_epoch(self._parent_id, self._epoch)
            child = Run.objects.for_tenant(self._tenant_id).with_names().get(pk=child.pk)
            called_by: dict[str, Any] = child.called_by or {}
            if not called_by.pop("again", False):
                return child
            now = timezone.now()
            child.called_by = called_by | {"since": now.timestamp()}
            try:
                if child.state != RunState.SUCCEEDED:
                    retry_ended(child, now)
            except RunUndoneError:
                del called_by["taken_up"]
                child.called_by = called_by
                self._taken_up = None
                child.save(update_fields=["called_by"])
                return None
            child.save(update_fields=["called_by"])
        return child


def _read(child: Run) -> Run:
    return Run.objects.for_tenant(child.tenant_id).get(pk=child.pk)


def _taken_up(parent: Run) -> dict[Place, UUID]:
    rows = Run.objects.across_tenants().filter(parent=parent, called_by__taken_up=parent.retries)
    return {(place["node_id"], place["item"]): run_id for run_id, place in rows.values_list("pk", "called_by") if place}
