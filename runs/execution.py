"""Executes runs: claims them in batches and drives many of them on one event loop."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure  # InterfaceError is one, yet no DatabaseError

from plugins.discovery import discover
from pyflow.core.addresses import NetworkPolicy, current_policy
from pyflow.core.engine import Execution, WorkflowEngine
from pyflow.core.errors import PyFlowError
from pyflow.core.events import Event, EventType
from pyflow.core.files import current_root
from pyflow.core.ids import new_id
from pyflow.core.plain import plain_output
from pyflow.core.plan import compile_stored
from pyflow.core.ports import SystemClock
from pyflow.core.remote import lost
from pyflow.core.result import ErrorInfo, NodeRun
from pyflow.core.states import RunState
from pyflow.core.suspension import Signal
from pyflow.core.threads import NodeThreads
from runs import dispatch
from runs.children import DatabaseChildRuns
from runs.errors import FencedError, LeaseLapsedError
from runs.hints import listen
from runs.leases import MAX_LOSSES, Claim, claim, release, renew, trusted_seconds, unclaimed_queues
from runs.node_tasks import (
    DatabaseRemoteNodes,
    TaskClaim,
    claim_tasks,
    drop_stale_tasks,
    finish_task,
    release_tasks,
    renew_tasks,
    take_outcomes,
    unclaimed_task_queues,
)
from runs.reader import Reader
from runs.services import QUEUE_TIMEOUT, WORKER_LOST, end_run, news, stop_children
from runs.stores import DatabaseSink, recorded_nodes, waiting_signals
from runs.writer import GroupWriter
from secrets_vault.providers import EnvironmentProvider

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


#: How long what is cancelled may take to end when a process hands its runs back. Seconds.
HAND_BACK_SECONDS = 5.0
#: So many threads that never came back, and the process is replaced.
MAX_GIVEN_UP = 16
#: Timers of parked runs beyond this are left to the sweeper. Seconds.
LONGEST_TIMER = 60.0


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed run with what is on record of it."""

    claim: Claim
    recorded: dict[str, NodeRun]
    signals: list[Signal]


