"""Executes runs: claims them in batches and drives many of them on one event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure  # InterfaceError is one, yet no DatabaseError

from plumbing.database.dialect import is_postgresql
from pyflow.core.ids import new_id
from pyflow.core.ports import Subscription
from pyflow.core.suspension import Signal
from pyflow.isolation.node_exit import know_signal_handlers
from pyflow.isolation.threads import NodeThreads
from runs.errors import AlreadyActiveError
from runs.notify.current import notifications as notifications_of_process
from runs.notify.notifications import PASS_ON_SECONDS, ExecutorCallbacks, Notifications
from runs.queue.fair_share import queues_with_room
from runs.queue.leases import (
    Claims,
    Lease,
    claim,
    clear_losses,
    held_by,
    poison_runs_wait,
    release,
    renew,
    trusted_seconds,
    unclaimed_queues,
)
from runs.queue.node_tasks import drop_stale_tasks, poison_tasks_wait
from runs.queue.signals import waiting_signals
from runs.queue.slots import reconcile
from runs.services.end import end_unstarted
from runs.services.stop_children import stop_orphans
from runs.storage.reader import Reader
from runs.storage.recorded import recorded_nodes
from runs.storage.writer import GroupWriter
from runs.worker.delivery import Delivery
from runs.worker.engines import Engines
from runs.worker.leaks import leaks
from runs.worker.quarantine import Quarantine
from runs.worker.run_execution import RunExecution, Shared, Work
from runs.worker.task_execution import TaskExecutor
from runs.worker.wakeups import LONGEST_GATHERING, WakeUps

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


#: How long what is cancelled may take to end when a process hands its runs back. Seconds.
HAND_BACK_SECONDS = 5.0
#: After so long, leases of runs that other transactions had locked are renewed again. Seconds.
BUSY_SECONDS = 0.2
#: So many threads that never came back, and the process is replaced.
MAX_GIVEN_UP = 16
#: Timers of parked runs beyond this are left to the sweeper. Seconds.
LONGEST_TIMER = 60.0


class RunExecutor:
    """One process's part in executing runs.

    ``drain`` works until nothing is left to claim; ``serve`` goes on until ``stop``. Both renew the leases of what
    they execute. What they cannot finish is handed back, or taken over by others when its lease runs out.

    ``queues``: whose runs it executes; ``None``: all. ``linger``: how long ``drain`` stays after the last run, so that
    the next one finds it awake. Seconds. ``poison_runs``: this is a `quarantine`, which executes one run at a time.
    """

    def __init__(
        self,
        queues: Collection[str] | None = None,
        *,
        linger: float = 0.0,
        poison_runs: bool = False,
        notifications: Notifications | None = None,
    ) -> None:
        # Fields are owned by the event loop's thread, unless a comment says otherwise.
        #: The name under which this executor holds leases; never changes.
        self.owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id()}"
        self._queues = queues
        self._linger = linger
        self._notifications = notifications or notifications_of_process()
        self._quarantine = None if poison_runs else Quarantine(queues)
        #: The runs that are executed here, from their claim to their end.
        self._active: dict[UUID, RunExecution] = {}
        #: How often a run was refused because it is executed here.
        self.refused = 0
        #: The tenants of which a run has left since the last claim: others of theirs may be executed, in any queue.
        self._left: set[UUID] = set()
        #: Runs that had news while the claim of them was under way, so that they were not active yet.
        self._early_news: set[UUID] = set()
        #: What each run awaits while it executes. Those take no place, or they could keep out what they wait for.
        self._waiting: Counter[UUID] = Counter()
        self._engines = Engines(self._call)
        #: Leases that were not renewed in time: their runs are handed back, or others have them by now. Each names its
        #: epoch: this executor may have claimed the run again since.
        self._lapsed: set[Lease] = set()
        #: Persists outcomes and events; has a thread and a connection of its own, as each of the readers below.
        self._writer = GroupWriter()
        #: For what runs ask. Claims, renewals and what is asked about slots do not queue behind it (SQLite: its writers
        #: take turns anyway), nor do secrets and large values.
        self._reader = Reader()
        separate = is_postgresql()
        self._leases = Reader() if separate else self._reader
        self._slots = Reader() if separate else self._reader
        self._vault = Reader()
        self._values = Reader()
        #: The threads of nodes that block.
        self._threads = NodeThreads()
        #: The loop of ``serve`` or ``drain``. Set before there is a subscription, and read by any thread.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeups = WakeUps()
        self._shared = Shared(
            call=self._call,
            call_slots=partial(self._call_on, self._slots),
            writer=self._writer,
            engines=self._engines,
            vault=self._vault,
            values=self._values,
            wakeups=self._wakeups,
            waiting=self._waiting,
            look_at=self._look_at,
            lapsed=self._lapsed.add,
        )
        serving = (self._call, self._lease, self._engines, self._vault, self._values, self._wakeups.wake)
        wake_worker = self._notifications.wake_worker
        self._delivery = Delivery(self._active, self._wakeups, self._call)
        self._tasks = TaskExecutor(self.owner, queues, *serving, wake_worker, poison_runs=poison_runs)
        #: Set by any thread.
        self._stopping = False
        self._is_fetching = False
        self._is_turn_of_tasks = False
        self._is_leaking = False
        #: When to look for what others left behind, and when another executor may be woken (monotonic seconds).
        self._sweep_at = 0.0
        self._pass_on_at = 0.0

    async def drain(self, only: UUID | None = None) -> None:
        """Execute what can be claimed (or just the run ``only``) until there is nothing left."""
        await self._run(forever=False, only=only)

    async def serve(self) -> None:
        """Execute runs as they come, until ``stop``."""
        await self._run(forever=True)

    def wake(self) -> None:
        """Look for work and news; from any thread."""
        self._from_any_thread(self._wakeups.note_gap)

    def stop(self) -> None:
        """Claim nothing more and hand back what is not finished; from any thread."""
        self._stopping = True
        self.wake()

    @property
    def is_worn(self) -> bool:
        """Return whether nodes have left so much behind that the process had better be replaced."""
        return self._threads.given_up >= MAX_GIVEN_UP or self._is_leaking

    async def _run(self, *, forever: bool, only: UUID | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(self._threads)
        know_signal_handlers()
        self._writer.start()
        heartbeat = self._start_heartbeat()
        subscription = self._subscribe()
        try:
            idle_since = time.monotonic()
            while not self._stopping:
                self._wakeups.clear()
                heartbeat = _restarted(heartbeat, self._start_heartbeat)
                self._writer.check()
                is_due = self._wakeups.is_claim_due or only is not None or time.monotonic() >= self._sweep_at
                if self.is_worn and not forever:
                    if not self._active and not self._tasks.active:
                        break  # whoever started this replaces the process
                    is_due = False
                claimed = await self._fetch(only) if is_due else 0
                await self._deliver()
                if claimed or self._active or self._tasks.active or self._is_quarantine_busy:
                    idle_since = time.monotonic()
                elif not forever and time.monotonic() - idle_since >= self._linger:
                    # A notification that only this process received must not be lost: look again after the last run.
                    subscription.close()
                    if not await self._fetch(only):
                        break
                    subscription = self._subscribe()
                if not self._wakeups.is_claim_due or self._room() <= 0:
                    await self._wakeups.wait(settings.PYFLOW_SWEEP_SECONDS)
        finally:
            await _end(heartbeat)
            subscription.close()
            await self._shut_down()

    async def _shut_down(self) -> None:
        """Hand unfinished runs back, store what is pending, and end the threads."""
        await self._hand_back()
        await self._writer.stop()
        for reader in (self._leases, self._slots, self._reader, self._vault, self._values):
            reader.stop()
        self._engines.close()

    def _start_heartbeat(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._heartbeat())

    def _subscribe(self) -> Subscription:
        callbacks = ExecutorCallbacks(
            queued=partial(self._from_any_thread, self._wakeups.note_queued),
            news=partial(self._from_any_thread, self._note_news),
            missed=self.wake,
        )
        return self._notifications.subscribe_executor(self._queues, callbacks)

    def _from_any_thread(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function`` on the event loop soon, if there is one."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(function, *args)

    async def _fetch(self, only: UUID | None) -> int:
        """Claim runs and node tasks for the free places and begin to execute them; return how many."""
        free = self._room()
        if free <= 0:
            return 0
        asked = time.monotonic()
        overdue = asked >= self._sweep_at
        self._wakeups.may_claim = False  # what is queued from here on may be too late for this claim
        left, self._left = self._left, set()
        self._is_fetching = True
        self._early_news.clear()
        try:
            await self._give_up_lapsed()  # or we could take one of them over from ourselves
            part = 0 if only is not None else self._part_for_tasks(free)
            tasks = await self._tasks.claim(part) if part else 0
            claims, taken = await self._lease(self._claim, free - tasks, only, overdue, left)
        except DatabaseFailure as error:
            logger.warning("cannot claim runs, trying again: %s", error)
            self._left |= left
            return 0
        finally:
            self._is_fetching = False
        if overdue:
            self._sweep_at = 0.0 if claims.overdue_left else asked + settings.PYFLOW_SWEEP_SECONDS
            self._is_leaking = leaks()
        for work in taken:
            if self._stopping:  # asked to while the claim was under way
                self._lapsed.add((work.claim.run_id, work.claim.epoch))
                continue
            try:
                self._execute(work, asked + trusted_seconds())
            except AlreadyActiveError as error:
                self.refused += 1
                logger.error("%s It is refused, as %d were before.", error, self.refused - 1)  # noqa: TRY400 - no bug
        if only is None and tasks == part and len(taken) + tasks < free:
            tasks += await self._fetch_more_tasks(free - len(taken) - tasks)
        if claims.is_contended and self._loop is not None:
            self._loop.call_later(LONGEST_GATHERING, self._wakeups.note_queued)
        self._wakeups.may_claim |= claims.overdue_left
        if len(taken) + tasks < free:
            return len(taken) + tasks
        self._wakeups.may_claim = True  # there may be more than there were places for
        if asked >= self._pass_on_at:
            self._pass_on_at = asked + PASS_ON_SECONDS
            for queue in self._queues or ("",):
                self._notifications.wake_worker(queue)
        return len(taken) + tasks

    def _part_for_tasks(self, free: int) -> int:
        """Return how many places node tasks may have that runs might want, too: half, of an odd place every other one.

        So neither the many tasks of one run keep other runs from being started, nor the other way round.
        """
        self._is_turn_of_tasks = not self._is_turn_of_tasks
        return (free + self._is_turn_of_tasks) // 2

    async def _fetch_more_tasks(self, free: int) -> int:
        """Begin tasks in the places that no run wanted."""
        try:
            return await self._tasks.claim(free)
        except DatabaseFailure as error:
            logger.warning("cannot claim node tasks, trying again: %s", error)
            return 0

    def _execute(self, work: Work, trusted_until: float) -> None:
        """Execute a claimed run. Raises ``AlreadyActiveError`` if it is executed here."""
        run_id, epoch = work.claim.run_id, work.claim.epoch
        if run_id in self._active:
            if self._active[run_id].epoch != epoch:
                self._active[run_id].give_up()  # nothing of it counts any more
                self._lapsed.add((run_id, epoch))  # so it is handed back, and claimed again
            raise AlreadyActiveError(f"Run {run_id} was claimed (epoch {epoch}) by the executor that executes it.")
        self._active[run_id] = run = RunExecution(work, self._shared, trusted_until)
        run.task.add_done_callback(lambda _: self._finish(run))
        if run_id in self._early_news:
            self._wakeups.note_news()

    def _claim(self, limit: int, only: UUID | None, overdue: bool, left: Collection[UUID]) -> tuple[Claims, list[Work]]:
        """Claim runs, with what is on record of them; now and then, look for others on behalf of their workers.

        ``left``: the tenants of which runs are executed here no more.
        """
        if overdue:
            end_unstarted()
            stop_orphans()
            reconcile()
        if overdue and self._queues is not None:
            for queue in unclaimed_queues() - set(self._queues):
                self._notifications.wake_worker(queue)
        # Of those that have lapsed, some may be locked by others, and not handed back yet.
        poison_runs, active = self._quarantine is None, [*self._active, *(run_id for run_id, _ in self._lapsed)]
        # A suspect that waits for node tasks leaves room for them, not for another run that could take it with it.
        room = 0 if poison_runs and active else limit
        claims = claim(self.owner, room, only, active, queues=self._queues, overdue=overdue, poison_runs=poison_runs)
        self._pass_on(left, is_full=bool(claims) and len(claims) == limit, overdue=overdue)
        if overdue and only is None:
            self._open_quarantine()
        if not claims:
            return claims, []
        run_ids = [taken.run_id for taken in claims]
        signals: dict[UUID, list[Signal]] = defaultdict(list)
        for run_id, signal in waiting_signals(run_ids):
            signals[run_id].append(signal)
        begun = {taken.run_id: taken.epoch for taken in claims if not taken.is_new}
        recorded = recorded_nodes(begun) if begun else {}
        if begun:
            drop_stale_tasks(begun)
        return claims, [Work(taken, recorded.get(taken.run_id, {}), signals[taken.run_id]) for taken in claims]

    def _pass_on(self, left: Collection[UUID], *, is_full: bool, overdue: bool) -> None:
        """Notify other executors of runs that this one leaves to them.

        Where runs of tenants with a limit have ended, others of theirs may be executed, which may be in any queue.
        """
        if self._queues is None:
            return
        queues = queues_with_room(left)
        if is_full and overdue:  # all that was due or lost is queued by now
            queues |= set(self._queues)
        for queue in queues if is_full else queues - set(self._queues):
            self._notifications.notify_queued_now(queue)

    def _open_quarantine(self) -> None:
        if self._quarantine is not None and (poison_runs_wait(self._queues) or poison_tasks_wait(self._queues)):
            self._quarantine.open()

    def _room(self) -> int:
        """Return how many more runs and tasks may be claimed."""
        places = 1 if self._quarantine is None else int(settings.PYFLOW_CONCURRENT_RUNS)
        return places - (len(self._active) - len(self._waiting) + len(self._tasks.active))

    @property
    def _is_quarantine_busy(self) -> bool:
        return self._quarantine is not None and self._quarantine.is_busy

    def _finish(self, run: RunExecution) -> None:
        """Free the place of a run whose execution has ended."""
        del self._active[run.run_id]
        self._left.add(run.tenant_id)
        if run.task.cancelled():
            run.lapse()  # whoever did it: it is handed back, if it is still ours
        self._wakeups.gather(self._room(), settings.PYFLOW_CONCURRENT_RUNS)

    def _note_news(self, run_id: UUID) -> None:
        """Deliver soon if the run is executed here, or may be one of those that are just being claimed."""
        if run_id in self._active:
            self._wakeups.note_news()
        elif self._is_fetching:
            self._early_news.add(run_id)

    async def _deliver(self) -> None:
        """Deliver news to active runs, if there may be any."""
        await self._delivery.deliver()

    async def _heartbeat(self) -> None:
        """Renew the leases of runs and tasks, three times in their period, and give up those that others have."""
        pause = settings.PYFLOW_LEASE_SECONDS / 3
        busy: set[UUID] = set()
        while True:
            await asyncio.sleep(min(BUSY_SECONDS, pause) if busy else pause)
            if not self._active and not self._lapsed and not self._tasks.active:
                continue
            asked, at = dict(self._active), time.monotonic()
            leases = {run.lease for run in asked.values()}
            try:
                kept = await asyncio.wait_for(self._lease(renew, self.owner, leases), trusted_seconds() - pause)
                left = asked.keys() - kept
                # Another transaction has locked them; as soon as it ends they are renewed.
                locked = {asked[run_id].lease for run_id in left}
                busy = await self._lease(held_by, self.owner, locked) if left else set()
                await self._give_up_lapsed()
                await self._tasks.renew()
            except (DatabaseFailure, TimeoutError) as error:
                logger.warning("cannot renew leases: %s", str(error) or "the database does not answer")
                self._drop_lapsed()
                continue
            for run_id in kept & self._active.keys():
                self._active[run_id].trusted_until = at + trusted_seconds()
            # Of those that were asked for: what was claimed meanwhile is not among the kept ones, yet ours.
            for run_id in left - busy:
                task = asked[run_id].task
                if not task.done() and not task.cancelling():
                    logger.warning("fenced: run %s belongs to another process now", run_id)
                    asked[run_id].give_up()

    async def _give_up_lapsed(self) -> None:
        if lapsed := set(self._lapsed):
            released, busy = await self._give_back(lapsed)
            await self._lease(clear_losses, {run_id for run_id, _ in lapsed - busy} - released)
            self._lapsed -= lapsed - busy

    async def _give_back(self, leases: Collection[Lease], within: float = 0.0) -> tuple[set[UUID], set[Lease]]:
        """Hand runs back; which were, and the leases that other transactions have locked, also ``within`` so long."""
        until = time.monotonic() + within
        released: set[UUID] = set()
        left = set(leases)
        while True:
            released |= await self._lease(release, self.owner, left)
            left = {lease for lease in left if lease[0] not in released}
            held = await self._lease(held_by, self.owner, left) if left else set()
            left = {lease for lease in left if lease[0] in held}
            if not left or time.monotonic() >= until:
                return released, left
            await asyncio.sleep(BUSY_SECONDS)

    def _drop_lapsed(self) -> None:
        for run_id, run in self._active.items():
            if not run.is_trusted:
                logger.warning("the lease of run %s could not be renewed in time; it is left to others", run_id)
                run.give_up()

    async def _hand_back(self) -> None:
        """Cancel what is executed here, release its leases and wake other executors for it."""
        if self._quarantine is not None:
            self._quarantine.close()
        left, tasks = {run_id: run.task for run_id, run in self._active.items()}, dict(self._tasks.active)
        leases = {run.lease for run in self._active.values()}
        tenants = {run.tenant_id for run in self._active.values()}
        # One whose end is on record releases its slot and stops its children first.
        ending = {run_id for run_id, run in self._active.items() if run.has_ended}
        for task in (*(task for run_id, task in left.items() if run_id not in ending), *tasks.values()):
            task.cancel()
        if left or tasks:
            await asyncio.wait([*left.values(), *tasks.values()], timeout=HAND_BACK_SECONDS)
        await self._tasks.release(list(tasks))
        if left or self._lapsed:
            released, busy = await self._give_back(leases | self._lapsed, HAND_BACK_SECONDS)
            await self._lease(clear_losses, {run_id for run_id, _ in self._lapsed - busy} - released)
            logger.info("handed %d unfinished runs back", len(released))
            for queue in self._queues or ("",):
                self._notifications.wake_worker(queue)
            await self._lease(partial(self._pass_on, tenants, is_full=False, overdue=False))
        if self._quarantine is not None:
            await self._call(self._quarantine.wait, HAND_BACK_SECONDS)

    async def _lease(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await self._call_on(self._leases, function, *args)

    async def _call(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await self._call_on(self._reader, function, *args)

    async def _call_on(self, reader: Reader, function: Callable[..., ResultT], *args: Any) -> ResultT:
        return await asyncio.wrap_future(reader.submit(function, *args))

    def _look_at(self, wake_at: float | None) -> None:
        """Claim a run that waits when its time has come, to the moment, if this process is still there."""
        left = math.inf if wake_at is None else wake_at - time.time()
        if self._loop is not None and left < LONGEST_TIMER:
            self._loop.call_later(max(0.0, left), self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep_at = 0.0
        self._wakeups.wake()


def _restarted(task: asyncio.Task[None], begin: Callable[[], asyncio.Task[None]]) -> asyncio.Task[None]:
    """The task that an executor cannot do without: a new one if it has broken off."""
    if not task.done():
        return task
    if not task.cancelled() and task.exception() is None:
        return task  # it had nothing to do
    logger.error("a task of the executor broke off, and begins again", exc_info=_error_of(task))
    return begin()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
