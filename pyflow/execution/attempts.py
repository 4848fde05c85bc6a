"""One attempt of one node: config rendered, limits applied, the node called."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from pyflow.core.children import ChildConfig, ChildRequest, child_id
from pyflow.core.errors import NodeTimeoutError, NonRetryableError
from pyflow.core.events import EventType
from pyflow.core.misfits import parse
from pyflow.core.plain import to_plain
from pyflow.core.redaction import RedactingLogger, Redactor
from pyflow.core.result import ItemRun, NodeRun
from pyflow.core.suspension import Signal, SuspendingNode, Suspension, check_limit, limited
from pyflow.execution.middleware import NodeCall
from pyflow.execution.plan import PlannedNode
from pyflow.execution.progress import RunProgress
from pyflow.execution.remote import Place
from pyflow.execution.request import RunServices
from pyflow.execution.run_log import LogSink, RunLog
from pyflow.execution.timers import Timers
from pyflow.isolation.node_exit import NodeSelfCancelledError, exit_failure
from pyflow.isolation.node_loop import is_cancelled_from_outside
from pyflow_sdk.node import NodeContext

Record = NodeRun | ItemRun
Names = Callable[[], Mapping[str, Any]]


class OutputTooLargeError(NonRetryableError):
    """The output of a node is larger than its ``max_output_size`` (bytes of JSON)."""

    code = "output_too_large"


class HeartbeatTimeoutError(NodeTimeoutError):
    """A node reported no progress for longer than its ``heartbeat_timeout``."""

    code = "heartbeat_timeout"


class Attempts:
    """Executes attempts for one run. ``executing`` holds the tasks that are inside a node right now."""

    def __init__(
        self,
        progress: RunProgress,
        services: RunServices,
        *,
        lineage: tuple[str, ...],
        stopping: Callable[[], bool],
    ) -> None:
        self._services = services
        self._remote = services.remote
        self._slots = services.slot_source
        self._children = services.children
        self._lineage = (*lineage, progress.plan.workflow.name)
        self._timers = Timers(services.clock)
        self._context = progress.context
        self._journal = progress.journal
        self._handler = services.handler
        #: In version 2 what a node returns is JSON, whoever asks for it and however often the run is resumed.
        self._converts = services.makes_plain and progress.context.scope is not None
        self._secrets = None if progress.scope is None else progress.scope.secrets
        self._time = progress.time
        self._stopping = stopping
        self._log = RunLog(services.sink, self._time) if isinstance(services.sink, LogSink) else None
        self.executing: set[asyncio.Task[Any]] = set()
        #: Tasks that were cancelled because of the run: a verb, a limit, or its end in this process.
        self._ordered: set[asyncio.Task[Any]] = set()
        self._abandoned = False

    def abandon(self) -> None:
        """Take every cancellation from now on for one of the run: nothing of it counts here any more."""
        self._abandoned = True

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task that may be inside a node. Only such a cancellation is taken for one of the run."""
        self._ordered.add(task)
        task.cancel()

    @property
    def redactor(self) -> Redactor:
        """The redactor that masks the secrets of the run."""
        return self._context.redactor

    def render(self, node: PlannedNode, names: Callable[[], Mapping[str, Any]]) -> Any:
        """The node's config with its templates rendered. Raises why the node cannot run, or ``TemplateError``."""
        if node.broken is not None:
            raise node.broken
        config = node.config
        assert config is not None  # noqa: S101 - only a broken node has none
        return config.render(_NOTHING if config.constant else names())

    def recorded(self, output: object) -> object:
        """An output as it is recorded, which is what the nodes that follow see. Raises ``NotPlainError``."""
        return to_plain(output) if self._converts and type(output) is not Suspension else output

    async def call(
        self,
        node: PlannedNode,
        config: Any,
        record: Record,
        task: asyncio.Task[Any],
        names: Names,
        *,
        is_delegated: bool = False,
    ) -> object:
        """Execute the node once, in ``task`` or elsewhere, and return its output.

        ``is_delegated``: another process executes the run; it holds the slot of the node, and keeps the cache.

        Raises ``NodeExitError`` or ``NodeSelfCancelledError`` for what would otherwise end more than the node, and
        ``asyncio.CancelledError`` only if somebody else has cancelled the task.
        """
        try:
            if node.plain:
                self.executing.add(task)
                try:
                    output = self.recorded(await self._invoke(node, config, record, names))
                finally:
                    self.executing.discard(task)
            elif is_delegated:
                output = await self._call_timed(node, config, record, task, names)
            else:
                output = await self._call_limited(node, config, record, task, names)
        except BaseException as error:
            failure = await self._failure(error, task)
            if failure is error:
                raise
            raise failure from error
        if task.cancelling():
            await self._take_cancellation(task)
        return output

    async def _failure(self, error: BaseException, task: asyncio.Task[Any]) -> BaseException:
        """Return the exception to raise for the outcome of the node in ``task``."""
        if not self._is_ordered(task) and is_cancelled_from_outside(task):
            # Whatever the node made of it: the run goes on elsewhere, and nothing false is recorded.
            return error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError()
        failure: BaseException = error
        if isinstance(error, asyncio.CancelledError):
            if not self._is_ordered(task):
                failure = NodeSelfCancelledError("the node's work was cancelled from within")
        elif not isinstance(error, Exception):
            failure = exit_failure(error) or error
        if task.cancelling():
            await self._take_cancellation(task)
        return failure

    def _is_ordered(self, task: asyncio.Task[Any]) -> bool:
        return self._abandoned or task in self._ordered

    async def _take_cancellation(self, task: asyncio.Task[Any]) -> None:
        """Take a cancellation that the node has asked for itself, so that it hits nothing that is not the node's."""
        if self._is_ordered(task) or is_cancelled_from_outside(task):
            return
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._is_ordered(task) or is_cancelled_from_outside(task):
                raise
        while task.cancelling():
            task.uncancel()

    def _invoke(
        self,
        node: PlannedNode,
        config: Any,
        record: Record,
        names: Callable[[], Mapping[str, Any]],
        on_beat: Callable[[], None] | None = None,
    ) -> Awaitable[object]:
        if self._remote is not None and node.remote:
            index = record.index if isinstance(record, ItemRun) else None
            place = Place(record.attempts, record.started_at, index, record.round, record.earlier_attempts)
            return self._remote.call(node, place)
        context = self._context.scoped(names()) if node.wants_scope else self._context
        node_context = self.node_context(node, record, on_beat) if node.wants_node_context else None
        if self._handler is None and node.invoke is not None and not node.child:
            return node.invoke(config, context, node_context)

        def work(config: Any) -> Awaitable[object]:
            if node.child:
                return self._children.run(self._child(node, config, record))
            if node.suspending is not None:
                return self._suspend(node, node.suspending, config, record, node_context)
            assert node.invoke is not None  # noqa: S101 - a broken node was refused when its config was rendered
            return node.invoke(config, context, node_context)

        if self._handler is None:
            return work(config)
        return self._handler(NodeCall(node, config, context, node_context, record.attempts, work, self._lineage))

    async def _suspend(
        self,
        node: PlannedNode,
        suspending: type[SuspendingNode[Any]],
        config: Any,
        record: Record,
        node_context: NodeContext | None,
    ) -> Suspension:
        assert node_context is not None  # noqa: S101 - they are all BaseNodeV2
        now = self._time()
        wait = suspending().suspend(parse(suspending.Config, config), node_context, now)
        return limited(wait, node.wait_limits, record.started_at or now)

    def resume(self, node: PlannedNode, wait: Suspension, signal: Signal | None, names: Names) -> object:
        """Return the output of a node (or item) whose wait is over. Raises what the node does, or a template.

        ``signal``: the one that came; without one, its time did.
        """
        assert node.suspending is not None  # noqa: S101 - only those wait
        if signal is None:
            check_limit(wait, node.wait_limits)
        parsed = parse(node.suspending.Config, self.render(node, names))
        output = self.recorded(node.suspending().resume(parsed, wait, signal, self._time()))
        if node.max_output_size is not None:
            check_size(output, node.max_output_size)
        return output

    async def give_up(self, wait: Suspension) -> None:
        """A node does not wait for its child runs any more."""
        await self._children.stop(wait)

    def _child(self, node: PlannedNode, config: Any, record: Record) -> ChildRequest:
        item = record.key if isinstance(record, ItemRun) else None
        # A slot is held while the child runs; and what an undone item waits for is not recorded.
        may_suspend = node.concurrency is None and (item is None or node.compensates is None)
        return ChildRequest(
            run_id=child_id(self._context.run_id, node.id, item, record.attempts),
            config=parse(ChildConfig, config),
            parent_run_id=self._context.run_id,
            node_id=node.id,
            lineage=self._lineage,
            item=item,
            attempt=record.attempts,
            timeout=node.timeout,
            deadline=None if node.total_timeout is None else (record.started_at or 0.0) + node.total_timeout,
            may_suspend=may_suspend,
            sink=self._services.sink,
        )

    async def _call_limited(
        self,
        node: PlannedNode,
        config: Any,
        record: Record,
        task: asyncio.Task[Any],
        names: Names,
    ) -> object:
        key = None
        if node.cache is not None:
            key = (node.type, str(node.cache.key.render(names())))
            found, kept = self._services.shared.cache.get(key, self._time())
            if found and record.round == 1:  # a later round asks whether it is different by now
                # Another run's node made it, perhaps of a secret that this run has never seen.
                output, redactor = kept
                self._context.redactor.learn(redactor)
                return self._next_round(node, record, output, names) or output
        if node.concurrency is None:
            output = await self._call_timed(node, config, record, task, names)
        else:
            slot = str(node.concurrency.key.render(names()))
            # Waiting for a slot is part of being executed: a cancelled run does not wait any longer.
            self.executing.add(task)
            try:
                limit, on_limit = node.concurrency.limit, node.concurrency.on_limit
                async with AsyncExitStack() as held:
                    entering = held.enter_async_context(self._slots.hold(slot, limit, on_limit, node_id=node.id))
                    await self._in_total_time(node, record, entering)
                    output = await self._call_timed(node, config, record, task, names)
            finally:
                self.executing.discard(task)
        if type(output) is Suspension:
            return output
        if node.max_output_size is not None:
            check_size(output, node.max_output_size)
        next_one = self._next_round(node, record, output, names)
        if next_one is not None:
            return next_one
        if key is not None and node.cache is not None:
            self._services.shared.cache.put(key, (output, self._context.redactor), self._time() + node.cache.ttl)
        return output

    def _next_round(self, node: PlannedNode, record: Record, output: object, names: Names) -> Suspension | None:
        """Return the wait for the next round of a node with ``until``; ``None`` if there is none to come."""
        if node.until is None:
            return None
        seen = self.redactor.redact(output) if self.redactor else output  # as the nodes that follow see it
        return node.until.judge(record, seen, names(), now=self._time(), total_timeout=node.total_timeout)

    async def _in_total_time(self, node: PlannedNode, record: Record, entering: Awaitable[None]) -> None:
        """Wait for a slot while ``total_timeout`` goes on; ``timeout`` begins with the slot, as the attempt does."""
        if node.total_timeout is None:
            await entering
        else:
            left = (record.started_at or 0.0) + node.total_timeout - self._time()
            await self._timers.within(max(0.0, left), entering, missed="no slot")

    async def _call_timed(
        self,
        node: PlannedNode,
        config: Any,
        record: Record,
        task: asyncio.Task[Any],
        names: Callable[[], Mapping[str, Any]],
    ) -> object:
        # Where it is executed, its time is kept: waiting for a worker is not part of an attempt.
        elsewhere = self._remote is not None and node.remote
        seconds = None if elsewhere or (node.child and self._children.keeps_time) else self._seconds_left(node, record)
        self.executing.add(task)
        try:
            work = (
                self._invoke(node, config, record, names)
                if node.heartbeat_timeout is None or elsewhere
                else self._watched(node, config, record, names)
            )
            return self.recorded(await (work if seconds is None else self._timers.within(seconds, work)))
        finally:
            self.executing.discard(task)

    def _seconds_left(self, node: PlannedNode, record: Record) -> float | None:
        limits = [node.timeout] if node.timeout is not None else []
        if node.total_timeout is not None:
            limits.append(max(0.0, (record.started_at or 0.0) + node.total_timeout - self._time()))
        return min(limits) if limits else None

    async def _watched(
        self, node: PlannedNode, config: Any, record: Record, names: Callable[[], Mapping[str, Any]]
    ) -> object:
        """Execute under ``heartbeat_timeout``: each report of progress winds the clock up again."""
        limit = node.heartbeat_timeout
        assert limit is not None  # noqa: S101 - the caller looked
        timers = self._timers
        beat = timers.now()

        def on_beat() -> None:
            nonlocal beat
            beat = timers.now()

        task = asyncio.ensure_future(_without_exits(self._invoke(node, config, record, names, on_beat)))
        try:
            while not task.done():
                left = beat + limit - timers.now()
                if left <= 0:
                    raise HeartbeatTimeoutError(f"no progress for {limit:g} s", kind="timeout")
                await timers.wait(task, left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def node_context(self, node: PlannedNode, record: Record, on_beat: Callable[[], None] | None = None) -> NodeContext:
        """Return the context of the node."""
        loop = asyncio.get_running_loop()
        item = record if isinstance(record, ItemRun) else None
        suffix = "" if item is None else f":{item.key}"
        if node.until is not None:
            suffix += f":{record.round}"  # each round asks anew
        tap = None
        if self._log is not None:
            tap = self._log.tap(node.id, record.attempts, None if item is None else item.index)

        def report(fraction: float, message: str) -> None:
            data: dict[str, Any] = {"fraction": fraction, "message": self.redactor.redact_message(message)}
            if item is not None:
                data["item"] = {"index": item.index, "key": item.key}
            self._journal.emit(EventType.NODE_PROGRESS, node.id, data)
            if on_beat is not None:
                on_beat()

        def progress(fraction: float, message: str) -> None:
            # From a thread, too: nodes with a plain `def run` report from there.
            loop.call_soon_threadsafe(report, fraction, message)

        return NodeContext(
            run_id=self._context.run_id,
            node_id=node.id,
            workflow=self._context.workflow_name,
            attempt=record.attempts - record.earlier_attempts,
            secrets=self._secrets,
            progress=progress,
            cancelled=self._stopping,
            idempotency_key=f"{self._context.run_id}:{node.id}{suffix}",
            item_key=None if item is None else item.key,
            logger=RedactingLogger(logging.getLogger(f"pyflow.node.{node.id}"), self._context.redactor, tap),
        )


async def _without_exits(work: Awaitable[object]) -> object:
    """Await ``work`` in a task of its own: one that raises ``SystemExit`` would end the event loop."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise exit_failure(error) or error from None


_NOTHING: Mapping[str, Any] = {}


def check_size(output: object, limit: int) -> None:
    """Raise ``OutputTooLargeError`` if ``output`` as JSON has more than ``limit`` bytes; stops counting there."""
    size = 0
    for part in json.JSONEncoder(default=str, ensure_ascii=False).iterencode(output):
        size += len(part.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise OutputTooLargeError(f"the output is larger than {limit:,} bytes (`max_output_size`)")
