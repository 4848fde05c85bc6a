"""Measures an item of a `for_each` in process: time beside a bare task, and memory beyond what is there before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from benchmarks.engine import TASK, Noop, tasks, timed
from benchmarks.measure import Row, interleaved, rows
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import EventSink, MemorySink, NullSink
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.plan import Plan
from tests.support.processes import memory

SIZES = (1_000, 10_000, 100_000)
_REGISTRY = NodeRegistry()
_REGISTRY.register(Noop)


def plan() -> Plan:
    """One node that does nothing with each item of the input, its config a template."""
    node = {"id": "all", "type": "noop", "for_each": "{{ input.items }}", "config": {"value": "{{ item }}"}}
    return Plan(WorkflowDef.model_validate({"version": 2, "name": "bench", "nodes": [node]}), _REGISTRY)


async def execute(plan: Plan, size: int, sink: EventSink) -> None:
    """Run it over so many items."""
    result = await WorkflowEngine(_REGISTRY, sink=sink).execute(plan, input={"items": list(range(size))})
    assert result.succeeded, result.error


def growth(size: int) -> int:
    """The bytes by which the peak of this process grows; once a process, as a peak does not go down again."""
    made = plan()
    asyncio.run(execute(made, 100, NullSink()))
    before = memory.peak()
    asyncio.run(execute(made, size, NullSink()))
    return memory.peak() - before


def _growth(size: int) -> Callable[[], float]:
    program = "import sys; from benchmarks.fan_out import growth; print(growth(int(sys.argv[1])))"
    return lambda: float(memory.printed_by(program, size))


def measure(runs: int) -> Iterator[Row]:
    """Microseconds an item and multiples of a bare task; MiB of peak memory."""
    made = plan()
    for size in SIZES:
        subjects = {
            TASK: timed(lambda size=size: tasks(size)),  # type: ignore[misc]
            "PyFlow, with states and events": timed(lambda size=size: execute(made, size, MemorySink())),  # type: ignore[misc]
        }
        yield from rows(interleaved(subjects, runs), "µs/item", f"for_each of {size:,}: ", TASK, scale=1e6 / size)
    grown = {f"for_each of {size:,}: growth of the peak": _growth(size) for size in SIZES}
    yield from rows(interleaved(grown, runs), "MiB", scale=1 / 2**20)
