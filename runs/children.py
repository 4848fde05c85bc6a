"""Child runs on the platform: rows like all others, started and awaited by their parent's node."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from pyflow.core.children import ChildRequest, ChildRunRefusedError, check_lineage, child_output
from pyflow.core.errors import InputError
from pyflow.core.states import TERMINAL_RUN_STATES
from runs.errors import RunFinishedError
from runs.leases import Claim
from runs.models import NodeRun, Run
from runs.services import abandon_child, cancel_run, start_child
from workflows.errors import WorkflowMissingError

#: How often a parent looks whether its child has ended. Seconds.
LOOK_SECONDS = 0.25

Call = Callable[..., Awaitable[Any]]


class DatabaseChildRuns:
    """The ``ChildRuns`` of one claimed run. ``call`` runs a function on the executor's database thread.

    ``abandoned`` tells whether the parent's execution merely stops here: its children then go on, for its next
    executor to find. ``parents`` counts, for the executor, what each of its runs awaits.
    """

    def __init__(self, parent: Claim, call: Call, abandoned: Callable[[], bool], parents: Counter[UUID]) -> None:
        self._parent = parent
        self._parents = parents
        self._call = call
        self._abandoned = abandoned

    async def run(self, request: ChildRequest) -> object:
        """See ``pyflow.core.children.ChildRuns``. Asking again for the same child finds the one that was started."""
        check_lineage(request)
        try:
            await self._call(self._start, request)
        except (WorkflowMissingError, InputError) as error:
            raise ChildRunRefusedError(str(error)) from None
        if not request.config.wait:
            return {"run_id": request.run_id}
        self._parents[self._parent.run_id] += 1
        try:
            while True:
                run = await self._call(_read, UUID(request.run_id))
                if run.state in TERMINAL_RUN_STATES:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        except asyncio.CancelledError:
            if not self._abandoned():
                await asyncio.shield(self._call(self._stop, request))
            raise
        finally:
            self._parents[self._parent.run_id] -= 1
            if not self._parents[self._parent.run_id]:
                del self._parents[self._parent.run_id]
        outputs = run.outputs if run.outputs is not None else await self._call(_results, run.pk)
        return child_output(request, run.state, outputs, run.error)

    def _start(self, request: ChildRequest) -> None:
        start_child(
            parent_id=self._parent.run_id,
            tenant_id=self._parent.tenant_id,
            run_id=UUID(request.run_id),
            workflow_name=request.config.workflow,
            input=request.config.input,
            lineage=list(request.lineage),
        )

    def _stop(self, request: ChildRequest) -> None:
        run_id = UUID(request.run_id)
        if request.config.on_cancel == "request_cancel":
            with suppress(RunFinishedError):  # it was quicker
                cancel_run(tenant_id=self._parent.tenant_id, run_id=run_id)
        elif request.config.on_cancel == "terminate":
            abandon_child(run_id=run_id)


def _read(run_id: UUID) -> Run:
    return Run.objects.across_tenants().get(pk=run_id)


def _results(run_id: UUID) -> dict[str, Any]:
    rows = NodeRun.objects.across_tenants().filter(run=run_id, state="succeeded")
    return {row.node_id: row.output for row in rows}