class RunExecutor:
    """One process's part in executing runs.

    ``drain`` works until nothing is left to claim; ``serve`` goes on until ``stop``. Both renew the leases of what
    they execute. What they cannot finish is handed back, or taken over by others when its lease runs out.

    ``queues``: whose runs it executes; ``None``: all. ``linger``: how long ``drain`` stays after the last run, so that
    the next one finds it awake. Seconds.
    """

    def __init__(self, queues: Collection[str] | None = None, *, linger: float = 0.0) -> None:
        self.owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id()}"
        self._queues = queues
        self._linger = linger
        self._active: dict[UUID, asyncio.Task[None]] = {}
        self._executions: dict[UUID, tuple[Execution, DatabaseChildRuns]] = {}
        #: What the runs here have executed elsewhere, and what is executed here for runs elsewhere.
        self._remotes: dict[UUID, DatabaseRemoteNodes] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        #: Runs that execute while they await child runs or node tasks, and how many. They take no place, or they could
        #: keep out what they wait for.
        self._parents: Counter[UUID] = Counter()
        #: One a tenant: concurrency slots and cached results are its own.
        self._engines: dict[UUID, WorkflowEngine] = {}
        #: Until when each lease is relied on (monotonic seconds), and the runs whose leases were not renewed in time.
        self._trusted: dict[UUID, float] = {}
        self._lapsed: set[UUID] = set()
        self._writer = GroupWriter()
        # One thread, so one connection, for claims and reads.
        self._reader = Reader()
        self._threads = NodeThreads()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        #: When to look for what others left behind, and when another executor may be woken (monotonic seconds).
        self._sweep_at = 0.0
        self._pass_on_at = 0.0
        self._tasks_sweep_at = 0.0

    async def drain(self, only: UUID | None = None) -> None:
        """Execute what can be claimed (or just the run ``only``) until there is nothing left."""
        await self._work(forever=False, only=only)

    async def serve(self) -> None:
        """Execute runs as they come, until ``stop``."""
        await self._work(forever=True)

    def ring(self) -> None:
        """There is work; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def stop(self) -> None:
        """Claim nothing more and hand back what is not finished; from any thread."""
        self._stopping = True
        self.ring()

    @property
    def is_worn(self) -> bool:
        """Whether so many nodes never returned that the process had better be replaced."""
        return self._threads.given_up >= MAX_GIVEN_UP

    async def _work(self, *, forever: bool, only: UUID | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(self._threads)
        self._writer.start()
        renewing = self._loop.create_task(self._renew())
        listening = self._listen()
        try:
            idle_since = time.monotonic()
            while not self._stopping:
                self._wake.clear()
                claimed = await self._claim(only)
                await self._deliver()
                if only is None:
                    claimed += await self._claim_tasks()
                if claimed or self._active or self._tasks:
                    idle_since = time.monotonic()
                elif not forever and time.monotonic() - idle_since >= self._linger:
                    # A ring that only this process heard must not be lost: look again after the last of them.
                    await _end(listening)
                    if not await self._claim(only):
                        break
                    listening = self._listen()
                if not claimed or self._load() >= settings.PYFLOW_CONCURRENT_RUNS:
                    await self._rest()
        finally:
            await _end(renewing)
            await _end(listening)
            await self._hand_back()
            await self._writer.stop()
            self._reader.stop()

    def _listen(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(listen(self._hear, self._queues or ("",)))

    async def _claim(self, only: UUID | None) -> int:
        free = settings.PYFLOW_CONCURRENT_RUNS - self._load()
        if free <= 0:
            return 0
        asked = time.monotonic()
        overdue = asked >= self._sweep_at
        try:
            taken = await self._call(self._take, free, only, overdue)
        except DatabaseFailure as error:
            logger.warning("cannot claim runs, trying again: %s", error)
            return 0
        if overdue:
            self._sweep_at = asked + settings.PYFLOW_SWEEP_SECONDS
        for work in taken:
            run_id = work.claim.run_id
            self._trusted[run_id] = asked + trusted_seconds()
            task = asyncio.create_task(self._execute(work))
            self._active[run_id] = task
            task.add_done_callback(lambda _, run_id=run_id: self._done(run_id))  # type: ignore[misc]
        if len(taken) == free and asked >= self._pass_on_at:
            self._pass_on_at = asked + dispatch.PASS_ON_SECONDS
            for queue in self._queues or ("",):
                dispatch.wake(queue)
        return len(taken)

    def _take(self, limit: int, only: UUID | None, overdue: bool) -> list[_Work]:
        """Claim runs, with what is on record of them; now and then, look for others on behalf of their workers."""
        if overdue and self._queues is not None:
            for queue in unclaimed_queues() - set(self._queues):
                dispatch.wake(queue)
        claims = claim(self.owner, limit, only, list(self._active), queues=self._queues, overdue=overdue)
        if not claims:
            return []
        run_ids = [taken.run_id for taken in claims]
        signals: dict[UUID, list[Signal]] = defaultdict(list)
        for run_id, signal in waiting_signals(run_ids):
            signals[run_id].append(signal)
        recorded = recorded_nodes(run_ids)
        drop_stale_tasks({taken.run_id: taken.epoch for taken in claims})
        return [_Work(taken, recorded[taken.run_id], signals[taken.run_id]) for taken in claims]

    async def _claim_tasks(self) -> int:
        free = settings.PYFLOW_CONCURRENT_RUNS - self._load()
        try:
            taken = await self._call(self._take_tasks, free, time.monotonic() >= self._tasks_sweep_at)
        except DatabaseFailure as error:
            logger.warning("cannot claim node tasks, trying again: %s", error)
            return 0
        for work, recorded in taken:
            task = asyncio.create_task(self._execute_task(work, recorded))
            self._tasks[work.task_id] = task
            task.add_done_callback(lambda _, task_id=work.task_id: self._task_done(task_id))  # type: ignore[misc]
        return len(taken)

    def _take_tasks(self, limit: int, overdue: bool) -> list[tuple[TaskClaim, dict[str, NodeRun]]]:
        if overdue:
            self._tasks_sweep_at = time.monotonic() + settings.PYFLOW_SWEEP_SECONDS
            for queue in unclaimed_task_queues() - set(self._queues or ()) if self._queues is not None else ():
                dispatch.wake(queue)
        claims = claim_tasks(self.owner, limit, self._queues, overdue=overdue)
        recorded = recorded_nodes({taken.run.run_id for taken in claims}) if claims else {}
        return [(taken, recorded[taken.run.run_id]) for taken in claims]

    async def _execute_task(self, taken: TaskClaim, recorded: dict[str, NodeRun]) -> None:
        claimed = taken.run
        engine = self._engine(claimed)
        _enter(claimed)
        plan = compile_stored(claimed.checksum, claimed.definition, engine.registry)
        node = plan.nodes[plan.by_id[taken.node_id]]
        if taken.losses >= MAX_LOSSES or (taken.losses and node.definition.on_lost == "fail"):
            await self._call(finish_task, taken, [lost() for _ in taken.places])
            return
        attempts = engine.attempts(
            plan,
            run_id=str(claimed.run_id),
            input=claimed.input,
            recorded=recorded,
            lineage=claimed.lineage,
            begun_at=claimed.begun_at,
        )
        outcomes = await attempts.execute(taken.node_id, taken.places)
        if not await self._call(finish_task, taken, outcomes):
            logger.warning("fenced: task %s belongs to another process now", taken.task_id)

    def _task_done(self, task_id: UUID) -> None:
        task = self._tasks.pop(task_id)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s stopped here; it is taken up again when its lease ends", task_id, exc_info=error)

    def _load(self) -> int:
        return len(self._active) - len(self._parents) + len(self._tasks)

    def _done(self, run_id: UUID) -> None:
        self._active.pop(run_id, None)
        self._executions.pop(run_id, None)
        self._remotes.pop(run_id, None)
        self._trusted.pop(run_id, None)
        self._wake.set()

    def _hear(self, run_id: UUID | None) -> None:
        """There may be news of a run, or (``None``) of any."""
        if run_id is None or run_id in self._active:
            self._wake.set()

    async def _deliver(self) -> None:
        """Hand on what was said to the runs that are being executed here, and what happened to their children."""
        if not self._executions:
            return
        parents = {child: run_id for run_id, (_, children) in self._executions.items() for child in children.awaited}
        awaited = {task_id: remote for remote in self._remotes.values() for task_id in remote.awaited}
        try:
            found = await self._call(news, list(self._executions), list(parents))
            outcomes = await self._call(take_outcomes, list(awaited)) if awaited else {}
        except DatabaseFailure as error:
            logger.warning("cannot look for signals, trying again: %s", error)
            return
        for task_id, told in outcomes.items():
            awaited[task_id].settle(task_id, told)
        for run_id, signal in found.signals:
            if run_id in self._executions:
                self._executions[run_id][0].signal(signal.name, signal.payload, signal.id)
        for run_id in found.cancelled:
            if run_id in self._executions:
                self._executions[run_id][0].cancel()
        for child_id in found.children:
            self._child_ended(parents[child_id], child_id)
        for run_id in found.ended:
            # Its end is recorded: if it was not this execution that did it, nothing of it counts any more.
            if run_id in self._active:
                self._active[run_id].cancel()

    def _child_ended(self, run_id: UUID, child_id: UUID) -> None:
        if run_id in self._executions:
            execution, children = self._executions[run_id]
            if not children.ended(child_id):
                execution.child_ended(str(child_id))

    async def _rest(self) -> None:
        """Until somebody rings, a run ends, or it is time to look for what others left behind."""
        try:
            await asyncio.wait_for(self._wake.wait(), settings.PYFLOW_SWEEP_SECONDS)
        except TimeoutError:
            return

    async def _renew(self) -> None:
        pause = settings.PYFLOW_LEASE_SECONDS / 3
        while True:
            await asyncio.sleep(pause)
            if not self._active and not self._lapsed and not self._tasks:
                continue
            asked, at = dict(self._active), time.monotonic()
            try:
                kept = await asyncio.wait_for(self._call(renew, self.owner, list(asked)), trusted_seconds() - pause)
                await self._call(release, self.owner, list(self._lapsed))
                await self._renew_tasks()
            except (DatabaseFailure, TimeoutError) as error:
                logger.warning("cannot renew leases: %s", str(error) or "the database does not answer")
                self._drop_lapsed()
                continue
            self._lapsed.clear()
            self._trusted.update(dict.fromkeys(kept & self._active.keys(), at + trusted_seconds()))
            # Of those that were asked for: what was claimed meanwhile is not among the kept ones, yet ours.
            for run_id in asked.keys() - kept:
                if not asked[run_id].done():
                    logger.warning("fenced: run %s belongs to another process now", run_id)
                    asked[run_id].cancel()

    async def _renew_tasks(self) -> None:
        asked = dict(self._tasks)
        kept = await self._call(renew_tasks, self.owner, list(asked)) if asked else set()
        for task_id in asked.keys() - kept:
            asked[task_id].cancel()  # nobody waits for it, or another process executes it

    def _is_trusted(self, run_id: UUID) -> bool:
        return self._trusted.get(run_id, 0.0) > time.monotonic()

    def _drop_lapsed(self) -> None:
        """Stop executing what another process may have claimed by now."""
        for run_id, task in self._active.items():
            if not self._is_trusted(run_id):
                logger.warning("the lease of run %s could not be renewed in time; it is left to others", run_id)
                self._lapsed.add(run_id)
                task.cancel()

    async def _hand_back(self) -> None:
        left, tasks = dict(self._active), dict(self._tasks)
        for task in (*left.values(), *tasks.values()):
            task.cancel()
        if left or tasks:
            await asyncio.wait([*left.values(), *tasks.values()], timeout=HAND_BACK_SECONDS)
        if tasks:
            await self._call(release_tasks, self.owner, list(tasks))
        if left or self._lapsed:
            count = await self._call(release, self.owner, [*left, *self._lapsed])
            logger.info("handed %d unfinished runs back", count)
            for queue in self._queues or ("",):
                dispatch.wake(queue)

    async def _call(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await asyncio.wrap_future(self._reader.submit(function, *args))

    async def _execute(self, work: _Work) -> None:
        run_id = work.claim.run_id
        sink = DatabaseSink(self._writer, work.claim, lambda: self._is_trusted(run_id))
        try:
            await self._run(work, sink)
        except LeaseLapsedError:
            logger.warning("run %s stopped here: its lease was not renewed in time", run_id)
            self._lapsed.add(run_id)
        except FencedError:
            logger.warning("fenced: run %s belongs to another process now", run_id)
        except Exception:
            # Nothing is lost: the lease runs out, and somebody goes on from what is recorded.
            logger.exception("run %s stopped here; it is taken up again when its lease ends", run_id)

    async def _run(self, work: _Work, sink: DatabaseSink) -> None:
        claimed = work.claim
        if claimed.too_late:
            await self._call(partial(end_run, run_id=claimed.run_id, epoch=claimed.epoch, ending=QUEUE_TIMEOUT))
            return
        if claimed.losses >= MAX_LOSSES:
            logger.error("run %s was lost with %d executors in a row; it fails", claimed.run_id, claimed.losses)
            await self._call(partial(end_run, run_id=claimed.run_id, epoch=claimed.epoch, ending=WORKER_LOST))
            return
        execution: Execution | None = None
        children = DatabaseChildRuns(
            claimed, self._call, lambda: execution is None or execution.abandoned, self._parents
        )
        engine = self._engine(claimed)
        sink.restore(work.recorded)
        _enter(claimed)
        remote = self._remotes[claimed.run_id] = DatabaseRemoteNodes(claimed, self._call, self._parents)
        try:
            plan = compile_stored(claimed.checksum, claimed.definition, engine.registry)
            execution = engine.start(
                plan,
                run_id=str(claimed.run_id),
                input=claimed.input if plan.version != 1 else None,
                initial_context={"trigger": claimed.input},
                recorded=work.recorded,
                signals=work.signals,
                lineage=claimed.lineage,
                sink=sink,
                children=children,
                park=True,
                begun_at=claimed.begun_at,
                remote=remote,
            )
        except PyFlowError as error:
            # Accepted once, but not runnable here and now: a plugin that was removed, say.
            await sink.commit(_failure(claimed, error))
            return
        if claimed.cancel_requested:
            execution.cancel()
        self._executions[claimed.run_id] = execution, children
        result = await execution.wait()
        self._executions.pop(claimed.run_id, None)
        if result.state is RunState.WAITING:
            await sink.park(result.wake_at)
            self._look_at(result.wake_at)
        elif result.state in (RunState.CANCELLED, RunState.TIMED_OUT):
            # Those of nodes that were under way in a process that died are waited for by nobody here.
            await self._call(partial(stop_children, parent_id=claimed.run_id))

    def _engine(self, claimed: Claim) -> WorkflowEngine:
        engine = self._engines.get(claimed.tenant_id)
        if engine is None:
            engine = self._engines[claimed.tenant_id] = WorkflowEngine(
                discover().registry, middleware=(plain_output,), secrets=EnvironmentProvider(claimed.tenant_slug)
            )
        return engine

    def _look_at(self, wake_at: float | None) -> None:
        """Claim a run that waits when its time has come, to the moment, if this process is still there."""
        left = math.inf if wake_at is None else wake_at - time.time()
        if self._loop is not None and left < LONGEST_TIMER:
            self._loop.call_later(max(0.0, left), self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep_at = 0.0
        self._wake.set()


def _enter(claimed: Claim) -> None:
    """Confine what nodes do from here on to what their tenant may use."""
    current_root.set(settings.PYFLOW_STORAGE_ROOT / str(claimed.tenant_id))
    current_policy.set(network_policy())


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@cache
def network_policy() -> NetworkPolicy:
    """What workflows of this installation may reach: the public internet and what the operator lists."""
    return NetworkPolicy.of(settings.PYFLOW_ALLOWED_NETWORKS, permit_private_networks=False)


def _failure(claimed: Claim, error: PyFlowError) -> Event:
    data = {"state": RunState.FAILED, "error": ErrorInfo.of(error, None).as_dict()}
    run_id, now = str(claimed.run_id), SystemClock().time()
    return Event(EventType.RUN_FAILED, run_id, claimed.workflow_name, 0, now, None, data)


class InProcessExecutor:
    """A ``RunExecutor`` on a thread of the server's own process: the single-node shape."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="pyflow-executor", daemon=True)
        self._executor: RunExecutor | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin; unfinished runs of an earlier process are taken up once their leases have ended."""
        self._thread.start()
        self._ready.wait()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """Hand unfinished runs back and end the thread, waiting up to ``timeout`` seconds."""
        if self._executor is not None:
            dispatch.detach(self._executor.ring)
            self._executor.stop()
            self._thread.join(timeout)
            self._executor = None
        atexit.unregister(self.stop)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        executor = RunExecutor()
        self._executor = executor
        dispatch.attach(executor.ring)
        self._ready.set()
        await executor.serve()
