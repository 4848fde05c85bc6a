"""Executes runs: claims them in batches and drives many of them on one event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure  # InterfaceError is one, yet no DatabaseError

from pyflow.core.admission import displaced
from pyflow.core.engine import Execution
from pyflow.core.errors import PyFlowError
from pyflow.core.ids import new_id
from pyflow.core.plan import compile_stored
from pyflow.core.result import NodeRun
from pyflow.core.shared import RunPutDownError
from pyflow.core.states import RunState
from pyflow.core.suspension import Signal
from pyflow.core.threads import NodeThreads
from runs import dispatch
from runs.bell import Bell
from runs.children import DatabaseChildRuns
from runs.concurrency import DatabaseSlots
from runs.engines import Engines
from runs.errors import FencedError, LeaseLapsedError
from runs.hints import listen
from runs.keeping import RunValues
from runs.leases import (
    MAX_LOSSES,
    Claim,
    absolve,
    claim,
    release,
    renew,
    suspects_wait,
    trusted_seconds,
    unclaimed_queues,
)
from runs.node_tasks import DatabaseRemoteNodes, delete_tasks, drop_stale_tasks, read_outcomes, suspect_tasks_wait
from runs.quarantine import Quarantine
from runs.reader import Reader
from runs.secrets import RunSecrets
from runs.services import QUEUE_TIMEOUT, WORKER_LOST, end_run, end_unstarted, news, stop_children
from runs.slots import displaced_runs, leave_run, reconcile, told_of
from runs.stores import DatabaseSink, recorded_nodes, waiting_signals
from runs.task_execution import TaskExecutor
from runs.writer import GroupWriter
from secrets_vault.providers import secrets_of

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
    the next one finds it awake. Seconds. ``suspects``: this is a `quarantine`, which executes one run at a time.
    """

    def __init__(self, queues: Collection[str] | None = None, *, linger: float = 0.0, suspects: bool = False) -> None:
        self.owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id()}"
        self._queues = queues
        self._linger = linger
        self._quarantine = None if suspects else Quarantine(queues)
        self._active: dict[UUID, asyncio.Task[None]] = {}
        self._executions: dict[UUID, tuple[Execution, DatabaseChildRuns]] = {}
        self._sinks: dict[UUID, DatabaseSink] = {}
        #: What the runs here have executed elsewhere.
        self._remotes: dict[UUID, DatabaseRemoteNodes] = {}
        self._slots: dict[UUID, DatabaseSlots] = {}
        #: Runs that execute while they await child runs, node tasks or slots, and how many. They take no place, or they
        #: could keep out what they wait for.
        self._parents: Counter[UUID] = Counter()
        self._engines = Engines(self._call)
        #: Until when each lease is relied on (monotonic seconds), and the runs whose leases were not renewed in time:
        #: they are handed back, or others have them by now.
        self._trusted: dict[UUID, float] = {}
        self._lapsed: set[UUID] = set()
        self._writer = GroupWriter()
        # One thread, so one connection, for claims and reads.
        self._reader = Reader()
        self._threads = NodeThreads()
        # Nodes wait for secrets on the event loop: they must not queue behind other reads.
        self._vault = Reader()
        # Nor does a large value that is written hold up anything else.
        self._values = Reader()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = Bell()
        serving = (self._call, self._engines, self._vault, self._values, self._bell.wake)
        self._tasks = TaskExecutor(self.owner, queues, *serving, suspects=suspects)
        self._stopping = False
        #: When to look for what others left behind, when for news anyway, and when another executor may be woken
        #: (monotonic seconds).
        self._sweep_at = 0.0
        self._news_at = 0.0
        self._pass_on_at = 0.0

    async def drain(self, only: UUID | None = None) -> None:
        """Execute what can be claimed (or just the run ``only``) until there is nothing left."""
        await self._work(forever=False, only=only)

    async def serve(self) -> None:
        """Execute runs as they come, until ``stop``."""
        await self._work(forever=True)

    def ring(self) -> None:
        """There is work, or news; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.look)

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
                self._bell.begin()
                is_due = self._bell.is_claim_due or only is not None or time.monotonic() >= self._sweep_at
                claimed = await self._claim(only) if is_due else 0
                await self._deliver()
                if claimed or self._active or self._tasks.active or self._is_quarantine_busy:
                    idle_since = time.monotonic()
                elif not forever and time.monotonic() - idle_since >= self._linger:
                    # A ring that only this process heard must not be lost: look again after the last of them.
                    await _end(listening)
                    if not await self._claim(only):
                        break
                    listening = self._listen()
                if not self._bell.is_claim_due or self._room() <= 0:
                    await self._bell.rest(settings.PYFLOW_SWEEP_SECONDS)
        finally:
            await _end(renewing)
            await _end(listening)
            await self._hand_back()
            await self._writer.stop()
            self._reader.stop()
            self._vault.stop()
            self._values.stop()

    def _listen(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(listen(self._hear, self._bell.ring, self._bell.look, self._queues or ("",)))

    async def _claim(self, only: UUID | None) -> int:
        free = self._room()
        if free <= 0:
            return 0
        asked = time.monotonic()
        overdue = asked >= self._sweep_at
        self._bell.rung = False  # what is rung from here on may be too late for this claim
        try:
            await self._give_up_lapsed()  # or we could take one of them over from ourselves
            tasks = 0 if only is not None else await self._tasks.claim(free)
            taken = await self._call(self._take, free - tasks, only, overdue)
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
        if len(taken) + tasks < free:
            return len(taken) + tasks
        self._bell.rung = True  # there may be more than there were places for
        if asked >= self._pass_on_at:
            self._pass_on_at = asked + dispatch.PASS_ON_SECONDS
            for queue in self._queues or ("",):
                dispatch.wake(queue)
        return len(taken) + tasks

    def _take(self, limit: int, only: UUID | None, overdue: bool) -> list[_Work]:
        """Claim runs, with what is on record of them; now and then, look for others on behalf of their workers."""
        if overdue:
            end_unstarted()
            reconcile()
        if overdue and self._queues is not None:
            for queue in unclaimed_queues() - set(self._queues):
                dispatch.wake(queue)
        suspects, active = self._quarantine is None, list(self._active)
        # A suspect that waits for node tasks leaves room for them, not for another run that could take it with it.
        room = 0 if suspects and active else limit
        claims = claim(self.owner, room, only, active, queues=self._queues, overdue=overdue, suspects=suspects)
        if overdue and only is None:
            self._open_quarantine()
        if not claims:
            return []
        run_ids = [taken.run_id for taken in claims]
        signals: dict[UUID, list[Signal]] = defaultdict(list)
        for run_id, signal in waiting_signals(run_ids):
            signals[run_id].append(signal)
        begun = {taken.run_id: taken.epoch for taken in claims if not taken.is_new}
        recorded = recorded_nodes(begun)
        drop_stale_tasks(begun)
        return [_Work(taken, recorded.get(taken.run_id, {}), signals[taken.run_id]) for taken in claims]

    def _open_quarantine(self) -> None:
        if self._quarantine is not None and (suspects_wait(self._queues) or suspect_tasks_wait(self._queues)):
            self._quarantine.open()

    def _room(self) -> int:
        """How many more runs and tasks may be claimed."""
        places = 1 if self._quarantine is None else int(settings.PYFLOW_CONCURRENT_RUNS)
        return places - (len(self._active) - len(self._parents) + len(self._tasks.active))

    @property
    def _is_quarantine_busy(self) -> bool:
        return self._quarantine is not None and self._quarantine.is_busy

    def _done(self, run_id: UUID) -> None:
        self._active.pop(run_id, None)
        self._executions.pop(run_id, None)
        self._sinks.pop(run_id, None)
        self._remotes.pop(run_id, None)
        self._slots.pop(run_id, None)
        self._trusted.pop(run_id, None)
        self._bell.gather(self._room(), settings.PYFLOW_CONCURRENT_RUNS)

    def _hear(self, run_id: UUID) -> None:
        """There may be news of a run."""
        if run_id in self._active:
            self._bell.tell()

    async def _deliver(self) -> None:
        """Hand on what was said to the runs that are being executed here, and what happened to their children."""
        now = time.monotonic()
        if not self._bell.told and now < self._news_at:
            return
        self._bell.told = len(self._executions) < len(self._active)  # those that are only beginning are told afterwards
        self._news_at = now + settings.PYFLOW_SWEEP_SECONDS
        if not self._executions:
            return
        parents = {child: run_id for run_id, (_, children) in self._executions.items() for child in children.awaited}
        awaited = {task_id: remote for remote in self._remotes.values() for task_id in remote.awaited}
        try:
            found = await self._call(news, list(self._executions), list(parents))
            for run_id, (execution, _) in self._executions.items():
                if run_id in found.paused:
                    execution.pause()  # before an outcome is handed on that would let another node start
                elif run_id not in found.cancelled:
                    execution.resume()
            await self._settle(awaited)
            displaced_keys = await self._look_after_slots(found.cancelled)
        except DatabaseFailure as error:
            logger.warning("cannot look for signals, trying again: %s", error)
            self._bell.told = True
            return
        for run_id, signal in found.signals:
            if run_id in self._executions:
                self._executions[run_id][0].signal(signal.name, signal.payload, signal.id)
        for run_id in found.cancelled:
            if run_id in self._executions:
                self._stop(self._executions[run_id][0], displaced_keys.get(run_id))
        for child_id in found.children:
            self._child_ended(parents[child_id], child_id)
        for run_id in found.ended:
            # Its end is recorded, and if it was not this execution that did it, nothing of it counts any more.
            if run_id in self._executions and not self._sinks[run_id].has_ended:
                self._active[run_id].cancel()

    async def _settle(self, awaited: Mapping[UUID, DatabaseRemoteNodes]) -> None:
        outcomes = await self._call(read_outcomes, list(awaited)) if awaited else {}
        for task_id, told in outcomes.items():
            await awaited[task_id].settle(task_id, told)
        if outcomes:
            await self._call(delete_tasks, list(outcomes))

    async def _look_after_slots(self, cancelled: Collection[UUID]) -> dict[UUID, str]:
        """Tell nodes about their slots; the keys of those of the cancelled runs that are to make room."""
        tickets = [ticket for slots in self._slots.values() for ticket in slots.tickets]
        found = await self._call(told_of, tickets) if tickets else {}
        for slots in self._slots.values() if found else ():
            slots.settle(found)
        return await self._call(displaced_runs, cancelled) if cancelled else {}

    @staticmethod
    def _stop(execution: Execution, key: str | None) -> None:
        """Because somebody asked for it or, with a ``key``, to make room for a newer run of that key."""
        if key is None:
            execution.cancel()
        else:
            execution.give_way(displaced(key))

    def _child_ended(self, run_id: UUID, child_id: UUID) -> None:
        if run_id in self._executions:
            execution, children = self._executions[run_id]
            if not children.ended(child_id):
                execution.child_ended(str(child_id))

    async def _renew(self) -> None:
        pause = settings.PYFLOW_LEASE_SECONDS / 3
        while True:
            await asyncio.sleep(pause)
            if not self._active and not self._lapsed and not self._tasks.active:
                continue
            asked, at = dict(self._active), time.monotonic()
            try:
                kept = await asyncio.wait_for(self._call(renew, self.owner, list(asked)), trusted_seconds() - pause)
                await self._give_up_lapsed()
                await self._tasks.renew()
            except (DatabaseFailure, TimeoutError) as error:
                logger.warning("cannot renew leases: %s", str(error) or "the database does not answer")
                self._drop_lapsed()
                continue
            self._trusted.update(dict.fromkeys(kept & self._active.keys(), at + trusted_seconds()))
            # Of those that were asked for: what was claimed meanwhile is not among the kept ones, yet ours.
            for run_id in asked.keys() - kept:
                if not asked[run_id].done() and not asked[run_id].cancelling():
                    logger.warning("fenced: run %s belongs to another process now", run_id)
                    self._lapsed.add(run_id)
                    asked[run_id].cancel()

    async def _give_up_lapsed(self) -> None:
        if lapsed := set(self._lapsed):
            released = await self._call(release, self.owner, lapsed)
            await self._call(absolve, lapsed - released)
            self._lapsed -= lapsed

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
        if self._quarantine is not None:
            self._quarantine.close()
        left, tasks = dict(self._active), dict(self._tasks.active)
        for task in (*left.values(), *tasks.values()):
            task.cancel()
        if left or tasks:
            await asyncio.wait([*left.values(), *tasks.values()], timeout=HAND_BACK_SECONDS)
        await self._tasks.release(list(tasks))
        if left or self._lapsed:
            released = await self._call(release, self.owner, [*left, *self._lapsed])
            await self._call(absolve, self._lapsed - released)
            logger.info("handed %d unfinished runs back", len(released))
            for queue in self._queues or ("",):
                dispatch.wake(queue)
        if self._quarantine is not None:
            await self._call(self._quarantine.wait, HAND_BACK_SECONDS)

    async def _call(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await asyncio.wrap_future(self._reader.submit(function, *args))

    async def _execute(self, work: _Work) -> None:
        run_id = work.claim.run_id
        source = secrets_of(work.claim.tenant_id, work.claim.tenant_slug)
        secrets = RunSecrets(source, self._vault.submit, work.claim.secrets_used)
        values = RunValues(work.claim, self._values.submit)
        sink = DatabaseSink(self._writer, work.claim, lambda: self._is_trusted(run_id), secrets, values)
        try:
            await self._run(work, sink, secrets, values)
        except LeaseLapsedError:
            logger.warning("run %s stopped here: its lease was not renewed in time", run_id)
            self._lapsed.add(run_id)
        except FencedError:
            logger.warning("fenced: run %s belongs to another process now", run_id)
            self._lapsed.add(run_id)
        except RunPutDownError as reason:
            logger.debug("%s", reason)
        except Exception:
            # Nothing is lost: the lease runs out, and somebody goes on from what is recorded.
            logger.exception("run %s stopped here; it is taken up again when its lease ends", run_id)
        finally:
            sink.close()

    async def _run(self, work: _Work, sink: DatabaseSink, secrets: RunSecrets, values: RunValues) -> None:
        claimed = work.claim
        if claimed.too_late:
            await self._call(partial(end_run, run_id=claimed.run_id, epoch=claimed.epoch, ending=QUEUE_TIMEOUT))
            return
        if claimed.losses >= MAX_LOSSES:
            logger.error("run %s was lost with %d executors in a row; it fails", claimed.run_id, claimed.losses)
            await self._call(partial(end_run, run_id=claimed.run_id, epoch=claimed.epoch, ending=WORKER_LOST))
            return
        if claimed.pause_requested and not claimed.cancel_requested:
            await sink.pause()
            return
        execution: Execution | None = None
        children = DatabaseChildRuns(
            claimed, self._call, lambda: execution is None or execution.abandoned, self._parents, secrets
        )
        engine = self._engines.enter(claimed)
        remote = self._remotes[claimed.run_id] = DatabaseRemoteNodes(
            claimed, self._call, self._parents, secrets, values, sink.log
        )
        slots = self._slots[claimed.run_id] = DatabaseSlots(claimed, self._call, self._parents)
        try:
            input = claimed.input if claimed.input_ref is None else await values.load(claimed.input_ref)
            await values.fill(work.recorded)
            sink.restore(work.recorded, input)
            plan = compile_stored(claimed.checksum, lambda: claimed.definition, engine.registry)
            execution = engine.start(
                plan,
                run_id=str(claimed.run_id),
                input=input if plan.version != 1 else None,
                initial_context={"trigger": input},
                recorded=work.recorded,
                signals=work.signals,
                lineage=claimed.lineage,
                sink=sink,
                children=children,
                secrets=secrets,
                park=True,
                begun_at=claimed.begun_at,
                remote=remote,
                slots=slots,
            )
        except PyFlowError as error:
            # Accepted once, but not runnable here and now: a plugin that was removed, say, or a large value is damaged.
            await sink.fail(error)
            return
        await secrets.mask_with(execution.context.redactor)
        if claimed.cancel_requested:
            keys = await self._call(displaced_runs, [claimed.run_id])
            self._stop(execution, keys.get(claimed.run_id))
        self._executions[claimed.run_id], self._sinks[claimed.run_id] = (execution, children), sink
        if self._bell.told:
            self._bell.wake()
        result = await execution.wait()
        self._executions.pop(claimed.run_id, None)
        if result.state is RunState.PAUSED:
            await sink.pause()
        elif result.state is RunState.WAITING:
            await sink.park(result.wake_at)
            self._look_at(result.wake_at)
            return
        if plan.run_concurrency is not None:
            await self._call(leave_run, claimed.run_id)
        if result.state in (RunState.CANCELLED, RunState.TIMED_OUT):
            # Those of nodes that were under way in a process that died are waited for by nobody here.
            await self._call(partial(stop_children, parent_id=claimed.run_id))

    def _look_at(self, wake_at: float | None) -> None:
        """Claim a run that waits when its time has come, to the moment, if this process is still there."""
        left = math.inf if wake_at is None else wake_at - time.time()
        if self._loop is not None and left < LONGEST_TIMER:
            self._loop.call_later(max(0.0, left), self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep_at = 0.0
        self._bell.wake()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
