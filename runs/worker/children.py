"""Child runs on the platform: rows like all others. The node that started one waits for it as for a signal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from pyflow.core.children import ChildRequest, ChildRunRefusedError, check_lineage, child_output, wait_for
from pyflow.core.errors import InputError, NodeTimeoutError
from pyflow.core.states import TERMINAL_RUN_STATES
from pyflow.core.suspension import Suspension, awaited
from runs.models import NodeRun, Run
from runs.queue.leases import Claim
from runs.services.start_child import ChildStarts
from runs.services.stop_children import stop_children
from runs.storage.reader import Call, answered
from runs.storage.reading import output_of, outputs_of
from runs.worker.secrets import RunSecrets
from tenants.errors import QuotaExceededError
from workflows.errors import NothingPublishedError, WorkflowArchivedError, WorkflowMissingError


class DatabaseChildRuns:
    """The ``ChildRuns`` of one claimed run. ``call`` runs a function on the executor's database thread.

    ``abandoned``: the parent's execution merely stops here: its children then go on, for its next
    executor to find. ``parents`` counts, for the executor, what each of its runs awaits while it executes.
    """

    keeps_time = True

    def __init__(
        self,
        parent: Claim,
        call: Call,
        abandoned: Callable[[], bool],
        parents: Counter[UUID],
        secrets: RunSecrets,
    ) -> None:
        self._secrets = secrets
        self._parent = parent
        self._starts = ChildStarts(parent.run_id, parent.tenant_id, parent.epoch)
        self._parents = parents
        self._call = call
        self._abandoned = abandoned
        #: The children whose ends ``ended`` reports to this run.
        self.awaited: set[UUID] = set()
        self._ends: dict[UUID, asyncio.Event] = {}

    async def run(self, request: ChildRequest) -> object:
        """Start a child run, or find it if the same attempt has already started it."""
        check_lineage(request)
        if self._secrets.redact(request.config.input) != request.config.input:
            raise ChildRunRefusedError(
                "the input of a child run is recorded, so it cannot hold a secret: "
                f"let {request.config.workflow!r} use `secrets.NAME` itself"
            )
        child_id = UUID(request.run_id)
        if request.config.wait:
            self.awaited.add(child_id)  # before it is looked at, so that no end falls in between
        try:
            child: Run = await answered(self._call, self._starts.start, request)
            if not request.config.wait:
                return {"run_id": str(child.pk)}
            if child.pk != child_id:  # it is that of an attempt before the parent was retried
                self.awaited.discard(child_id)
                self.awaited.add(child_id := child.pk)
                child = await answered(self._call, _read, child_id)
            limit = _limit(request, child)
            if child.state not in TERMINAL_RUN_STATES:
                if request.may_suspend and (limit is None or limit.until > timezone.now().timestamp()):
                    return wait_for([str(child_id)], None if limit is None else limit.until)
                child = await self._end_of(child_id, limit)
        except (
            WorkflowMissingError,
            WorkflowArchivedError,
            NothingPublishedError,
            InputError,
            QuotaExceededError,
        ) as error:
            raise ChildRunRefusedError(str(error)) from None
        except asyncio.CancelledError:
            if not self._abandoned():
                await asyncio.shield(answered(self._call, self._stop, {child_id}))
            raise
        self.awaited.discard(child_id)
        results = await answered(self._call, _results, child)
        return child_output(request, str(child_id), child.state, results, child.error)

    async def stop(self, wait: Suspension) -> None:
        run_ids = {UUID(run_id) for run_id in awaited(wait)}
        self.awaited -= run_ids
        if run_ids:
            await answered(self._call, self._stop, run_ids)

    def ended(self, run_id: UUID) -> bool:
        """Wake what executes and waits for this child. ``False`` if nothing does: a suspended node then may."""
        self.awaited.discard(run_id)
        end = self._ends.get(run_id)
        if end is not None:
            end.set()
        return end is not None

    async def _end_of(self, child_id: UUID, limit: _Limit | None) -> Run:
        self._parents[self._parent.run_id] += 1
        end = self._ends[child_id] = asyncio.Event()
        try:
            if child_id not in self.awaited:
                end.set()  # it ended while the child was being read
            async with asyncio.timeout(None if limit is None else max(0.0, limit.until - timezone.now().timestamp())):
                await end.wait()
        except TimeoutError:
            await answered(self._call, self._stop, {child_id})
            assert limit is not None  # noqa: S101 - without one there is no timeout
            raise NodeTimeoutError(f"no result within {limit.seconds:g} s", kind="timeout") from None
        finally:
            del self._ends[child_id]
            self.awaited.discard(child_id)
            self._parents[self._parent.run_id] -= 1
            if not self._parents[self._parent.run_id]:
                del self._parents[self._parent.run_id]
        child: Run = await answered(self._call, _read, child_id)
        return child

    def _stop(self, run_ids: set[UUID]) -> None:
        stop_children(parent_id=self._parent.run_id, epoch=self._parent.epoch, only=run_ids)


@dataclass(frozen=True, slots=True)
class _Limit:
    """Time limit for which an attempt waits for its child: ``until`` (POSIX seconds), which is ``seconds`` in all."""

    until: float
    seconds: float


def _limit(request: ChildRequest, child: Run) -> _Limit | None:
    since = (child.called_by or {}).get("since", child.created_at.timestamp())
    limits = [] if request.timeout is None else [_Limit(since + request.timeout, request.timeout)]
    if request.deadline is not None:
        limits.append(_Limit(request.deadline, max(0.0, request.deadline - since)))
    return min(limits, key=lambda limit: limit.until, default=None)


def _read(run_id: UUID) -> Run:
    return Run.objects.across_tenants().get(pk=run_id)


def _results(child: Run) -> Any:
    """Its outputs, or the results of its nodes if it has none. Raises as ``runs.storage.reading`` does."""
    outputs = outputs_of(child)
    if outputs is not None:
        return outputs
    rows = NodeRun.objects.for_tenant(child.tenant_id).filter(run=child, state="succeeded")
    return {row.node_id: output_of(row) for row in rows}
