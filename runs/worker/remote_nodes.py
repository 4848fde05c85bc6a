"""The node tasks of one claimed run: sends attempts to other workers and awaits their outcomes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any
from uuid import UUID

from pyflow.core.ids import new_uuid
from pyflow.execution.plan import PlannedNode
from pyflow.execution.remote import Outcome, Place, log_of, output_of
from pyflow.execution.run_log import LogLine
from runs.models import NodeTask
from runs.queue.leases import Claim
from runs.queue.node_tasks import delete_tasks, insert_tasks
from runs.storage.reader import Call, answered
from runs.worker.run_values import RunValues
from runs.worker.secrets import RunSecrets

#: Items of a fan-out that are asked for together make tasks of so many at most.
CHUNK = 20


class DatabaseRemoteNodes:
    """The ``RemoteNodes`` of one claimed run. ``call`` runs a function on the executor's database thread.

    ``waiting`` counts, for the executor, what each of its runs awaits from elsewhere. ``log`` keeps what they logged,
    ``report`` what a node says of its progress.
    """

    def __init__(
        self,
        claim: Claim,
        call: Call,
        waiting: Counter[UUID],
        secrets: RunSecrets,
        values: RunValues,
        log: Callable[[LogLine], None],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._values = values
        self._claim = claim
        self._call = call
        self._waiting = waiting
        self._secrets = secrets
        self._log = log
        self._report = report
        #: The node of each task, and the moment of the last report of its progress that was passed on.
        self._nodes_of: dict[UUID, tuple[str, str | None]] = {}
        self._asked: list[tuple[PlannedNode, Place, asyncio.Future[object]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        #: Those who wait for each task, in the order of its places.
        self.awaited: dict[UUID, list[asyncio.Future[object]]] = {}

    async def call(self, node: PlannedNode, place: Place) -> object:
        """Await an attempt that another worker executes. Those of one turn of the event loop are sent together."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._asked:
            sending = asyncio.ensure_future(self._send())
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        self._asked.append((node, place, future))
        self._waiting[self._claim.run_id] += 1
        try:
            return await future
        finally:
            self._waiting[self._claim.run_id] -= 1
            if not self._waiting[self._claim.run_id]:
                del self._waiting[self._claim.run_id]
            if future.cancelled():
                await asyncio.shield(self._forget())

    def report(self, task_id: UUID, progress: dict[str, Any]) -> None:
        """Pass on what a task reported of its progress, once."""
        node_id, at = self._nodes_of.get(task_id, ("", None))
        if task_id in self.awaited and at != progress["at"]:
            self._nodes_of[task_id] = node_id, progress["at"]
            self._report(node_id, progress)

    async def settle(self, task_id: UUID, outcomes: Sequence[Outcome]) -> None:
        """Hand the outcomes of a task to those who wait for them."""
        await self._secrets.adopt({mark for outcome in outcomes for mark in outcome.get("secrets", ())})
        for line in log_of(outcomes):
            self._log(line)
        self._nodes_of.pop(task_id, None)
        for future, outcome in zip(self.awaited.pop(task_id, ()), outcomes, strict=False):
            received = await self._values.receive(outcome)
            if not future.done():
                try:
                    future.set_result(output_of(received))
                except Exception as error:  # noqa: BLE001 - what the node raised, for whoever awaits the node
                    future.set_exception(error)

    async def _send(self) -> None:
        await asyncio.sleep(0)  # items that start together are asked for in the same turn
        asked, self._asked = self._asked, []
        rows: list[NodeTask] = []
        by_node: dict[str, list[tuple[PlannedNode, Place, asyncio.Future[object]]]] = {}
        for one in asked:
            by_node.setdefault(one[0].id, []).append(one)
        for node_id, ones in by_node.items():
            for first in range(0, len(ones), CHUNK):
                chunk = ones[first : first + CHUNK]
                row = NodeTask(
                    id=new_uuid(),
                    tenant_id=self._claim.tenant_id,
                    run_id=self._claim.run_id,
                    run_epoch=self._claim.epoch,
                    node_id=node_id,
                    places=[list(astuple(place)) for _, place, _ in chunk],
                    queue=chunk[0][0].definition.queue or self._claim.queue,
                )
                rows.append(row)
                self.awaited[row.pk] = [future for _, _, future in chunk]
                self._nodes_of[row.pk] = node_id, None
        try:
            await answered(self._call, insert_tasks, self._claim, rows, self.awaited)
        except Exception as error:  # noqa: BLE001 - each waiting node gets it
            for _, _, future in asked:
                if not future.done():
                    future.set_exception(error)

    async def _forget(self) -> None:
        """Remove tasks that nobody waits for any more: whoever executes one stops when it renews its lease."""
        gone = [task_id for task_id, futures in self.awaited.items() if all(future.done() for future in futures)]
        for task_id in gone:
            del self.awaited[task_id], self._nodes_of[task_id]
        if gone:
            await self._call(delete_tasks, gone)
