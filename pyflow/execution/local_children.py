"""Child runs in the process of their parents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pyflow.core.children import ChildRequest, ChildRunRefusedError, check_lineage, child_output
from pyflow.core.errors import DefinitionError, InputError
from pyflow.core.ports import EventSink
from pyflow.core.result import RunResult
from pyflow.core.suspension import Suspension
from pyflow.documents.models import WorkflowDef
from pyflow.execution.execution import Execution
from pyflow.execution.plan import Plan
from pyflow.execution.request import RunRequest

#: How long a cancelled parent waits for its child to clean up. Seconds.
CANCEL_GRACE = 30.0

Start = Callable[[RunRequest, EventSink | None], Execution]


class LocalChildRuns:
    """Child runs in this process, each an execution of its own on the same event loop. Their parents never suspend."""

    keeps_time = False

    def __init__(self, start: Start, workflows: WorkflowSource | None) -> None:
        """``start`` starts a run with events to the given sink, or to the engine's."""
        self._start = start
        self._workflows = workflows
        #: Runs that no parent waits for; ``WorkflowEngine.join`` does at the end.
        self.detached: set[asyncio.Task[RunResult]] = set()

    async def run(self, request: ChildRequest) -> object:
        """Run the child to its end, unless it is not to be waited for."""
        check_lineage(request)
        config = request.config
        try:
            child = RunRequest(
                self._find(config.workflow),
                run_id=request.run_id,
                input=config.input,
                initial_context={"trigger": config.input},
                lineage=request.lineage,
            )
            execution = self._start(child, request.sink)
        except DefinitionError as error:
            raise ChildRunRefusedError(f"the workflow {config.workflow!r} cannot run: {error}") from error
        except InputError as error:
            raise ChildRunRefusedError(str(error)) from None
        task = asyncio.create_task(execution.wait())
        if not config.wait:
            self._detach(task)
            return {"run_id": request.run_id}
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if config.on_cancel == "abandon":
                self._detach(task)
            elif config.on_cancel == "request_cancel":
                execution.cancel()
                await asyncio.wait({task}, timeout=CANCEL_GRACE)
                task.cancel()
            else:
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_GRACE)
            raise
        why = result.error.as_dict() if result.error else None
        return child_output(request, request.run_id, str(result.state), result.outputs_or_results(), why)

    async def stop(self, wait: Suspension) -> None:
        """Do nothing: a parent that waits executes, and cancelling that stops the child in ``run``."""

    def _find(self, name: str) -> WorkflowDef | Plan:
        try:
            if self._workflows is None:
                raise KeyError(name)
            return self._workflows.get(name)
        except KeyError:
            raise ChildRunRefusedError(f"there is no workflow named {name!r}") from None

    def _detach(self, task: asyncio.Task[RunResult]) -> None:
        self.detached.add(task)
        task.add_done_callback(self.detached.discard)


class WorkflowSource(Protocol):
    """Port for the source of the workflows that nodes name."""

    def get(self, name: str) -> WorkflowDef | Plan:
        """A workflow by name; ``KeyError`` if there is none."""
