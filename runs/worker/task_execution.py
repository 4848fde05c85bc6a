"""Executes node tasks: attempts of nodes of runs that other processes execute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure

from pyflow.core.errors import PyFlowError
from pyflow.core.events import Event
from pyflow.core.ports import NullSink
from pyflow.core.result import NodeRun
from pyflow.execution.engine import RunRequest
from pyflow.execution.plan import compile_stored
from pyflow.execution.remote import lost
from pyflow.isolation.errors import describe_error
from runs.queue.leases import MAX_LOSSES
from runs.queue.node_tasks import (
    TaskClaim,
    claim_tasks,
    clear_losses_of_tasks,
    finish_task,
    release_tasks,
    renew_tasks,
    report_task,
    unclaimed_task_queues,
)
from runs.storage.reader import Call, Reader
from runs.storage.recorded import recorded_nodes
from runs.worker.engines import Engines
from runs.worker.run_values import RunValues
from runs.worker.secrets import RunSecrets
from runs.worker.sink import PROGRESS_SECONDS, progress_of
from secrets_vault.providers import secrets_of

logger = logging.getLogger(__name__)


class _Reports(NullSink):
    """Writes what the attempts of a task report of their progress, the last report of each second."""

    def __init__(self, write: Callable[[dict[str, Any]], Awaitable[object]]) -> None:
        self._write = write
        self._latest: dict[str, Any] | None = None
        self._writing: asyncio.Task[None] | None = None

    def emit(self, event: Event) -> None:
        self._latest = progress_of(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._work())

    def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()

    async def _work(self) -> None:
        while self._latest is not None:
            latest, self._latest = self._latest, None
            try:
                await self._write(latest)
            except DatabaseFailure as error:
                logger.warning("a report of progress is not written: %s", error)
            await asyncio.sleep(PROGRESS_SECONDS)


class TaskExecutor:
    """The node tasks of one executor process.

    ``call`` runs a function on its database thread, ``lease`` on the one for claims and renewals; ``vault`` is the one
    that looks secrets up, ``values`` the one that reads and writes large values; ``on_end`` is called when each ends.
    ``poison_runs``: see ``claim_tasks``.
    """

    def __init__(
        self,
        owner: str,
        queues: Collection[str] | None,
        call: Call,
        lease: Call,
        engines: Engines,
        vault: Reader,
        values: Reader,
        on_end: Callable[[], None],
        wake_worker: Callable[[str], None],
        *,
        poison_runs: bool,
    ) -> None:
        self._owner = owner
        self._queues = queues
        self._call = call
        self._lease = lease
        self._engines = engines
        self._vault = vault
        self._values = values
        self._on_end = on_end
        self._wake_worker = wake_worker
        self._poison_runs = poison_runs
        self._sweep_at = 0.0
        self.active: dict[UUID, asyncio.Task[None]] = {}
        #: Those that others have taken over, until they have ended here: they may come here once more.
        self._lost: set[UUID] = set()

    async def claim(self, limit: int) -> int:
        """Begin up to ``limit`` tasks; returns how many."""
        taken: list[tuple[TaskClaim, dict[str, NodeRun]]] = await self._lease(self._take, limit)
        self._lost &= self.active.keys()
        for work, recorded in taken:
            task = asyncio.create_task(self._execute(work, recorded))
            self.active[work.task_id] = task
            task.add_done_callback(lambda _, task_id=work.task_id: self._done(task_id))  # type: ignore[misc]
        return len(taken)

    async def renew(self) -> None:
        """Extend the leases. What is not held any more is cancelled: another executes it, or nobody waits for it."""
        asked = dict(self.active)
        kept = await self._lease(renew_tasks, self._owner, list(asked)) if asked else set()
        for task_id in asked.keys() - kept:
            asked[task_id].cancel()
        await self._clear_losses(asked.keys() - kept)

    async def release(self, ids: Collection[UUID]) -> None:
        """Hand tasks back unfinished."""
        if ids:
            await self._clear_losses(set(ids) - await self._lease(release_tasks, self._owner, ids))

    async def _clear_losses(self, ids: Collection[UUID]) -> None:
        """Take the loss of tasks back that others have taken over, once for each."""
        lost = set(ids) - self._lost
        self._lost |= lost
        if lost:
            await self._lease(clear_losses_of_tasks, lost)

    def _take(self, limit: int) -> list[tuple[TaskClaim, dict[str, NodeRun]]]:
        overdue = time.monotonic() >= self._sweep_at
        if overdue:
            self._sweep_at = time.monotonic() + settings.PYFLOW_SWEEP_SECONDS
            for queue in unclaimed_task_queues() - set(self._queues) if self._queues is not None else ():
                self._wake_worker(queue)
        active = list(self.active)
        claims = claim_tasks(self._owner, limit, self._queues, active, overdue=overdue, poison_runs=self._poison_runs)
        recorded = recorded_nodes({taken.run.run_id for taken in claims}) if claims else {}
        return [(taken, recorded[taken.run.run_id]) for taken in claims]

    async def _execute(self, taken: TaskClaim, recorded: dict[str, NodeRun]) -> None:
        claimed = taken.run
        engine = self._engines.enter(claimed)
        plan = compile_stored(claimed.checksum, lambda: claimed.definition, engine.registry)
        node = plan.nodes[plan.by_id[taken.node_id]]
        if taken.losses >= MAX_LOSSES or (taken.losses and node.definition.on_lost == "fail"):
            await self._call(finish_task, taken, [lost() for _ in taken.places])
            return
        source = secrets_of(claimed.tenant_id, claimed.tenant_slug)
        secrets = RunSecrets(source, self._vault.submit, claimed.secrets_used)
        values = RunValues(claimed, self._values.submit)
        try:
            input = claimed.input if claimed.input_ref is None else await values.load(claimed.input_ref)
            await values.fill(recorded)
        except PyFlowError as error:
            await self._call(finish_task, taken, [{"error": describe_error(error)} for _ in taken.places])
            return
        request = RunRequest(
            plan,
            run_id=str(claimed.run_id),
            input=input,
            recorded=recorded,
            lineage=claimed.lineage,
            begun_at=claimed.begun_at,
        )
        reports = _Reports(lambda progress: self._call(report_task, taken, progress))
        attempts = engine.attempts(request, replace(engine.services, secrets=secrets, sink=reports))
        await secrets.mask_with(attempts.context.redactor)
        try:
            executed = await attempts.execute(taken.node_id, taken.places)
        finally:
            reports.close()
        outcomes = [await values.send(outcome) | {"secrets": secrets.marks} for outcome in executed]
        if not await self._call(finish_task, taken, outcomes):
            logger.warning("fenced: task %s belongs to another process now", taken.task_id)
            await self._clear_losses([taken.task_id])

    def _done(self, task_id: UUID) -> None:
        task = self.active.pop(task_id)
        self._on_end()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s stopped here; it is taken up again when its lease ends", task_id, exc_info=error)
