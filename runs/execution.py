"""Executes runs: claims them in batches and drives many of them on one event loop."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure  # InterfaceError is one, yet no DatabaseError
from django.db import connections

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
from pyflow.core.result import ErrorInfo
from pyflow.core.shared import Shared
from pyflow.core.states import RunState
from runs import dispatch
from runs.children import DatabaseChildRuns
from runs.errors import FencedError
from runs.hints import listen
from runs.leases import Claim, claim, release, renew
from runs.services import news, stop_children
from runs.stores import DatabaseSink, recorded_nodes, waiting_signals
from runs.writer import GroupWriter
from secrets_vault.providers import EnvironmentProvider

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


class _Reader:
    """One thread with one connection. Not a ``ThreadPoolExecutor``: those refuse work while the process ends, which is
    when unfinished runs are handed back."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="pyflow-reader", daemon=True).start()

    def submit(self, function: Callable[..., ResultT], *args: Any) -> Future[ResultT]:
        future: Future[ResultT] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                connections.close_all()  # it may be the connection that is broken; the next call makes a new one
                future.set_exception(error)

        self._queue.put(work)
        return future

    def stop(self) -> None:
        self._queue.put(None)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
        connections.close_all()


class RunExecutor:
    """One process's part in executing runs.

    ``drain`` works until nothing is left to claim; ``serve`` goes on until ``stop``. Both renew the leases of what
    they execute. What they cannot finish is handed back, or taken over by others when its lease runs out.
    """

    def __init__(self) -> None:
        self.owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id()}"
        self._active: dict[UUID, asyncio.Task[None]] = {}
        self._executions: dict[UUID, tuple[Execution, DatabaseChildRuns]] = {}
        #: Runs that execute while they await child runs, and how many. They take no place, or parents could keep all
        #: children out.
        self._parents: Counter[UUID] = Counter()
        #: Concurrency slots and cached results, of each tenant its own.
        self._shared: dict[UUID, Shared] = defaultdict(Shared)
        self._writer = GroupWriter()
        # One thread, so one connection, for claims and reads.
        self._reader = _Reader()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = False

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

    async def _work(self, *, forever: bool, only: UUID | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        helpers = [self._loop.create_task(self._renew()), self._loop.create_task(listen(self._hear))]
        try:
            while not self._stopping:
                self._wake.clear()
                claimed = await self._claim(only)
                await self._deliver()
                if not claimed:
                    if not forever and not self._active:
                        break
                    await self._rest()
                elif self._load() >= settings.PYFLOW_CONCURRENT_RUNS:
                    await self._rest()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._hand_back()
            await self._writer.stop()
            self._reader.stop()

    async def _claim(self, only: UUID | None) -> int:
        free = max(0, settings.PYFLOW_CONCURRENT_RUNS - self._load())
        try:
            claims = await self._call(claim, self.owner, free, only, list(self._active))
        except DatabaseFailure as error:
            logger.warning("cannot claim runs, trying again: %s", error)
            return 0
        for taken in claims:
            task = asyncio.create_task(self._execute(taken))
            self._active[taken.run_id] = task
            task.add_done_callback(lambda _, run_id=taken.run_id: self._done(run_id))  # type: ignore[misc]
        return len(claims)

    def _load(self) -> int:
        return len(self._active) - len(self._parents)

    def _done(self, run_id: UUID) -> None:
        self._active.pop(run_id, None)
        self._executions.pop(run_id, None)
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
        try:
            found = await self._call(news, list(self._executions), list(parents))
        except DatabaseFailure as error:
            logger.warning("cannot look for signals, trying again: %s", error)
            return
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
        while True:
            await asyncio.sleep(settings.PYFLOW_LEASE_SECONDS / 3)
            if not self._active:
                continue
            asked = dict(self._active)
            try:
                kept = await self._call(renew, self.owner, list(asked))
            except DatabaseFailure as error:
                logger.warning("cannot renew leases: %s", error)
                continue
            # Of those that were asked for: what was claimed meanwhile is not among the kept ones, yet ours.
            for run_id in asked.keys() - kept:
                if not asked[run_id].done():
                    logger.warning("fenced: run %s belongs to another process now", run_id)
                    asked[run_id].cancel()

    async def _hand_back(self) -> None:
        left = dict(self._active)
        for task in left.values():
            task.cancel()
        await asyncio.gather(*left.values(), return_exceptions=True)
        if left:
            count = await self._call(release, self.owner, list(left))
            logger.info("handed %d unfinished runs back", count)

    async def _call(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await asyncio.wrap_future(self._reader.submit(function, *args))

    async def _execute(self, claimed: Claim) -> None:
        sink = DatabaseSink(self._writer, claimed)
        try:
            await self._run(claimed, sink)
        except FencedError:
            logger.warning("fenced: run %s belongs to another process now", claimed.run_id)
        except Exception:
            # Nothing is lost: the lease runs out, and somebody goes on from what is recorded.
            logger.exception("run %s stopped here; it is taken up again when its lease ends", claimed.run_id)

    async def _run(self, claimed: Claim, sink: DatabaseSink) -> None:
        execution: Execution | None = None
        if claimed.too_late:
            await sink.commit(_too_late(claimed))
            return
        children = DatabaseChildRuns(
            claimed, self._call, lambda: execution is None or execution.abandoned, self._parents
        )
        engine = WorkflowEngine(
            discover().registry,
            middleware=(plain_output,),
            secrets=EnvironmentProvider(claimed.tenant_slug),
            children=children,
            shared=self._shared[claimed.tenant_id],
        )
        recorded = await self._call(recorded_nodes, claimed.run_id)
        sink.restore(recorded)
        current_root.set(settings.PYFLOW_STORAGE_ROOT / str(claimed.tenant_id))
        current_policy.set(network_policy())
        try:
            plan = compile_stored(claimed.checksum, claimed.definition, engine.registry)
            execution = engine.start(
                plan,
                run_id=str(claimed.run_id),
                input=claimed.input if plan.version != 1 else None,
                initial_context={"trigger": claimed.input},
                recorded=recorded,
                signals=[signal for _, signal in await self._call(waiting_signals, [claimed.run_id])],
                lineage=claimed.lineage,
                sink=sink,
                park=True,
                begun_at=claimed.begun_at,
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
        elif result.state in (RunState.CANCELLED, RunState.TIMED_OUT):
            # Those of nodes that were under way in a process that died are waited for by nobody here.
            await self._call(partial(stop_children, parent_id=claimed.run_id))


@cache
def network_policy() -> NetworkPolicy:
    """What workflows of this installation may reach: the public internet and what the operator lists."""
    return NetworkPolicy.of(settings.PYFLOW_ALLOWED_NETWORKS, permit_private_networks=False)


def _too_late(claimed: Claim) -> Event:
    error = ErrorInfo("queue_timeout", "the run was not started within its `queue_timeout`", "TimeoutError", None)
    data = {"state": RunState.TIMED_OUT, "error": error.as_dict()}
    run_id, now = str(claimed.run_id), SystemClock().time()
    return Event(EventType.RUN_FAILED, run_id, claimed.workflow_name, 0, now, None, data)


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
