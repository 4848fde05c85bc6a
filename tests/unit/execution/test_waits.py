"""Who is woken by what."""

import asyncio
from typing import Any

import pytest

from pyflow.core.events import Event, EventType
from pyflow.core.suspension import Signal
from pyflow.execution.engine import Execution, WorkflowEngine
from pyflow.nodes.signal import SignalNode
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow


class Waiting(stage.Sink):
    """Lets a test wait until so many nodes wait."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.reached = asyncio.Event()

    async def commit(self, event: Event) -> None:
        await super().commit(event)
        if len(self.of(EventType.NODE_WAITING)) == self._count:
            self.reached.set()


def two_waiting(sink: stage.Sink, **arguments: Any) -> Execution:
    registry = stage.registry()
    registry.register(SignalNode)
    nodes = [node(id, "signal", config={"name": "go", "timeout": "1d"}) for id in ("a", "b")]
    engine = WorkflowEngine(registry, sink=sink, clock=stage.StandingClock())
    return stage.start(engine, workflow(*nodes), **arguments)


@pytest.mark.parametrize("early", [0, 1, 2])
async def test_one_signal_wakes_one_node_however_early_it_is(early: int):
    sink = Waiting(2)
    execution = two_waiting(sink, signals=[Signal("go", number) for number in range(early)])
    running = asyncio.create_task(execution.wait())
    await sink.reached.wait()
    for number in range(early, 2):
        execution.signal("go", number)
    result = await running
    assert sorted(run.output for run in result.nodes.values()) == [0, 1]
