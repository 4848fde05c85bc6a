"""``for_each``: one node, executed once per item, a bounded number at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pyflow.core.children import wait_for_any
from pyflow.core.errors import NodeError, NodeTimeoutError, NonRetryableError
from pyflow.core.events import EventType, rfc3339
from pyflow.core.ports import Clock
from pyflow.core.redaction import Redactor
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.states import TERMINAL_NODE_STATES, NodeState
from pyflow.core.suspension import Suspension
from pyflow.execution.attempts import Attempts
from pyflow.execution.journal import Journal
from pyflow.execution.plan import PlannedNode
from pyflow.execution.progress import next_attempt_in
from pyflow.execution.shared import SkippedByLimitError
from pyflow.expressions.scope import ItemScope

FAILURES = frozenset({NodeState.FAILED, NodeState.TIMED_OUT})
DEFAULT_PARALLEL = 50
MAX_ITEMS = 1_000_000

Names = Callable[[], Mapping[str, Any]]


class FanOutError(NodeError):
    """More items failed than ``tolerate_failures`` allows. The items have the errors."""

    code = "items_failed"


class BadItemsError(NonRetryableError):
    """``for_each`` gave something that is not a list or mapping, or keys that are not unique."""

    code = "bad_items"


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
    ) -> None:
        self._redactor = redactor
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
        #: Workers that have nothing to do but wait for an item's next attempt.
        self._asleep: set[asyncio.Task[Any]] = set()
        self._failed = 0
        self._allowed = 0

    async def execute(self) -> list[Any] | Suspension:
        """The items' outputs in the order of the items; ``None`` for those whose failure is tolerated.

        A ``Suspension`` if all that is left to do is to wait for child runs: execute it again when one has ended.

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
        parallel = min(self._node.max_parallel or DEFAULT_PARALLEL, len(self._items))
        workers = [asyncio.create_task(self._work(again, new)) for _ in range(parallel)]
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
        if self._has_items_left and len(self._waits) < parallel:
            raise PausedFanOut
        if self._waits:
            return wait_for_any(self._waits)
        return self._outputs

    def wake(self) -> None:
        """Let those that sleep until an item's next attempt look at whether they shall go on."""
        for worker in self._asleep:
            worker.cancel()

    @property
    def _has_items_left(self) -> bool:
        """Return whether there are items that neither ended nor wait for a child run."""
        items = self._run.items or {}
        begun = sum(item.state in TERMINAL_NODE_STATES or item.state is NodeState.WAITING for item in items.values())
        return begun < len(self._items)

    @property
    def _is_lost(self) -> bool:
        """Return whether so many items failed that the node does, whatever the others do."""
        return self._failed > self._allowed

    def _is_waiting(self, index: int) -> bool:
        item = (self._run.items or {}).get(index)
        return item is not None and item.state is NodeState.WAITING

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
        if earlier.state is NodeState.RETRYING and earlier.wake_at is not None:
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
                    return
                # Nothing else is left for this worker: it may as well wait for the next retry.
                due, index = heapq.heappop(self._delayed)
                if not await self._back_off(due, task):
                    heapq.heappush(self._delayed, (due, index))
                    return
            await self._execute_item(index, task)
            if self._is_waiting(index):
                return

    async def _back_off(self, due: float, task: asyncio.Task[Any]) -> bool:
        """Wait until ``due``; ``False``, at once, if the node is lost or parked before that."""
        self._asleep.add(task)
        try:
            await self._clock.sleep(max(0.0, due - self._clock.time()))
        except asyncio.CancelledError:
            if not self._is_lost and not self._pausing():
                raise
        finally:
            self._asleep.discard(task)
        return not self._is_lost and not self._pausing()

    async def _execute_item(self, index: int, task: asyncio.Task[Any]) -> None:
        assert self._run.items is not None  # noqa: S101 - set before items are executed
        key, value = self._items[index]
        item = self._run.items.get(index)
        if item is None:
            item = self._run.items[index] = ItemRun(index, key)
        item.value = value
        item.started_at = item.started_at or self._clock.time()
        item.attempts += item.state is not NodeState.WAITING  # that one asks for its child again
        item.state, item.wake_at = NodeState.RUNNING, None
        item.error = None
        scope = ItemScope(self._names(), value, index, key)
        try:
            config = self._attempts.render(self._node, lambda: scope)
            output = await self._attempts.call(self._node, config, item, task, lambda: scope)
        except asyncio.CancelledError:
            item.state = NodeState.CANCELLED
            if self._stopping():  # else the run goes on elsewhere, from what is recorded
                self._cancel_item(item, "cancelled while it was running")
            raise
        except SkippedByLimitError:
            item.state = NodeState.SKIPPED
            data = item_data(item) | {"reason": "concurrency", "state": item.state}
            await self._journal.commit(EventType.NODE_SKIPPED, self._node.id, data)
        except Exception as error:  # noqa: BLE001 - a node raises anything
            await self._failed_item(item, error)
        else:
            if type(output) is Suspension:
                item.state = NodeState.WAITING
                self._waits.append(output)
                return
            item.state, item.finished_at = NodeState.SUCCEEDED, self._clock.time()
            self._run.items[index] = self._run.items.pop(index)  # in the order of completion, as undoing needs it
            if self._redactor:
                output = self._redactor.redact(output)  # as a resumed run would see it
            item.output = self._outputs[index] = output
            await self._journal.commit(EventType.NODE_SUCCEEDED, self._node.id, item_data(item) | {"output": output})

    async def _failed_item(self, item: ItemRun, error: Exception) -> None:
        node = self._node
        item.error = ErrorInfo.of(error, node.id, self._redactor)
        now = self._clock.time()
        wait = next_attempt_in(node, item, error, now)
        data = item_data(item) | {"error": item.error.as_record()}
        if wait is not None:
            item.state, item.wake_at = NodeState.RETRYING, now + wait
            heapq.heappush(self._delayed, (item.wake_at, item.index))
            await self._journal.commit(EventType.NODE_RETRYING, node.id, data | {"wake_at": rfc3339(item.wake_at)})
            return
        item.state = NodeState.TIMED_OUT if isinstance(error, NodeTimeoutError) else NodeState.FAILED
        self._failed += 1
        tolerated = not self._is_lost
        if not tolerated:
            self.wake()
        await self._journal.commit(EventType.NODE_FAILED, node.id, data | {"state": item.state, "tolerated": tolerated})

    def _end_waiting(self) -> None:
        """End the items that are in backoff, or wait for a child run, with the node."""
        for item in (self._run.items or {}).values():
            if item.state in (NodeState.RETRYING, NodeState.WAITING):
                self._cancel_item(item, "cancelled while it waited")

    def _cancel_item(self, item: ItemRun, why: str) -> None:
        """An item keeps the error of its last attempt. Not awaited: the node's own end makes it durable."""
        item.state = NodeState.CANCELLED
        item.error = item.error or ErrorInfo("node_cancelled", why, "CancelledError", self._node.id)
        data = {"error": item.error.as_dict(), "state": item.state, "tolerated": False}
        self._journal.emit(EventType.NODE_FAILED, self._node.id, item_data(item) | data)

    def _summary(self) -> str:
        assert self._run.items is not None  # noqa: S101 - there are failed ones
        failed = [item for item in self._run.items.values() if item.state in FAILURES]
        first = min(failed, key=lambda item: item.index)
        message = first.error.headline if first.error is not None else ""
        return (
            f"{self._failed} of {len(self._items)} items failed ({self._allowed} tolerated);"
            f" the first is item {first.key!r}: {message}"
        )


