"""Events of a run in the library: a callback, and an asynchronous iterator."""

import asyncio
import logging
from contextlib import aclosing

import pytest
from pydantic import BaseModel

from pyflow.core.events import Event
from pyflow.core.ports import MemorySink
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.support.factories import stage

HELLO = parse_workflow(
    """
name: hello
version: 2
inputs: {who: string}
nodes:
  - {id: work, type: work, config: {}}
  - {id: greet, type: work, depends_on: [work], config: {who: "{{ input.who }}"}}
outputs: {text: "{{ nodes.greet.output }}"}
"""
)
TYPES = ["run.started", "node.started", "node.progress", "node.succeeded", "node.started", "node.succeeded"]


class Work(BaseNodeV2["Work.Config"]):
    """Reports progress once, and greets."""

    node_type = "work"

    class Config(BaseModel):
        who: str = ""

    async def run(self, config: Config, ctx: NodeContext) -> str:
        if not config.who:
            ctx.progress(0.4, "40 of 100")
            await asyncio.sleep(0)
        return f"Hello {config.who}"


@pytest.fixture
def engine() -> WorkflowEngine:
    registry = stage.registry()
    registry.register(Work)
    return WorkflowEngine(registry, sink=MemorySink())


def types(events: list[Event]) -> list[str]:
    return [str(event.type) for event in events]


async def test_a_callback_gets_what_the_sink_gets(engine: WorkflowEngine):
    seen: list[Event] = []
    result = await engine.execute(HELLO, input={"who": "Ada"}, on_event=seen.append)
    assert result.outputs == {"text": "Hello Ada"}
    assert types(seen) == [*TYPES, "run.succeeded"]
    assert seen == engine.services.sink.events
    assert seen[2].data == {"fraction": 0.4, "message": "40 of 100"}


async def test_a_callback_that_fails_harms_nobody(engine: WorkflowEngine, caplog):
    def fail(event: Event) -> None:
        raise ValueError(event.seq)

    with caplog.at_level(logging.ERROR):
        result = await engine.execute(HELLO, input={"who": "Ada"}, on_event=fail)
    assert str(result.state) == "succeeded"
    assert len(caplog.records) == len(TYPES) + 1


async def test_events_are_iterated_over_as_they_happen(engine: WorkflowEngine):
    seen = [event async for event in engine.stream(HELLO, input={"who": "Ada"})]
    assert types(seen) == [*TYPES, "run.succeeded"]
    assert seen[-1].data["outputs"] == {"text": "Hello Ada"}


async def test_who_leaves_the_iteration_cancels_the_run():
    async def stay(config: object, context: object) -> None:
        await asyncio.Event().wait()

    sink = MemorySink()
    engine = WorkflowEngine(stage.registry(stay=stay), sink=sink)
    forever = parse_workflow("{name: forever, version: 2, nodes: [{id: stay, type: stay, config: {}}]}")
    async with aclosing(engine.stream(forever)) as events:
        async for event in events:
            if event.type == "node.started":
                break
    assert str(sink.events[-1].type) == "run.cancelled"


async def test_two_runs_do_not_hear_of_each_other(engine: WorkflowEngine):
    seen: list[Event] = []
    await asyncio.gather(
        engine.execute(HELLO, input={"who": "Ada"}, run_id="one", on_event=seen.append),
        engine.execute(HELLO, input={"who": "Bob"}, run_id="two"),
    )
    assert {event.run_id for event in seen} == {"one"}
