"""``for_each``: one node, executed once per item, a bounded number at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator
from typing import Any

from pyflow.core.children import wait_for_any
from pyflow.core.errors import NodeError, NodeTimeoutError, NonRetryableError, PyFlowError
from pyflow.core.events import EventType, rfc3339
from pyflow.core.ports import Clock
from pyflow.core.redaction import Redactor
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.states import TERMINAL_NODE_STATES, NodeState
from pyflow.core.suspension import Signal, Suspension, WaitKind, next_round
from pyflow.execution.attempts import Attempts
from pyflow.execution.items import Names, cancel_item, end_waiting_items, item_data, list_items, taken
from pyflow.execution.journal import Journal
from pyflow.execution.plan import PlannedNode
from pyflow.execution.progress import after_failure
from pyflow.execution.rounds import begin_round
from pyflow.execution.shared import SkippedByLimitError
from pyflow.expressions.scope import ItemScope
from pyflow.isolation.node_exit import exit_failure

FAILURES = frozenset({NodeState.FAILED, NodeState.TIMED_OUT})
DEFAULT_PARALLEL = 50
#: Where no item can go on before so many seconds, the node waits without executing: to begin again costs a look at
#: each item.
LEAVES_FOR = 1.0


class FanOutError(NodeError):
    """More items failed than ``tolerate_failures`` allows. The items have the errors."""

    code = "items_failed"


class ItemConditionError(NonRetryableError):
    """``item_when`` cannot be evaluated for an item, which fails."""

    code = "item_condition"


class PausedFanOut(Exception):  # noqa: N818 - not an error: the node is neither done nor failed
    """The run is being paused: the items that have not ended are left for later."""


class FanOut:
    """The execution of one fan-out node. Finished items of an earlier execution, in ``run.items``, are not repeated."""

    def __init__(
        self,
        node: PlannedNode,
        run: NodeRun,
        names: Names,
        *,
        attempts: Attempts,
        journal: Journal,
        clock: Clock,
        stopping: Callable[[], bool],
        pausing: Callable[[], bool],
        redactor: Redactor,
        take: Callable[[Suspension], Signal | None],
    ) -> None:
        """``take`` gives the signal that an item waits for, once, if it has come."""
        self._redactor = redactor
        self._take = take
        self._node = node
        self._run = run
        self._names = names
        self._attempts = attempts
        self._journal = journal
        self._clock = clock
        self._stopping = stopping
        self._pausing = pausing
        self._items: list[tuple[str, Any]] = []
        self._outputs: list[Any] = []
        self._delayed: list[tuple[float, int]] = []
        #: What items wait for: each keeps its place among the parallel ones.
        self._waits: list[Suspension] = []
        #: How many items may be executed, or wait in their places, at the same time; and workers that take new ones.
        self._places = 0
        self._working = 0
        #: Items that are executed right now; and whether nothing is left but to wait, which takes no execution.
        self._executing = 0
        self._leaving = False
        #: Workers that have nothing to do but wait for an item's next attempt, and until when each does.
        self._asleep: dict[asyncio.Task[Any], float] = {}
        self._failed = 0
        self._allowed = 0

    async def execute(self) -> list[Any] | dict[str, Any] | Suspension:
        """The items' outputs in the order of the items; ``None`` for those that were skipped or failed, tolerated.

        A ``Suspension`` if all that is left to do is to wait: for child runs, for the next attempt or the next round of
        items. Execute it again when that is over.

        Raises ``BadItemsError``, ``FanOutError``, ``PausedFanOut``, or what a template raises.
        """
        self._items = list_items(self._node, self._names)
        self._outputs = [None] * len(self._items)
        self._allowed = self._tolerated(len(self._items))
        earlier = self._run.items or {}
        self._run.items = {}
        todo = [index for index in range(len(self._items)) if not self._reuse(index, earlier.get(index))]
        again = iter([index for index in todo if self._is_waiting(index)])
        new = iter([index for index in todo if not self._is_waiting(index)])
        # To wait takes no worker: without a limit all items of nodes that only wait do so at the same time.
        usual = DEFAULT_PARALLEL if self._node.suspending is None else len(self._items)
        self._places = min(self._node.max_parallel or usual, len(self._items))
        self._working = self._places if self._node.suspending is None else min(self._places, DEFAULT_PARALLEL)
        workers = [asyncio.create_task(self._work(again, new)) for _ in range(self._working)]
        try:
            for worker in workers:
                await worker
        finally:
            for worker in workers:
                self._attempts.cancel(worker)
            await asyncio.gather(*workers, return_exceptions=True)
            if self._stopping():
                self._end_waiting()
        if self._is_lost:
            self._end_waiting()
            await self._attempts.give_up(wait_for_any(self._waits))
            raise FanOutError(self._summary())
        has_place = len(self._waits) < self._places
        if has_place and self._has_items_left and not self._leaving:
            raise PausedFanOut
        due = [self._delayed[0][0]] if self._delayed and has_place else []
        if self._waits and self._node.suspending is None:
            return wait_for_any(self._waits, due)
        if self._waits or due:
            ends = [*due, *(wait.until for wait in self._waits if wait.until is not None)]
            return Suspension(min(ends, default=None), None, {"kind": WaitKind.ITEMS.value})
        if self._node.definition.collect == "mapping":
            return {key: output for (key, _), output in zip(self._items, self._outputs, strict=True)}
        return self._outputs

    def wake(self) -> None:
        """Let those that sleep until an item's next attempt look at whether they shall go on."""
        for worker in self._asleep:
            worker.cancel()

    @property
    def _has_items_left(self) -> bool:
        """Return whether there are items that neither ended nor wait in their places."""
        items = self._run.items or {}
        begun = sum(item.state in TERMINAL_NODE_STATES or _keeps_place(item) for item in items.values())
        return begun < len(self._items)

    @property
    def _is_lost(self) -> bool:
        """Return whether so many items failed that the node does, whatever the others do."""
        return self._failed > self._allowed

    def _is_waiting(self, index: int) -> bool:
        item = (self._run.items or {}).get(index)
        return item is not None and _keeps_place(item)

    def _tolerated(self, count: int) -> int:
        limit = self._node.definition.tolerate_failures
        if isinstance(limit, str):
            return int(count * float(limit.rstrip("%")) / 100)
        return limit or 0

    def _reuse(self, index: int, earlier: ItemRun | None) -> bool:
        """Take over what is on record of an item; whether nothing of it is left to start now."""
        if earlier is None or earlier.key != self._items[index][0]:
            return False
        assert self._run.items is not None  # noqa: S101 - set before items are looked at
        self._run.items[index] = earlier
        earlier.value = self._items[index][1]
        if earlier.state is NodeState.SUCCEEDED:
            self._outputs[index] = earlier.output
            return True
        if earlier.state in FAILURES:
            self._failed += 1
            return True
        if earlier.wake_at is not None and (
            earlier.state is NodeState.RETRYING or next_round(earlier.wait) is not None
        ):
            heapq.heappush(self._delayed, (earlier.wake_at, index))
            return True
        return earlier.state is NodeState.SKIPPED

    async def _work(self, again: Iterator[int], new: Iterator[int]) -> None:
        """Take items until there are none left.

        First those that waited for a child run, which have their places already, then those whose backoff is over.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - workers are tasks
        while not self._is_lost and not self._stopping() and not self._pausing():
            index = next(again, None)
            if index is None:
                due_now = bool(self._delayed) and self._delayed[0][0] <= self._clock.time()
                index = heapq.heappop(self._delayed)[1] if due_now else next(new, None)
            if index is None:
                if not self._delayed:
                    self._can_leave()
                    return
                # Nothing else is left for this worker: it may as well wait for the next retry.
                due, index = heapq.heappop(self._delayed)
                if self._can_leave(due) or not await self._back_off(due, task):
                    heapq.heappush(self._delayed, (due, index))
                    return
            self._executing += 1
            try:
                await self._execute_item(index, task)
            finally:
                self._executing -= 1
            if self._is_waiting(index) and len(self._waits) + self._working > self._places:
                self._working -= 1  # its place is that of the item now
                return

    def _can_leave(self, *due: float) -> bool:
        """Return whether all that is left sleeps, and for so long that the node had better wait without executing."""
        first = min((*due, *self._asleep.values()), default=0.0)
        if not self._leaving and not self._executing and first - self._clock.time() >= LEAVES_FOR:
            self._leaving = True
            self.wake()
        return self._leaving

    async def _back_off(self, due: float, task: asyncio.Task[Any]) -> bool:
        """Wait until ``due``; ``False``, at once, if the node is lost or parked before that."""
        self._asleep[task] = due
        try:
            await self._clock.sleep(max(0.0, due - self._clock.time()))
        except asyncio.CancelledError:
            if not self._wakes:
                raise
        finally:
            del self._asleep[task]
        return not self._wakes

    @property
    def _wakes(self) -> bool:
        """Return whether those that sleep until an item's next attempt are woken before that, to end."""
        return self._is_lost or self._pausing() or self._leaving

    async def _execute_item(self, index: int, task: asyncio.Task[Any]) -> None:
        assert self._run.items is not None  # noqa: S101 - set before items are executed
        key, value = self._items[index]
        item = self._run.items.get(index)
        if item is None:
            item = self._run.items[index] = ItemRun(index, key)
        item.value = value
        if self._node.suspending is not None and item.state is NodeState.WAITING and item.wait is not None:
            await self._resume_item(item, item.wait)
            return
        if not item.attempts and not await self._is_wanted(item):
            return
        item.started_at = item.started_at or self._clock.time()
        asks_again = _keeps_place(item)  # for its child
        begin_round(item)
        item.attempts += not asks_again
        item.state, item.wait, item.wake_at = NodeState.RUNNING, None, None
        item.error = None
        scope = ItemScope(self._names(), value, index, key, item.round)
        try:
            config = self._attempts.render(self._node, lambda: scope)
            output = await self._attempts.call(self._node, config, item, task, lambda: scope)
        except asyncio.CancelledError:
            item.state = NodeState.CANCELLED
            if self._stopping():  # else the run goes on elsewhere, from what is recorded
                cancel_item(self._node.id, item, "cancelled while it was running", self._journal)
            raise
        except SkippedByLimitError:
            item.state = NodeState.SKIPPED
            await self._record_skip(item, "concurrency")
        except Exception as error:  # noqa: BLE001 - a node raises anything
            await self._failed_item(item, error)
        else:
            if type(output) is Suspension:
                await self._suspend_item(item, output)
                return
            await self._complete_item(item, output)

    async def _complete_item(self, item: ItemRun, output: object, signal: Signal | None = None) -> None:
        assert self._run.items is not None  # noqa: S101 - it is one of them
        item.state, item.finished_at = NodeState.SUCCEEDED, self._clock.time()
        item.wait, item.wake_at = None, None
        self._run.items[item.index] = self._run.items.pop(item.index)  # in the order of completion, for undoing
        if self._redactor:
            output = self._redactor.redact(output)  # as a resumed run would see it
        item.output = self._outputs[item.index] = output
        data = item_data(item) | {"output": output} | taken(signal)
        await self._journal.commit(EventType.NODE_SUCCEEDED, self._node.id, data)

    async def _resume_item(self, item: ItemRun, wait: Suspension) -> None:
        """Let an item of a node that waits go on if its signal or its time has come; else it waits in its place."""
        signal = self._take(wait)
        if signal is None and (wait.until is None or wait.until > self._clock.time()):
            self._waits.append(wait)
            return
        scope = ItemScope(self._names(), item.value, item.index, item.key, item.round)
        try:
            output = self._attempts.resume(self._node, wait, signal, lambda: scope)
        except BaseException as error:  # a decision may be of the wrong shape
            failure = error if isinstance(error, Exception) else exit_failure(error)
            if failure is None:
                raise
            await self._failed_item(item, failure, signal)
            return
        await self._complete_item(item, output, signal)

    async def _is_wanted(self, item: ItemRun) -> bool:
        """Return whether ``item_when`` lets an item that has not begun run; if not, record its end."""
        if self._node.item_when is None:
            return True
        try:
            scope = ItemScope(self._names(), item.value, item.index, item.key, "item_when")
            if self._node.item_when.evaluate(scope):
                return True
        except PyFlowError as error:
            await self._failed_item(item, ItemConditionError(f"`item_when` cannot be evaluated: {error}"))
            return False
        item.state = NodeState.SKIPPED
        await self._record_skip(item, "item_when")
        return False

    async def _record_skip(self, item: ItemRun, reason: str) -> None:
        data = item_data(item) | {"reason": reason, "state": item.state}
        await self._journal.commit(EventType.NODE_SKIPPED, self._node.id, data)

    async def _suspend_item(self, item: ItemRun, wait: Suspension) -> None:
        """Let an item wait: for its child run in its place, for its next round as for a next attempt."""
        item.state, item.wait, item.wake_at = NodeState.WAITING, wait, wait.until
        if next_round(wait) is None or wait.until is None:
            self._waits.append(wait)
            if self._node.suspending is None:
                return  # of child runs only their record says whether they have ended
        else:
            heapq.heappush(self._delayed, (wait.until, item.index))
        await self._journal.commit(EventType.NODE_WAITING, self._node.id, item_data(item) | wait.as_dict())

    async def _failed_item(self, item: ItemRun, error: Exception, signal: Signal | None = None) -> None:
        node = self._node
        now = self._clock.time()
        wait, error = after_failure(node, item, error, now, self._redactor)
        item.error = ErrorInfo.of(error, node.id, self._redactor)
        data = item_data(item) | {"error": item.error.as_record()} | taken(signal)
        item.wait = None
        if wait is not None:
            item.state, item.wake_at = NodeState.RETRYING, now + wait
            heapq.heappush(self._delayed, (item.wake_at, item.index))
            await self._journal.commit(EventType.NODE_RETRYING, node.id, data | {"wake_at": rfc3339(item.wake_at)})
            return
        item.state = NodeState.TIMED_OUT if isinstance(error, NodeTimeoutError) else NodeState.FAILED
        item.wake_at = None
        self._failed += 1
        tolerated = not self._is_lost
        if not tolerated:
            self.wake()
        await self._journal.commit(EventType.NODE_FAILED, node.id, data | {"state": item.state, "tolerated": tolerated})

    def _end_waiting(self) -> None:
        """End the items that are in backoff, or wait for a child run, with the node."""
        end_waiting_items(self._run, self._journal)

    def _summary(self) -> str:
        assert self._run.items is not None  # noqa: S101 - there are failed ones
        failed = [item for item in self._run.items.values() if item.state in FAILURES]
        first = min(failed, key=lambda item: item.index)
        message = first.error.headline if first.error is not None else ""
        return (
            f"{self._failed} of {len(self._items)} items failed ({self._allowed} tolerated);"
            f" the first is item {first.key!r}: {message}"
        )


def _keeps_place(item: ItemRun) -> bool:
    """Return whether an item keeps its place among the parallel ones while it waits; not between two rounds."""
    return item.state is NodeState.WAITING and next_round(item.wait) is None
