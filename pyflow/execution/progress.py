"""Progress of a run: the states and outputs of its nodes, the names they see, and the result.

Knows nothing of tasks and timers; ``Execution`` adds them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import NodeTimeoutError, PyFlowError
from pyflow.core.events import NODE_ENDS, RUN_ENDS, EventType
from pyflow.core.messages import show
from pyflow.core.plain import to_plain
from pyflow.core.ports import SystemClock
from pyflow.core.redaction import Redactor
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun, RunResult, count_states
from pyflow.core.states import TERMINAL_NODE_STATES, NodeState, RunState
from pyflow.core.suspension import Signal, Suspension, awaited
from pyflow.execution.conclusion import (
    compensation_outcome,
    deciding_error,
    has_completed_items,
    next_wake,
    shown_nodes,
)
from pyflow.execution.items import end_waiting_items, taken
from pyflow.execution.journal import Journal
from pyflow.execution.plan import MAIN, Plan, PlannedNode
from pyflow.execution.request import RunServices
from pyflow.execution.retry import RetryConditionError
from pyflow.execution.rounds import round_data
from pyflow.execution.scheduler import Scheduler
from pyflow.expressions.scope import RunScope, V1Scope


def after_failure(
    node: PlannedNode, record: NodeRun | ItemRun, error: Exception, now: float, redactor: Redactor
) -> tuple[float | None, Exception]:
    """Return the seconds until a node (or item) is executed again, ``None`` if it is not, and the error of the attempt.

    That is another one than it failed with if its ``retry.when`` cannot be evaluated.
    """
    if node.retry is None:
        return None, error
    try:
        wait = node.retry.delay(record.attempts - record.earlier_attempts, error, redactor=redactor)
    except RetryConditionError as mistake:
        return None, mistake
    if wait is not None and node.total_timeout is not None:
        left = (record.started_at or 0.0) + node.total_timeout - now
        return (wait if wait < left else None), error
    return wait, error


class RunProgress:
    """The state of one run in memory, and the recording of its changes."""

    def __init__(
        self,
        plan: Plan,
        context: ExecutionContext,
        services: RunServices,
        give_up: Callable[[Suspension], Awaitable[None]],
    ) -> None:
        """``give_up`` is awaited, perhaps twice, before it is recorded that a node waits no more for its child runs."""
        self.plan = plan
        self.context = context
        self._give_up = give_up
        self.time = time.time if type(services.clock) is SystemClock else services.clock.time
        self.scheduler = Scheduler(plan, self._can_give_outputs if plan.outputs is not None else None)
        durable = plan.version == 1 or plan.workflow.settings.durability != "run"
        self.journal = Journal(services.sink, context, self.time, durable=durable)
        self.scope: RunScope | None = None
        if plan.version != 1:
            self.scope = RunScope(context, plan.workflow.vars, services.secrets, self.time)
            context.scope = self.scope.names_any_time()
        self.runs: list[NodeRun | None] = [None] * len(plan.nodes)
        #: No node starts any more, until the run is resumed.
        self.pausing = False
        self.ready: deque[int] = deque()
        self.started_at = 0.0
        #: When the run times out (POSIX seconds), if it does.
        self.ends_at: float | None = None
        self._outputs: Any = None
        #: Why there are none, although every node went well.
        self._outputs_error: ErrorInfo | None = None
        #: Why it was cancelled, if not because somebody asked for it.
        self.displaced: ErrorInfo | None = None

    def described(self) -> str:
        """The run in a few words, for a ``repr``."""
        states = count_states(NodeState.PENDING if run is None else run.state for run in self.runs)
        run = f"run {show(self.context.run_id)} of {show(self.context.workflow_name)}"
        state = self.scheduler.run_state if self.scheduler.done else "not ended"
        return f"{run}: {state}, nodes: {states}"

    # --- what nodes see

    def names(self, node: PlannedNode, purpose: str = "config", *, run: NodeRun | None = None) -> Mapping[str, Any]:
        """Return the names that a node sees. ``purpose``: what is computed with them; ``run``: another record of it."""
        if self.scope is None:
            return V1Scope(self.context, self.time())
        run = run or self.runs[node.index]
        began = None if run is None else run.started_at
        seed = (node.id, purpose, 1 if run is None else run.round)
        if node.section == MAIN:
            return self.scope.names(began, seed)
        return self.scope.names_at_end(self.scheduler.run_state, self._error_data, began, seed)

    def _error_data(self) -> Mapping[str, Any] | None:
        error = self._first_error()
        return None if error is None else error.as_names()

    def _show(self, run: NodeRun) -> None:
        """Let templates and expressions of version 2 see how a node ended."""
        if self.scope is None or run.state not in TERMINAL_NODE_STATES:
            return
        default = self.plan.nodes[self.plan.by_id[run.id]].default
        if run.state is NodeState.SUCCEEDED or default is None:
            self.scope.ended(run, run.output if run.state is NodeState.SUCCEEDED else None)
            return
        output = default.render({})
        self.context.set_result(run.id, output)
        self.scope.ended(run, output)

    # --- what becomes of a node

    def restore(self, recorded: Mapping[str, NodeRun]) -> dict[int, NodeState]:
        """Take over what is on record of nodes that (still) are in the plan; returns their states by index."""
        restored: dict[int, NodeState] = {}
        for node_id, run in recorded.items():
            index = self.plan.by_id.get(node_id)
            if index is None:
                continue
            self.runs[index] = run
            restored[index] = run.state
            self._show(run)
            if run.state is NodeState.SUCCEEDED:
                self.context.set_result(node_id, run.output)
            elif run.error is not None:
                self.context.set_error(node_id, run.error.as_exception())
        return restored

    async def wanted(self, node: PlannedNode) -> bool:
        """Return whether `when` lets the node run; if not, records its end: skipped, or in version 2 failed."""
        try:
            if node.when is not None and node.when.evaluate(self.names(node, "when")):
                return True
        except PyFlowError as error:
            if self.plan.version != 1:
                await self.fail(node, NodeRun(node.id, NodeState.RUNNING), error)
                return False
        await self.skip(node, NodeRun(node.id, NodeState.SKIPPED), "when")
        return False

    def backoff(self, node: PlannedNode, run: NodeRun, error: Exception) -> tuple[float | None, Exception]:
        """Return the seconds until the next attempt, ``None`` if there is none; and the error, as ``after_failure``."""
        return after_failure(node, run, error, self.time(), self.context.redactor)

    async def succeed(self, node: PlannedNode, run: NodeRun, output: object, signal: Signal | None = None) -> None:
        if self.context.redactor and self.plan.version != 1:
            output = self.context.redactor.redact(output)  # what other nodes see is what a resumed run would see
        run.state = NodeState.SUCCEEDED
        run.error = None
        run.output = output
        self.context.set_result(node.id, output)
        data: dict[str, Any] = {"attempt": run.attempts, "output": output} | taken(signal)
        await self._finish(node, NodeState.SUCCEEDED, data, run)

    async def fail(
        self,
        node: PlannedNode,
        run: NodeRun,
        error: Exception,
        *,
        tolerated: bool | None = None,
        signal: Signal | None = None,
    ) -> None:
        state = NodeState.TIMED_OUT if isinstance(error, NodeTimeoutError) else NodeState.FAILED
        run.state = state
        run.tolerated = node.tolerated if tolerated is None else tolerated
        run.error = ErrorInfo.of(error, node.id, self.context.redactor)
        self.context.set_error(node.id, error)
        data = {"attempt": run.attempts, "state": state, "error": run.error.as_record(), "tolerated": run.tolerated}
        data |= self._cut_short(node, run)
        await self._finish(node, state, data | taken(signal), run, tolerated=tolerated)

    async def end_cancelled(self, node: PlannedNode, run: NodeRun) -> None:
        run.state = NodeState.CANCELLED
        run.error = ErrorInfo("node_cancelled", "cancelled while it was running", "CancelledError", node.id)
        data = {"attempt": run.attempts, "state": NodeState.CANCELLED, "error": run.error.as_dict()}
        data |= self._cut_short(node, run)
        await self._finish(node, NodeState.CANCELLED, data, run)

    def _cut_short(self, node: PlannedNode, run: NodeRun) -> dict[str, str]:
        """Return the event data about the stop that cut a node short: a resumed execution relies on it."""
        if self.scheduler.stopped_as is None or node.section != MAIN:
            return {}
        run.reason = str(self.scheduler.stopped_as)
        return {"reason": run.reason}

    async def skip(self, node: PlannedNode, run: NodeRun, reason: str) -> None:
        run.state, run.reason = NodeState.SKIPPED, reason
        await self._finish(node, NodeState.SKIPPED, {"reason": reason, "state": NodeState.SKIPPED}, run)

    async def _finish(
        self, node: PlannedNode, state: NodeState, data: dict[str, Any], run: NodeRun, *, tolerated: bool | None = None
    ) -> None:
        """Record how a node ended, and only then let what follows start."""
        run.finished_at = self.time()
        if state is NodeState.SUCCEEDED or has_completed_items(run):
            self.scheduler.note_effect(node.index)  # now: a record knows the order of these times, not of commits
        run.wait, run.wake_at = None, None
        data |= round_data(run)
        self.runs[node.index] = run
        self._show(run)
        if state is NodeState.SUCCEEDED and self.scheduler.is_last(node.index):
            self.journal.emit(NODE_ENDS[state], node.id, data)  # the run's end follows at once: one commit for both
        else:
            await self.journal.commit(NODE_ENDS[state], node.id, data)
        ready = self.scheduler.finish(node.index, state, tolerated=tolerated)
        if self.scheduler.skips:
            await self.record_skips()
        self.start_later(ready)

    def start_later(self, ready: Iterable[int]) -> None:
        """Put nodes into the queue of those that start, but for those that a stop has ended since they became ready."""
        self.ready.extend(index for index in ready if self.scheduler.states[index] not in TERMINAL_NODE_STATES)

    async def record_skips(self) -> None:
        skips, self.scheduler.skips = self.scheduler.skips, []
        for index, state, reason in skips:
            node = self.plan.nodes[index]
            run = self.runs[index]
            if run is None:
                run = self.runs[index] = NodeRun(node.id, state, reason=reason)
            if run.wait is not None and awaited(run.wait):
                await self._give_up(run.wait)
            end_waiting_items(run, self.journal)
            run.state, run.reason, run.finished_at = state, reason, self.time()
            run.wait, run.wake_at = None, None
            self._show(run)
            await self.journal.commit(EventType.NODE_SKIPPED, node.id, {"reason": reason, "state": state})

    # --- what it amounts to

    async def conclude(self) -> RunResult:
        if not self.scheduler.done:
            return self.result(RunState.PAUSED if self.pausing else RunState.WAITING, None, None)
        state, error = self.scheduler.run_state, self._first_error()
        outputs = self._outputs if state is RunState.SUCCEEDED else None
        data: dict[str, Any] = {"state": state}
        if outputs is not None:
            data["outputs"] = outputs
        if error is not None:
            data["error"] = error.as_dict()
        undoing_failed = self.scheduler.compensation_failed
        compensation = compensation_outcome(self.plan, self.runs, failed=undoing_failed)
        if compensation is not None:
            data["compensation"] = compensation
        await self.journal.commit(RUN_ENDS[state], None, data)
        return self.result(state, outputs, error, compensation)

    async def refuse(self, state: RunState, error: PyFlowError) -> RunResult:
        """End the run before it began: its end is its only event."""
        info = ErrorInfo.of(error, None, self.context.redactor)
        await self.journal.commit(RUN_ENDS[state], None, {"state": state, "error": info.as_dict()})
        return self.result(state, None, info)

    def result(
        self, state: RunState, outputs: Any, error: ErrorInfo | None, compensation: str | None = None
    ) -> RunResult:
        now = self.time()
        return RunResult(
            run_id=self.context.run_id,
            workflow=self.plan.workflow.name,
            state=state,
            outputs=outputs,
            error=error,
            nodes=shown_nodes(self.plan, self.runs, ended=state is not RunState.WAITING),
            context=self.context,
            started_at=self.started_at or now,
            finished_at=now,
            compensation=compensation,
            wake_at=next_wake(self.runs, self._deadline_left()) if state is RunState.WAITING else None,
        )

    def _deadline_left(self) -> float | None:
        """Return when the run times out, if it still can: the timeout is that of the graph."""
        return self.ends_at if self.scheduler.phase == MAIN else None

    def _can_give_outputs(self) -> bool:
        """Compute the run's outputs, or note why that is impossible."""
        assert self.plan.outputs is not None  # noqa: S101 - the scheduler asks only then
        assert self.scope is not None  # noqa: S101 - v1 has no outputs
        for index, state, _ in self.scheduler.skips:  # they are recorded only after this
            self._show(NodeRun(self.plan.nodes[index].id, state))
        try:
            outputs = to_plain(self.plan.outputs.render(self.scope.names_at_end(RunState.SUCCEEDED, dict)))
        except PyFlowError as failure:
            self._outputs_error = ErrorInfo.of(failure, None, self.context.redactor)
            return False
        self._outputs = self.context.redactor.redact(outputs)
        return True

    def _first_error(self) -> ErrorInfo | None:
        state = self.scheduler.run_state
        if state is RunState.FAILED and self._outputs_error is not None:
            return self._outputs_error
        if state is RunState.CANCELLED and self.displaced is not None:
            return self.displaced
        return deciding_error(self.plan, self.runs, state)
