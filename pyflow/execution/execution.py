"""One run in progress: does the waiting that the scheduler does not.

Nodes are executed by *runners*: tasks that take ready nodes one after another. A runner that has to leave nodes behind
first makes sure that another one will look at them, so a node that waits delays no other, while nodes that do not wait
cost no task each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import PyFlowError, WorkerLostError
from pyflow.core.events import EventType, rfc3339
from pyflow.core.messages import current_redactor
from pyflow.core.result import ErrorInfo, NodeRun, RunResult
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import PAUSED, Signal, Suspension, awaited, is_of_items, next_round
from pyflow.execution.admission import Admission
from pyflow.execution.attempts import Attempts
from pyflow.execution.compensation import compensate
from pyflow.execution.conclusion import cut_short, effects, has_begun
from pyflow.execution.fan_out import FanOut, PausedFanOut
from pyflow.execution.plan import COMPENSATE, FINALLY, MAIN, Plan, PlannedNode
from pyflow.execution.progress import RunProgress
from pyflow.execution.request import RunRequest, RunServices
from pyflow.execution.rounds import begin_round, round_data
from pyflow.execution.shared import ConcurrencyLimitError, SkippedByLimitError
from pyflow.execution.waits import Waits
from pyflow.isolation.node_exit import exit_failure
from pyflow.isolation.node_loop import enter_scope

#: A runner lets the event loop serve others after this many nodes that did not wait (about 1 ms).
NODES_PER_TURN = 64


class Execution:
    """One run in progress. All of its fields belong to the run's event loop."""

    def __init__(self, plan: Plan, context: ExecutionContext, request: RunRequest, services: RunServices) -> None:
        self.plan = plan
        self.context = context
        self._request = request
        self._state = state = RunProgress(plan, context, services, self._give_up)
        self._scheduler, self._journal = state.scheduler, state.journal
        self._attempts = Attempts(state, services, lineage=request.lineage, stopping=self._is_stopping)
        self._clock = services.clock
        self._waits = Waits(services.clock, request.signals, self._make_ready, self._refusal, self._drop)
        self._admission = self._admission_of(services)
        #: Runners at work, and other tasks that may still produce work.
        self._busy = 0
        self._spare = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadline: asyncio.Task[None] | None = None
        self._stopping = False
        self._fan_outs: set[FanOut] = set()
        #: The section that was cut short; those that finish the run are executed as ever.
        self._stopped_in = MAIN
        self._outcome: RunState | None = None
        #: Whether the result of ``wait`` is decided: nothing starts, and nothing is stopped any more.
        self._is_leaving = False
        #: Whether it stopped where it stood: what still runs of it counts for nothing, here.
        self.abandoned = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._state.described()}>"

    def _admission_of(self, services: RunServices) -> Admission | None:
        if self.plan.run_concurrency is None:
            return None
        begun = self._request.begun_at is not None or bool(self._request.recorded)
        return Admission(services.slot_source, self.plan.run_concurrency, begun=begun, give_way=self.give_way)

    # --- life of the run

    async def wait(self) -> RunResult:
        """Run to the end. Cancelling this call abandons the run where it stands, unrecorded, like a crash would.

        With ``park`` the result may be a run in state ``waiting``: nothing can proceed before ``wake_at`` or a signal.
        After ``pause`` it may be one in state ``paused``.
        """
        self._loop = asyncio.get_running_loop()
        around, _ = current_redactor.get(), current_redactor.set(self.context.redactor)
        self._context = copy_context()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        try:
            if self._admission is None:
                return await self._execute()
            return await self._execute_admitted(self._admission)
        finally:
            await self._abandon()
            current_redactor.set(around)

    async def _execute_admitted(self, admission: Admission) -> RunResult:
        """With a slot, unless the run has been stopped before it began: finishing needs none."""
        assert self._state.scope is not None  # noqa: S101 - v1 knows no concurrency
        async with AsyncExitStack() as stack:
            if not self._stopping:
                try:
                    await admission.enter(stack, self._state.scope.names())
                except (ConcurrencyLimitError, SkippedByLimitError) as error:
                    return await self._state.refuse(admission.refused_as(), error)
                except PyFlowError as error:
                    return await self._state.refuse(RunState.FAILED, error)
            return await self._execute()

    async def _execute(self) -> RunResult:
        if self._state.pausing and not self._stopping:
            self._is_leaving = True
            return self._state.result(RunState.PAUSED, None, None)
        begun = self._request.begun_at or self._state.time()
        self._time_out(begun)
        self._state.started_at = begun
        if self._state.scope is not None:
            self._state.scope.started(rfc3339(begun))
        await self._begin()
        self._pump()
        await self._finished
        while self._busy:  # a stop, or a signal, came when it was about to be parked
            self._finished = self._loop.create_future()
            await self._finished
        self._is_leaving = True
        return await self._state.conclude()

    def _time_out(self, begun: float) -> None:
        """Start the clock of ``settings.timeout``, which runs from the first beginning, through waits and restarts."""
        timeout = self.plan.workflow.settings.timeout
        if self._state.scope is None or timeout is None:
            return
        self._state.ends_at = begun + timeout
        left = self._state.ends_at - self._state.time()
        if left <= 0:
            self._stop(RunState.TIMED_OUT)
        else:
            self._deadline = self._loop.create_task(self._end_at(left))

    async def _abandon(self) -> None:
        self.abandoned = True
        self._attempts.abandon()
        left = [*self._tasks, *self._waits.clear(), *([self._deadline] if self._deadline else ())]
        for task in left:
            self._attempts.cancel(task)
        await asyncio.gather(*left, return_exceptions=True)

    def cancel(self) -> bool:
        """Ask the run to stop: no node of the graph starts, running ones are cancelled, then ``finally`` runs.

        When the graph has ended, how the run ends is decided: it is undone and finished as ever, only `on_failure` is
        cut short. ``False``: this execution has no part in that any more, for it has ended or was put down.
        """
        return self._stop(RunState.CANCELLED)

    def pause(self) -> None:
        """Start nothing more, neither nodes nor items of fan-outs; what runs goes on to its end.

        ``wait`` then gives a run in state ``paused``, unless that was the last of it. Call it on the run's event loop.
        """
        if self._stopping or self._state.pausing or self.abandoned:
            return
        self._state.pausing = True
        for fan_out in self._fan_outs:
            fan_out.wake()
        if self._state.started_at:
            self._pump()
        elif self._admission is not None:
            self._admission.leave_queue()

    def resume(self) -> None:
        """Go on, if ``wait`` has not returned yet."""
        if self._state.pausing:
            self._state.pausing = False
            if self._state.started_at:
                self._pump()

    def give_way(self, error: ConcurrencyLimitError) -> bool:
        """Another run gets the slot as soon as this one has ended, which is like ``cancel``."""
        if self.abandoned or self._is_leaving:
            return False
        if not self._stopping and self._scheduler.phase == MAIN:  # else it is about to end
            self._state.displaced = ErrorInfo.of(error, None, self.context.redactor)
            self._stop(RunState.CANCELLED)
        return True

    def signal(self, name: str, payload: Any = None, id: str | None = None) -> bool:
        """Deliver a signal to the node that waits for it, or keep it for one that will.

        ``False`` if a signal with this ``id`` was delivered before. Call it on the run's event loop.
        """
        return self.deliver(Signal(name, payload, id))

    def deliver(self, signal: Signal) -> bool:
        """Deliver a signal as ``signal`` does, from a known sender: a node may refuse it, and then keeps waiting."""
        return self._waits.deliver(signal)

    def _refusal(self, node_id: str, wait: Suspension, signal: Signal) -> str | None:
        """Return why a waiting node, or an item of it, refuses a signal; ``None`` if it takes it."""
        suspending = self.plan.nodes[self.plan.by_id[node_id]].suspending
        return None if suspending is None else suspending.refusal(wait, signal)

    def _drop(self, node_id: str, signal: Signal, reason: str) -> None:
        """Record that a signal is dropped because nobody who waits for it takes it."""
        data = {"name": signal.name, "reason": reason} | ({} if signal.id is None else {"signal": signal.id})
        self._journal.emit(EventType.NODE_SIGNAL_REFUSED, node_id, data)

    def child_ended(self, run_id: str) -> None:
        """Wake the node that waits for a child run. Call it on the run's event loop."""
        self._waits.child_ended(run_id)

    def _stop(self, outcome: RunState) -> bool:
        """Stop the run as far as it can be; ``False`` if it has been left where it stands."""
        if self.abandoned or self._is_leaving:
            return False
        if not self._scheduler.done:
            self._cut_short(outcome)
        return True

    def _cut_short(self, outcome: RunState) -> None:
        if not self._state.started_at:
            if self._outcome is None:
                self._outcome = outcome  # before it began: `_begin` starts with the end
                self._stopping, self._state.pausing = True, False
                if self._admission is not None:
                    self._admission.leave_queue()
            return
        phase = self._scheduler.phase
        if (self._stopping and self._stopped_in == phase) or (phase != MAIN and outcome is not RunState.CANCELLED):
            return
        self._state.pausing = False
        if phase in (COMPENSATE, FINALLY):  # what finishes the run is not cut short
            self._scheduler.stop(outcome)
            self._pump()
            return
        self._stopping, self._stopped_in = True, phase
        self._state.ready.clear()
        ready = self._scheduler.stop(outcome)
        for task in list(self._attempts.executing):
            self._attempts.cancel(task)
        self._waits.clear()
        self._work(partial(self._after_stop, ready))

    def _is_stopping(self) -> bool:
        return self._stopping and self._scheduler.phase == self._stopped_in

    async def _after_stop(self, ready: list[int]) -> None:
        await self._state.record_skips()
        self._state.start_later(ready)

    async def _end_at(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._stop(RunState.TIMED_OUT)

    def _work(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what may make nodes ready in a task; the run does not end before it has."""
        self._busy += 1
        # Each task starts from the context of the run, whatever nodes did to theirs.
        task = self._loop.create_task(self._watched(work), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watched(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()  # made here: a task that is cancelled before it begins would leave it unawaited
        except BaseException as error:  # noqa: BLE001 - whatever it is, the run cannot go on
            if not self._finished.done():
                if isinstance(error, asyncio.CancelledError):
                    self._finished.cancel()
                else:
                    self._finished.set_exception(error)
        finally:
            self._busy -= 1
            self._pump()

    async def _begin(self) -> None:
        restored = self._state.restore(self._request.recorded)
        begun = self._request.begun_at is not None or has_begun(self._request.recorded.values())
        self._journal.emit(EventType.RUN_RESUMED if begun else EventType.RUN_STARTED, None, {"state": RunState.RUNNING})
        only = self._request.only
        for node in self.plan.nodes if only is not None else ():
            if only is not None and node.id not in only and node.index not in restored and node.section == MAIN:
                restored[node.index] = NodeState.SKIPPED
                self._state.runs[node.index] = NodeRun(node.id, NodeState.SKIPPED, reason="not selected")
        ready = self._scheduler.start(
            restored,
            tolerated={index for index, run in enumerate(self._state.runs) if run is not None and run.tolerated},
            cut=cut_short(self.plan, self._state.runs),
            outcome=self._outcome,
            effects=effects(self._state.runs),
        )
        if self._scheduler.phase not in (COMPENSATE, FINALLY):  # these are not cut short: their nodes may wait
            self._stopped_in = self._scheduler.phase
        for index in ready:
            if not self._still_waits(index):
                self._state.ready.append(index)
        await self._state.record_skips()

    def _still_waits(self, index: int) -> bool:
        """Take a recorded wait up again, if it is not over."""
        run = self._state.runs[index]
        if run is None or run.state not in (NodeState.RETRYING, NodeState.WAITING):
            return False
        if (run.wake_at is None and run.wait is None) or awaited(run.wait) or run.wait == PAUSED:
            return False  # of child runs only their record says whether they have ended
        if run.wake_at is not None and run.wake_at <= self._state.time():
            return False  # its time has come; a timer of no length would only put the run down again
        self._scheduler.states[index] = run.state
        self._waits.add(index, run, self._context.copy())
        return True

    # --- runners

    def _pump(self) -> None:
        """Start what is ready, unless another task does; end the run when no task and nothing ready is left."""
        if self._state.ready and not self._state.pausing:
            if not self._spare and not self.abandoned and not self._is_leaving:
                self._spare = True
                self._work(self._run_nodes)
        elif not self._busy and not self._finished.done():
            if self._scheduler.done or self._state.pausing or (self._waits and self._request.park):
                self._finished.set_result(None)
            elif not self._waits:
                self._finished.set_exception(RuntimeError("the scheduler waits for nodes that nobody executes"))

    def _make_ready(self, index: int) -> None:
        self._state.ready.append(index)
        self._pump()

    async def _run_nodes(self) -> None:
        """A runner: execute ready nodes until there are none."""
        self._spare = False
        ready = self._state.ready
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - runners are tasks
        enter_scope(task)
        pristine = copy_context()
        turn = NODES_PER_TURN
        while ready and not self._state.pausing:
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

    async def _run_node(self, index: int, task: asyncio.Task[Any]) -> None:
        node = self.plan.nodes[index]
        resumed = self._state.runs[index]
        self._scheduler.states[index] = NodeState.RUNNING
        if resumed is not None and resumed.state is NodeState.WAITING and resumed.wait is not None:
            if awaited(resumed.wait) or is_of_items(resumed.wait):
                await self._execute_node(node, resumed, task)  # the same attempt: it asks for its child again
            elif resumed.wait == PAUSED:
                resumed.state, resumed.wait = NodeState.RUNNING, None
                await self._start(node, resumed)
                await self._execute_node(node, resumed, task)
            elif next_round(resumed.wait) is not None:
                begin_round(resumed)
                resumed.state, resumed.attempts = NodeState.RUNNING, resumed.attempts + 1
                await self._start(node, resumed)
                await self._execute_node(node, resumed, task)
            else:
                await self._resume(node, resumed)
            return
        if self._is_at_most_once(node) and resumed is not None and resumed.state is NodeState.RUNNING:
            await self._state.fail(
                node, resumed, WorkerLostError("its worker was lost, and `on_lost: fail` allows no other")
            )
            return
        if node.child and resumed is not None and resumed.state is NodeState.RUNNING:
            await self._execute_node(node, resumed, task)  # its child, which outlived the worker, is of this attempt
            return
        # What `when` said is not asked again: a retried or resumed node has begun already.
        begun = resumed is not None and resumed.attempts > 0
        if (node.when is not None or node.never) and not begun and not await self._state.wanted(node):
            return
        run = self._state.runs[index] = NodeRun(node.id, NodeState.RUNNING)
        if resumed is not None:
            run.attempts = resumed.attempts
            run.round, run.earlier_attempts = resumed.round, resumed.earlier_attempts
            run.started_at = resumed.started_at
            run.items = resumed.items
        run.attempts += 1
        await self._start(node, run)
        await self._execute_node(node, run, task)

    def _is_at_most_once(self, node: PlannedNode) -> bool:
        return node.definition.on_lost == "fail" and self.plan.version != 1

    async def _start(self, node: PlannedNode, run: NodeRun) -> None:
        data = {"attempt": run.attempts, "type": node.type, **round_data(run)}
        # Nothing of it may happen before it is on record that something may have, or which moment its `now` is.
        if self._is_at_most_once(node) or (node.sees_now and run.started_at is None):
            at = await self._journal.commit(EventType.NODE_STARTED, node.id, data)
        else:
            at = self._journal.emit(EventType.NODE_STARTED, node.id, data)
        run.started_at = run.started_at or at  # of the first attempt, as it is recorded

    async def _execute_node(self, node: PlannedNode, run: NodeRun, task: asyncio.Task[Any]) -> None:
        if node.for_each is not None or node.compensates is not None:
            await self._run_special(node, run, task)
        else:
            await self._run_plain(node, run, task)

    async def _run_plain(self, node: PlannedNode, run: NodeRun, task: asyncio.Task[Any]) -> None:
        names = lambda: self._state.names(node)  # noqa: E731 - what `render` asks for
        try:
            config = self._attempts.render(node, names)
        except Exception as error:  # noqa: BLE001 - user code and user templates raise anything
            # Outside `execute`: v1 notes it and goes on, whatever `on_error` says.
            await self._state.fail(node, run, error, tolerated=True if self.plan.version == 1 else None)
            return
        await self._settle(node, run, self._attempts.call(node, config, run, task, names))

    async def _run_special(self, node: PlannedNode, run: NodeRun, task: asyncio.Task[Any]) -> None:
        """Fan-outs and compensations."""
        if node.compensates is not None:
            work = compensate(
                node,
                run,
                self._state.runs[node.compensates],
                self._state.names(node),
                attempts=self._attempts,
                journal=self._journal,
                clock=self._clock,
                task=task,
                origin=self.plan.nodes[node.compensates],
            )
            await self._settle(node, run, work)
            return
        fan_out = FanOut(
            node,
            run,
            lambda: self._state.names(node),
            attempts=self._attempts,
            journal=self._journal,
            clock=self._clock,
            stopping=self._is_stopping,
            pausing=lambda: self._state.pausing,
            redactor=self.context.redactor,
            take=lambda wait: self._waits.take_for(node.id, wait),
        )
        # The retries of a fan-out are those of its items.
        await self._settle(node, run, self._fan_out(fan_out, task), retried=True)

    async def _fan_out(self, fan_out: FanOut, task: asyncio.Task[Any]) -> object:
        self._attempts.executing.add(task)
        self._fan_outs.add(fan_out)
        try:
            return await fan_out.execute()
        finally:
            self._fan_outs.discard(fan_out)
            self._attempts.executing.discard(task)

    async def _settle(self, node: PlannedNode, run: NodeRun, work: Awaitable[object], *, retried: bool = False) -> None:
        """Await a node's work and record what became of it."""
        try:
            output = await work
            await self._forget_cancellation()
        except asyncio.CancelledError:
            if self.abandoned or not self._is_stopping():
                raise  # nobody ordered it: the run goes on elsewhere
            await self._state.end_cancelled(node, run)
        except SkippedByLimitError:
            await self._state.skip(node, run, "concurrency")
        except PausedFanOut:
            await self._pause_node(node, run)
        except Exception as error:  # noqa: BLE001 - a node raises anything
            wait, failure = (None, error) if retried or self._is_stopping() else self._state.backoff(node, run, error)
            if wait is None:
                await self._state.fail(node, run, failure)
            else:
                await self._retry(node, run, error, wait)
        else:
            if type(output) is Suspension:
                await self._suspend(node, run, output)
            else:
                await self._state.succeed(node, run, output)

    async def _forget_cancellation(self) -> None:
        """A cancellation that came too late, or that the node left behind, must not hit the recording of its result."""
        task = asyncio.current_task()
        if task is not None and task.cancelling() and not self.abandoned:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.abandoned:
                    raise

    # --- waiting

    async def _suspend(self, node: PlannedNode, run: NodeRun, wait: Suspension) -> None:
        if self._is_stopping():  # the stop came when it had just begun to wait
            if awaited(wait):
                await self._give_up(wait)
            await self._state.end_cancelled(node, run)
            return
        recorded = run.state is NodeState.WAITING and run.wait == wait
        if next_round(wait) is not None:
            run.error = None  # of an attempt before the one that succeeded
        run.wait = wait
        run.state = NodeState.WAITING
        run.wake_at = wait.until
        self._scheduler.states[node.index] = NodeState.WAITING
        if not recorded:
            data = {"attempt": run.attempts, **wait.as_dict(), **round_data(run)}
            await self._journal.commit(EventType.NODE_WAITING, node.id, data)
        self._wait_for(node, run)

    def _wait_for(self, node: PlannedNode, run: NodeRun) -> None:
        """Make the node ready when what it waits for comes, unless a stop ended it while its wait was recorded."""
        if self._scheduler.states[node.index] is run.state:
            self._waits.add(node.index, run, self._context.copy())

    async def _pause_node(self, node: PlannedNode, run: NodeRun) -> None:
        """Leave the rest of a fan-out for later: it goes on from its items, here or from what is recorded."""
        if self._is_stopping():
            await self._state.end_cancelled(node, run)
            return
        run.state, run.wait = NodeState.WAITING, PAUSED
        self._scheduler.states[node.index] = NodeState.WAITING
        if self._state.pausing:  # else the run has been resumed meanwhile
            await self._journal.commit(EventType.NODE_WAITING, node.id, {"attempt": run.attempts, **PAUSED.as_dict()})
        self._state.start_later((node.index,))

    async def _resume(self, node: PlannedNode, run: NodeRun) -> None:
        wait = run.wait
        assert wait is not None  # noqa: S101 - the caller looked
        signal = self._waits.take(run)
        run.wait, run.wake_at = None, None
        try:
            output = self._attempts.resume(node, wait, signal, lambda: self._state.names(node))
        except BaseException as error:  # a decision may be of the wrong shape
            failure = error if isinstance(error, Exception) else exit_failure(error)
            if failure is None:
                raise
            await self._state.fail(node, run, failure, signal=signal)
            return
        await self._state.succeed(node, run, output, signal=signal)

    async def _give_up(self, wait: Suspension) -> None:
        await self._attempts.give_up(wait)

    # --- what becomes of a node

    async def _retry(self, node: PlannedNode, run: NodeRun, error: Exception, wait: float) -> None:
        run.state, run.wait = NodeState.RETRYING, None
        run.error = ErrorInfo.of(error, node.id, self.context.redactor)
        run.wake_at = self._state.time() + wait
        self._scheduler.states[node.index] = NodeState.RETRYING
        data = {"attempt": run.attempts, "wake_at": rfc3339(run.wake_at), "error": run.error.as_record()}
        data |= round_data(run)
        await self._journal.commit(EventType.NODE_RETRYING, node.id, data)
        self._wait_for(node, run)


def _differs(one: Context, other: Context) -> bool:
    try:
        return one != other
    except BaseException:  # noqa: BLE001 - a value that a node left behind cannot even be compared
        return True
