"""Delivers news to the runs that an executor executes: signals, pauses, cancellations, ends of children and tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure

from pyflow.execution.engine import Execution
from runs.queue.node_tasks import delete_tasks, read_outcomes
from runs.queue.slots import displaced_runs, states_of_tickets
from runs.services.news import news
from runs.storage.reader import Call
from runs.worker.remote_nodes import DatabaseRemoteNodes
from runs.worker.run_execution import RunExecution
from runs.worker.wakeups import WakeUps

logger = logging.getLogger(__name__)


class Delivery:
    """Looks for news of the active runs of an executor and delivers them, on its event loop."""

    def __init__(self, active: Mapping[UUID, RunExecution], wakeups: WakeUps, call: Call) -> None:
        """``active`` changes with the executor's; ``call`` runs a function on its database thread."""
        self._active = active
        self._wakeups = wakeups
        self._call = call
        #: When to look although there was no notification (monotonic seconds).
        self._look_at = 0.0

    async def deliver(self) -> None:
        """Read the news of all active runs with one query and deliver them, if there may be any."""
        now = time.monotonic()
        if not self._wakeups.has_news and now < self._look_at:
            return
        running = self._under_way()
        self._wakeups.has_news = len(running) < len(self._active)  # for those that are only beginning: the next time
        self._look_at = now + settings.PYFLOW_SWEEP_SECONDS
        if not running:
            return
        parents = {child: run_id for run_id in running for child in self._active[run_id].children.awaited}
        awaited = {task_id: run.remote for run in self._active.values() for task_id in run.remote.awaited}
        try:
            found = await self._call(news, list(running), list(parents))
            for run_id in running.keys() & self._under_way().keys():
                if run_id in found.paused:
                    running[run_id].pause()  # before an outcome is delivered that would let another node start
                elif run_id not in found.cancelled:
                    running[run_id].resume()
            await self._settle_tasks(awaited)
            displaced_keys = await self._settle_slots(found.cancelled)
        except DatabaseFailure as error:
            logger.warning("cannot look for signals, trying again: %s", error)
            self._wakeups.has_news = True
            return
        running = self._under_way()  # runs that have ended meanwhile get nothing
        for run_id, signal in found.signals:
            if run_id in running:
                running[run_id].deliver(signal)
        for run_id in running.keys() & found.cancelled:
            self._active[run_id].stop(displaced_keys.get(run_id))
        for child_id in found.children:
            if parents[child_id] in running:
                self._active[parents[child_id]].child_ended(child_id)
        for run_id in running.keys() & found.ended:
            self._active[run_id].ended_elsewhere()

    def _under_way(self) -> dict[UUID, Execution]:
        """Return the executions that can receive news."""
        return {run_id: run.under_way for run_id, run in self._active.items() if run.under_way is not None}

    async def _settle_tasks(self, awaited: Mapping[UUID, DatabaseRemoteNodes]) -> None:
        """Deliver outcomes and progress of node tasks that other processes execute."""
        outcomes, reports = await self._call(read_outcomes, list(awaited)) if awaited else ({}, {})
        for task_id, progress in reports.items():
            awaited[task_id].report(task_id, progress)
        for task_id, outcome in outcomes.items():
            await awaited[task_id].settle(task_id, outcome)
        if outcomes:
            await self._call(delete_tasks, list(outcomes))

    async def _settle_slots(self, cancelled: Collection[UUID]) -> dict[UUID, str]:
        """Deliver slots to the nodes that wait for them; return the keys of the cancelled runs that make room."""
        sources = [run.slots for run in self._active.values()]
        tickets = [ticket for slots in sources for ticket in slots.tickets]
        found = await self._call(states_of_tickets, tickets) if tickets else {}
        for slots in sources if found else ():
            slots.settle(found)
        displaced: dict[UUID, str] = await self._call(displaced_runs, cancelled) if cancelled else {}
        return displaced
