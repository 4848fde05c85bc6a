"""One run in progress: does the waiting that the scheduler does not.

Nodes are executed by *runners*: tasks that take ready nodes one after another. A runner that has to leave nodes behind
first makes sure that another one will look at them, so a node that waits delays no other, while nodes that do not wait
cost no task each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Coroutine, Mapping
from contextvars import Context, copy_context
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import NodeError, NodeTimeoutError, PyFlowError
from pyflow.core.events import NODE_ENDS, RUN_ENDS, Event, EventType, rfc3339
from pyflow.core.middleware import Handler, NodeCall
from pyflow.core.plan import FINALLY, MAIN, Plan, PlannedNode
from pyflow.core.ports import Clock, EventSink, SecretSource, SystemClock
from pyflow.core.redaction import RedactingLogger
from pyflow.core.result import ErrorInfo, NodeRun, RunResult
from pyflow.core.scheduler import Scheduler
from pyflow.core.scope import RunScope, V1Scope
from pyflow.core.states import TERMINAL_NODE_STATES, NodeState, RunState
from pyflow_sdk.node import NodeContext

#: A runner lets the event loop serve others after this many nodes that did not wait (about 1 ms).
NODES_PER_TURN = 64


class Execution:
    """One run in progress."""

    def __init__(
        self,
        plan: Plan,
        context: ExecutionContext,
        *,
        handler: Handler | None,
        sink: EventSink,
        clock: Clock,
        secrets: SecretSource | None,
        recorded: Mapping[str, NodeRun],
        only: frozenset[str] | None,
    ) -> None:
        self.plan = plan
        self.context = context
        self._sink = sink
        self._clock = clock
        self._time = time.time if type(clock) is SystemClock else clock.time
        self._handler = handler
        self._scheduler = Scheduler(plan)
        self._secrets = secrets
        self._scope: RunScope | None = None
        self._recorded = recorded
        self._only = only
        self._runs: list[NodeRun | None] = [None] * len(plan.nodes)
        self._ready: deque[int] = deque()
        self._seq = 0
        #: Runners that may still produce work, and timers that will.
        self._busy = 0
        self._spare = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.Task[None]] = set()
        self._executing: dict[int, asyncio.Task[Any]] = {}
        self._stopping = False
        #: The section that was cut short; those that finish the run are executed as ever.
        self._stopped_in = MAIN
        self._outcome: RunState | None = None
        self._abandoned = False
        self._started_at = 0.0

    # --- life of the run

    async def wait(self) -> RunResult:
        """Run to the end. Cancelling this call abandons the run where it stands, unrecorded, like a crash would."""
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._started_at = self._time()
        workflow = self.plan.workflow
        if self.plan.version != 1:
            self._scope = RunScope(self.context, workflow.vars, self._secrets, rfc3339(self._started_at))
            self.context.scope = self._scope.names()
            if workflow.settings.timeout is not None:
                self._spawn(self._end_at(workflow.settings.timeout), self._timers)
        try:
            await self._begin()
            self._pump()
            await self._finished
            return await self._conclude()
        finally:
            self._abandoned = True
            left = [*self._tasks, *self._timers]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def cancel(self) -> None:
        """Ask the run to stop: nothing new starts, running nodes are cancelled, then ``finally`` runs."""
        self._stop(RunState.CANCELLED)

    def _stop(self, outcome: RunState) -> None:
        if self._stopping or self._scheduler.done:
            return
        if self._scheduler.phase == FINALLY:
            self._scheduler.stop(outcome)  # what finishes the run is not cut short
            return
        self._stopping = True
        self._stopped_in = self._scheduler.phase
        if not self._started_at:
            self._outcome = outcome  # before it began: `_begin` starts with the end
            return
        self._ready.clear()
        ready = self._scheduler.stop(outcome)
        for task in (*self._executing.values(), *self._timers):
            if task is not asyncio.current_task():
                task.cancel()
        self._busy += 1
        self._spawn(self._after_stop(ready), self._tasks)

    def _is_stopping(self) -> bool:
        return self._stopping and self._scheduler.phase == self._stopped_in

    async def _after_stop(self, ready: list[int]) -> None:
        try:
            await self._record_skips()
            self._ready.extend(ready)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run cannot go on
            self._give_up(error)
        finally:
            self._busy -= 1
            self._pump()

    async def _end_at(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._stop(RunState.TIMED_OUT)

    def _spawn(self, work: Coroutine[Any, Any, None], into: set[asyncio.Task[None]]) -> None:
        # Each task starts from the context of the run, whatever nodes did to theirs.
        task = self._loop.create_task(work, context=self._context.copy())
        into.add(task)
        task.add_done_callback(into.discard)

    def _give_up(self, error: BaseException) -> None:
        if not self._finished.done():
            if isinstance(error, asyncio.CancelledError):
                self._finished.cancel()
            else:
                self._finished.set_exception(error)

    async def _begin(self) -> None:
        restored: dict[int, NodeState] = {}
        for node_id, run in self._recorded.items():
            index = self.plan.by_id.get(node_id)
            if index is None:
                continue
            self._runs[index] = run
            restored[index] = run.state
            if run.state not in TERMINAL_NODE_STATES:
                continue
            if run.state is NodeState.SUCCEEDED:
                self.context.set_result(node_id, run.output)
            elif run.error is not None:
                self.context.set_error(node_id, run.error.as_exception())
        self._emit(EventType.RUN_STARTED, None, {"state": RunState.RUNNING, "resumed": bool(restored)})
        if self._only is not None:
            for node in self.plan.nodes:
                if node.id not in self._only and node.index not in restored:
                    restored[node.index] = NodeState.SKIPPED
                    self._runs[node.index] = NodeRun(node.id, NodeState.SKIPPED, reason="not selected")
        now = self._time()
        tolerated = {index for index, run in enumerate(self._runs) if run is not None and run.tolerated}
        for index in self._scheduler.start(restored, tolerated=tolerated, outcome=self._outcome):
            earlier = self._runs[index]
            due = None if earlier is None else earlier.wake_at
            if due is not None and due > now:
                self._scheduler.states[index] = NodeState.RETRYING
                self._wake_later(index, due - now)
            else:
                self._ready.append(index)
        await self._record_skips()

    async def _conclude(self) -> RunResult:
        state = self._scheduler.run_state
        outputs: Any = None
        error = self._first_error()
        if state is RunState.SUCCEEDED and self.plan.outputs is not None and self._scope is not None:
            try:
                outputs = self.context.redactor.redact(self.plan.outputs.render(self._scope.names_at_end(state, dict)))
            except PyFlowError as failure:
                state, error = RunState.FAILED, ErrorInfo.of(failure, None, self.context.redactor)
        data: dict[str, Any] = {"state": state}
        if outputs is not None:
            data["outputs"] = outputs
        if error is not None:
            data["error"] = error.as_dict()
        await self._sink.commit(self._event(RUN_ENDS[state], None, self.context.redactor.redact(data)))
        return RunResult(
            run_id=self.context.run_id,
            workflow=self.plan.workflow.name,
            state=state,
            outputs=outputs,
            error=error,
            nodes={node.id: self._node_run(node) for node in self.plan.nodes},
            context=self.context,
            started_at=self._started_at,
            finished_at=self._time(),
        )

    def _node_run(self, node: PlannedNode) -> NodeRun:
        run = self._runs[node.index]
        return run if run is not None else NodeRun(node.id, NodeState.SKIPPED, reason="not reached")

    def _first_error(self) -> ErrorInfo | None:
        """The error that decided the run: the earliest failure that nothing tolerated, else what ended it."""
        state = self._scheduler.run_state
        failures = [
            run
            for node in self.plan.nodes
            if (run := self._runs[node.index]) is not None and run.error is not None and not run.tolerated
        ]
        if failures and state is RunState.FAILED:
            return min(failures, key=lambda run: run.finished_at or 0.0).error
        if state is RunState.TIMED_OUT:
            seconds = self.plan.workflow.settings.timeout
            return ErrorInfo("run_timeout", f"the run did not finish in {seconds:g} s", "TimeoutError", None)
        if state is RunState.CANCELLED:
            return ErrorInfo("run_cancelled", "the run was cancelled", "CancelledError", None)
        return None

    # --- runners

    def _pump(self) -> None:
        """See to it that somebody looks at what is ready; end the run when there is nobody and nothing left."""
        if self._ready:
            if not self._spare and not self._abandoned:
                self._spare = True
                self._busy += 1
                self._spawn(self._runner(), self._tasks)
        elif not self._busy and not self._finished.done():
            if self._scheduler.done:
                self._finished.set_result(None)
            else:
                self._finished.set_exception(RuntimeError("the scheduler waits for nodes that nobody executes"))

    async def _runner(self) -> None:
        self._spare = False
        ready = self._ready
        pristine = copy_context()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - runners are tasks
        turn = NODES_PER_TURN
        try:
            while ready:
                index = ready.popleft()
                if ready and not self._spare:
                    self._pump()
                await self._run_node(index, task)
                if task.cancelling() or _differs(copy_context(), pristine):
                    break  # the node left context variables or a cancellation behind: the next one gets a new runner
                turn -= 1
                if not turn:
                    turn = NODES_PER_TURN
                    await asyncio.sleep(0)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the run cannot go on
            self._give_up(error)
        finally:
            self._busy -= 1
            self._pump()

    async def _run_node(self, index: int, task: asyncio.Task[Any]) -> None:
        node = self.plan.nodes[index]
        self._scheduler.states[index] = NodeState.RUNNING
        earlier = self._runs[index]
        begun = earlier is not None and earlier.attempts > 0  # what was wanted once is not asked before each attempt
        if (node.when is not None or node.never) and not begun and not await self._wanted(node):
            return
        run = self._runs[index] = NodeRun(node.id, NodeState.RUNNING)
        run.started_at = self._time()
        if earlier is not None:
            run.attempts = earlier.attempts
            run.started_at = earlier.started_at or run.started_at
        run.attempts += 1
        self._emit(EventType.NODE_STARTED, node.id, {"attempt": run.attempts, "type": node.type})
        try:
            config = self._render(node)
        except Exception as error:  # noqa: BLE001 - user code and user templates raise anything
            # Outside `execute`: v1 notes it and goes on, whatever `on_error` says.
            await self._fail(node, run, error, tolerated=True if self.plan.version == 1 else None)
            return
        try:
            output = await self._attempt(node, config, run, task)
            await self._forget_cancellation(task)
        except asyncio.CancelledError:
            if self._abandoned:
                raise
            if self._is_stopping():
                await self._end_cancelled(node, run)
            else:
                await self._fail(node, run, NodeError("the node's work was cancelled from within"))
        except Exception as error:  # noqa: BLE001 - a node raises anything
            await self._retry_or_fail(node, run, error)
        else:
            await self._succeed(node, run, output)

    async def _forget_cancellation(self, task: asyncio.Task[Any]) -> None:
        """A cancellation that came too late, or that the node left behind, must not hit the recording of its result."""
        if task.cancelling() and not self._abandoned:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self._abandoned:
                    raise

    def _render(self, node: PlannedNode) -> Any:
        if node.broken is not None:
            raise node.broken
        config = node.config
        assert config is not None  # noqa: S101 - only a broken node has none
        if config.constant:
            return config.render(_NOTHING)
        return config.render(self._names(node))

    def _names(self, node: PlannedNode) -> Mapping[str, Any]:
        if self._scope is None:
            return V1Scope(self.context, self._time())
        if node.section == MAIN:
            return self._scope.names()
        return self._scope.names_at_end(self._scheduler.run_state, self._error_data)

    def _error_data(self) -> Mapping[str, Any] | None:
        error = self._first_error()
        return None if error is None else error.as_dict()

    async def _wanted(self, node: PlannedNode) -> bool:
        """Whether `when` lets the node run; if not, its end is recorded: skipped, or in version 2 failed."""
        try:
            if node.when is not None and node.when.evaluate(self._names(node)):
                return True
        except PyFlowError as error:
            if self.plan.version != 1:
                await self._fail(node, NodeRun(node.id, NodeState.RUNNING), error)
                return False
        run = NodeRun(node.id, NodeState.SKIPPED, reason="when")
        await self._finish(node, NodeState.SKIPPED, {"reason": "when"}, run)
        return False

    async def _attempt(self, node: PlannedNode, config: Any, run: NodeRun, task: asyncio.Task[Any]) -> object:
        node_context = self._node_context(node, run) if node.wants_node_context else None
        assert node.invoke is not None  # noqa: S101 - a broken node was refused when its config was rendered
        if self._handler is None:
            work = node.invoke(config, self.context, node_context)
        else:
            work = self._handler(NodeCall(node, config, self.context, node_context, run.attempts))
        self._executing[node.index] = task
        try:
            if node.timeout is None and node.total_timeout is None:
                return await work
            return await self._timed(node, run, work)
        finally:
            del self._executing[node.index]

    async def _timed(self, node: PlannedNode, run: NodeRun, work: Awaitable[object]) -> object:
        limits = [node.timeout] if node.timeout is not None else []
        if node.total_timeout is not None:
            limits.append(max(0.0, (run.started_at or 0.0) + node.total_timeout - self._time()))
        seconds = min(limits)
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                return await work
        except TimeoutError:
            if timer.expired():
                raise NodeTimeoutError(f"no result within {seconds:g} s", kind="timeout") from None
            raise

    def _node_context(self, node: PlannedNode, run: NodeRun) -> NodeContext:
        node_id = node.id

        def progress(fraction: float, message: str) -> None:
            data = {"fraction": fraction, "message": self.context.redactor.redact(message)}
            # From a thread, too: nodes with a plain `def run` report from there.
            self._loop.call_soon_threadsafe(self._emit, EventType.NODE_PROGRESS, node_id, data)

        return NodeContext(
            run_id=self.context.run_id,
            node_id=node_id,
            workflow=self.plan.workflow.name,
            attempt=run.attempts,
            secrets=self._scope.secrets if self._scope is not None else None,
            progress=progress,
            cancelled=self._is_stopping,
            logger=RedactingLogger(logging.getLogger(f"pyflow.node.{node_id}"), self.context.redactor),
        )

    # --- what becomes of a node

    async def _succeed(self, node: PlannedNode, run: NodeRun, output: object) -> None:
        run.state = NodeState.SUCCEEDED
        self.context.set_result(node.id, output)
        shown = self.context.redactor.redact(output) if self.context.redactor else output
        run.output = output
        await self._finish(node, NodeState.SUCCEEDED, {"attempt": run.attempts, "output": shown}, run)

    async def _retry_or_fail(self, node: PlannedNode, run: NodeRun, error: Exception) -> None:
        wait = node.retry.delay(run.attempts, error) if node.retry is not None and not self._is_stopping() else None
        if wait is not None and node.total_timeout is not None:
            left = (run.started_at or 0.0) + node.total_timeout - self._time()
            if wait >= left:
                wait = None
        if wait is None:
            await self._fail(node, run, error)
            return
        run.state = NodeState.RETRYING
        run.error = ErrorInfo.of(error, node.id, self.context.redactor)
        self._scheduler.states[node.index] = NodeState.RETRYING
        data: dict[str, Any] = {"attempt": run.attempts, "wake_at": self._time() + wait, "error": run.error.as_dict()}
        run.wake_at = data["wake_at"]
        await self._sink.commit(self._event(EventType.NODE_RETRYING, node.id, self.context.redactor.redact(data)))
        if not self._is_stopping():
            self._wake_later(node.index, wait)

    def _wake_later(self, index: int, seconds: float) -> None:
        self._busy += 1
        self._spawn(self._wake(index, seconds), self._timers)

    async def _wake(self, index: int, seconds: float) -> None:
        try:
            await self._clock.sleep(seconds)
            if self._scheduler.states[index] is NodeState.RETRYING:
                self._ready.append(index)
        finally:
            self._busy -= 1
            self._pump()

    async def _fail(self, node: PlannedNode, run: NodeRun, error: Exception, *, tolerated: bool | None = None) -> None:
        state = NodeState.TIMED_OUT if isinstance(error, NodeTimeoutError) else NodeState.FAILED
        run.state = state
        run.tolerated = node.tolerated if tolerated is None else tolerated
        run.error = ErrorInfo.of(error, node.id, self.context.redactor)
        self.context.set_error(node.id, error)
        data = {"attempt": run.attempts, "state": state, "error": run.error.as_dict(), "tolerated": run.tolerated}
        await self._finish(node, state, self.context.redactor.redact(data), run, tolerated=tolerated)

    async def _end_cancelled(self, node: PlannedNode, run: NodeRun) -> None:
        run.state = NodeState.CANCELLED
        run.error = ErrorInfo("node_cancelled", "cancelled while it was running", "CancelledError", node.id)
        data = {"attempt": run.attempts, "state": NodeState.CANCELLED, "error": run.error.as_dict()}
        await self._finish(node, NodeState.CANCELLED, data, run)

    async def _finish(
        self, node: PlannedNode, state: NodeState, data: dict[str, Any], run: NodeRun, *, tolerated: bool | None = None
    ) -> None:
        """Record how a node ended, and only then let what follows start."""
        run.finished_at = self._time()
        self._runs[node.index] = run
        await self._sink.commit(self._event(NODE_ENDS[state], node.id, data))
        ready = self._scheduler.finish(node.index, state, tolerated=tolerated)
        if self._scheduler.skips:
            await self._record_skips()
        self._ready.extend(ready)

    async def _record_skips(self) -> None:
        skips, self._scheduler.skips = self._scheduler.skips, []
        for index, state, reason in skips:
            node = self.plan.nodes[index]
            run = self._runs[index]
            if run is None:
                run = self._runs[index] = NodeRun(node.id, state, reason=reason)
            run.state, run.reason, run.finished_at = state, reason, self._time()
            data = {"reason": reason, "state": state}
            await self._sink.commit(self._event(EventType.NODE_SKIPPED, node.id, data))

    def _event(self, type: EventType, node_id: str | None, data: dict[str, Any]) -> Event:
        self._seq += 1
        context = self.context
        return Event(type, context.run_id, context.workflow_name, self._seq, self._time(), node_id, data)

    def _emit(self, type: EventType, node_id: str | None, data: dict[str, Any]) -> None:
        self._sink.emit(self._event(type, node_id, data))


def _differs(one: Context, other: Context) -> bool:
    try:
        return one != other
    except Exception:  # noqa: BLE001 - a value that a node left behind cannot even be compared
        return True


_NOTHING: Mapping[str, Any] = {}
