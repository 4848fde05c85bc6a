"""Measures a node in process: chains and fans of nodes that do nothing, beside a bare task and v1's waves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks import v1_waves
from benchmarks.measure import Row, interleaved, rows
from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.core.ports import MemorySink
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import RunRequest, WorkflowEngine
from pyflow.execution.plan import Plan

TASK = "bare asyncio task, created and awaited"
#: A longer chain takes v1's waves most of a minute: they look at 50 million nodes for 10,000.
LONGEST_CHAIN_OF_WAVES = 1_000


class Noop(BaseNode[Any, Any]):
    """Does nothing."""

    node_type = "noop"

    async def execute(self, config: Any, context: ExecutionContext) -> object:  # noqa: ARG002 - nothing is what it does
        return None


def chain(size: int) -> WorkflowDef:
    """Each node depends on the one before."""
    return _workflow([{"id": f"n{i}", "type": "noop", "depends_on": [f"n{i - 1}"] if i else []} for i in range(size)])


def fan(size: int) -> WorkflowDef:
    """All nodes but the first depend on the first."""
    return _workflow([{"id": f"n{i}", "type": "noop", "depends_on": ["n0"] if i else []} for i in range(size)])


def _workflow(nodes: list[dict[str, Any]]) -> WorkflowDef:
    return WorkflowDef.model_validate({"version": 2, "name": "bench", "nodes": nodes})


async def _nothing() -> None:
    return None


async def tasks(size: int) -> None:
    """Run so many bare tasks, one after the other: nodes are compared with these."""
    for _ in range(size):
        await asyncio.create_task(_nothing())


def timed(work: Callable[[], Awaitable[Any]]) -> Callable[[], float]:
    """``work`` as a subject: its seconds, without those that an event loop takes to start."""

    async def measure() -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    return lambda: asyncio.run(measure())


def measure(runs: int) -> Iterator[Row]:
    """Microseconds a node, and multiples of a bare task."""
    registry = NodeRegistry()
    registry.register(Noop)
    engine = WorkflowEngine(registry)
    for size in (1_000, 10_000):
        for name, make in (("chain", chain), ("fan", fan)):
            workflow = make(size)
            plan = Plan(workflow, registry)

            async def compiled(plan: Plan = plan) -> None:
                result = await engine.start(RunRequest(plan), replace(engine.services, sink=MemorySink())).wait()
                assert result.succeeded

            async def with_compile(workflow: WorkflowDef = workflow) -> None:
                request = RunRequest(Plan(workflow, registry))
                await engine.start(request, replace(engine.services, sink=MemorySink())).wait()

            subjects = {
                TASK: timed(lambda size=size: tasks(size)),  # type: ignore[misc]
                "PyFlow, with states and events": timed(compiled),
                "PyFlow, and compiling the definition": timed(with_compile),
                "v1's waves": timed(lambda workflow=workflow: v1_waves.run(workflow, registry)),  # type: ignore[misc]
            }
            if make is chain and size > LONGEST_CHAIN_OF_WAVES:
                del subjects["v1's waves"]
            taken = interleaved(subjects, runs)
            yield from rows(taken, "µs/node", f"{name} of {size:,}: ", TASK, scale=1e6 / size)