def item_data(item: ItemRun) -> dict[str, Any]:
    """Return the data of every event of an item: ``{attempt, started_at, item: {index, key}}``."""
    return {
        "attempt": item.attempts,
        "started_at": None if item.started_at is None else rfc3339(item.started_at),
        "item": {"index": item.index, "key": item.key},
    }


def list_items(node: PlannedNode, names: Names) -> list[tuple[str, Any]]:
    """The items of a fan-out with their keys, in order. Raises ``BadItemsError``, or what a template raises."""
    assert node.for_each is not None  # noqa: S101 - only fan-out nodes get here
    value = node.for_each.render(names())
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        raise BadItemsError(f"`for_each` needs a list or a mapping, not {type(value).__name__}")
    if len(items) > MAX_ITEMS:
        raise BadItemsError(f"`for_each` has {len(items):,} items; at most {MAX_ITEMS:,} are allowed")
    if node.item_key is None:
        return items
    keyed: dict[str, Any] = {}
    for index, (key, item) in enumerate(items):
        own = str(node.item_key.render(ItemScope(names(), item, index, key)))
        if own in keyed:
            raise BadItemsError(f"`item_key` gives {own!r} for more than one item")
        keyed[own] = item
    return list(keyed.items())


def restore_values(node: PlannedNode, run: NodeRun, names: Names) -> None:
    """Find the items that a record names by their keys only. Raises as ``list_items`` does."""
    left = [item for item in (run.items or {}).values() if item.value is None]
    values = dict(list_items(node, names)) if left else {}
    for item in left:
        item.value = values.get(item.key)
