"""``for_each``: one node, executed once per item, a bounded number at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pyflow.core.attempts import Attempts
from pyflow.core.errors import NodeError, NodeTimeoutError, NonRetryableError
from pyflow.core.events import EventType
from pyflow.core.journal import Journal
from pyflow.core.plan import PlannedNode
from pyflow.core.ports import Clock
from pyflow.core.redaction import Redactor
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.scope import ItemScope
from pyflow.core.shared import SkippedByLimitError
from pyflow.core.states import NodeState

DEFAULT_PARALLEL = 50
MAX_ITEMS = 1_000_000

Names = Callable[[], Mapping[str, Any]]


class FanOutError(NodeError):
    """More items failed than ``tolerate_failures`` allows. The items have the errors."""

    code = "items_failed"


class BadItemsError(NonRetryableError):
    """``for_each`` gave something that is not a list or mapping, or keys that are not unique."""

    code = "bad_items"


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
        self._items: list[tuple[str, Any]] = []
        self._outputs: list[Any] = []
        self._delayed: list[tuple[float, int]] = []
        self._failed = 0
        self._allowed = 0

    async def execute(self) -> list[Any]:
        """The items' outputs in the order of the items; ``None`` for those whose failure is tolerated.

        Raises ``BadItemsError``, ``FanOutError``, or what a template raises.
        """
        self._items = list_items(self._node, self._names)
        self._outputs = [None] * len(self._items)
        self._allowed = self._tolerated(len(self._items))
        earlier = self._run.items or {}
        self._run.items = {}
        todo = iter([index for index in range(len(self._items)) if not self._reuse(index, earlier.get(index))])
        parallel = min(self._node.max_parallel or DEFAULT_PARALLEL, len(self._items))
        workers = [asyncio.create_task(self._work(todo)) for _ in range(parallel)]
        try:
            for worker in workers:
                await worker
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._failed > self._allowed:
            raise FanOutError(self._summary())
        return self._outputs

    def _tolerated(self, count: int) -> int:
        limit = self._node.definition.tolerate_failures
        if isinstance(limit, str):
            return int(count * float(limit.rstrip("%")) / 100)
        return limit or 0

    def _reuse(self, index: int, earlier: ItemRun | None) -> bool:
        if earlier is None or earlier.key != self._items[index][0]:
            return False
        assert self._run.items is not None  # noqa: S101 - set before items are looked at
        self._run.items[index] = earlier
        earlier.value = self._items[index][1]
        if earlier.state is NodeState.SUCCEEDED:
            self._outputs[index] = earlier.output
            return True
        return False

    async def _work(self, todo: Iterator[int]) -> None:
        """Take items until there are none left: first those whose backoff is over, then new ones."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - workers are tasks
        while self._failed <= self._allowed and not self._stopping():
            due_now = bool(self._delayed) and self._delayed[0][0] <= self._clock.time()
            index = heapq.heappop(self._delayed)[1] if due_now else next(todo, None)
            if index is None:
                if not self._delayed:
                    return
                # Nothing else is left for this worker: it may as well wait for the next retry.
                due, index = heapq.heappop(self._delayed)
                await self._clock.sleep(max(0.0, due - self._clock.time()))
                if self._failed > self._allowed:
                    return
            await self._execute_item(index, task)

    async def _execute_item(self, index: int, task: asyncio.Task[Any]) -> None:
        assert self._run.items is not None  # noqa: S101 - set before items are executed
        key, value = self._items[index]
        item = self._run.items.get(index)
        if item is None:
            item = self._run.items[index] = ItemRun(index, key)
        item.value = value
        item.started_at = item.started_at or self._clock.time()
        item.state = NodeState.RUNNING
        item.attempts += 1
        item.error = None
        scope = ItemScope(self._names(), value, index, key)
        try:
            config = self._attempts.render(self._node, lambda: scope)
            output = await self._attempts.call(self._node, config, item, task, lambda: scope)
        except asyncio.CancelledError:
            item.state = NodeState.CANCELLED
            raise
        except SkippedByLimitError:
            item.state = NodeState.SKIPPED
        except Exception as error:  # noqa: BLE001 - a node raises anything
            await self._failed_item(item, error)
        else:
            item.state = NodeState.SUCCEEDED
            self._run.items[index] = self._run.items.pop(index)  # in the order of completion, as undoing needs it
            item.output = self._outputs[index] = output
            data = {"attempt": item.attempts, "output": output, "item": {"index": index, "key": key}}
            await self._journal.commit(EventType.NODE_SUCCEEDED, self._node.id, data)

    async def _failed_item(self, item: ItemRun, error: Exception) -> None:
        node = self._node
        item.error = ErrorInfo.of(error, node.id, self._redactor)
        wait = node.retry.delay(item.attempts, error) if node.retry is not None else None
        place = {"index": item.index, "key": item.key}
        data: dict[str, Any] = {"attempt": item.attempts, "error": item.error.as_dict(), "item": place}
        if wait is not None:
            due = self._clock.time() + wait
            item.state = NodeState.RETRYING
            heapq.heappush(self._delayed, (due, item.index))
            await self._journal.commit(EventType.NODE_RETRYING, node.id, data | {"wake_at": due})
            return
        item.state = NodeState.TIMED_OUT if isinstance(error, NodeTimeoutError) else NodeState.FAILED
        self._failed += 1
        tolerated = self._failed <= self._allowed
        await self._journal.commit(EventType.NODE_FAILED, node.id, data | {"state": item.state, "tolerated": tolerated})

    def _summary(self) -> str:
        assert self._run.items is not None  # noqa: S101 - there are failed ones
        failed = [
            item
            for item in self._run.items.values()
            if item.error is not None and item.state is not NodeState.SUCCEEDED
        ]
        first = min(failed, key=lambda item: item.index)
        message = first.error.message if first.error is not None else ""
        return (
            f"{self._failed} of {len(self._items)} items failed ({self._allowed} tolerated);"
            f" the first is item {first.key!r}: {message}"
        )


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
