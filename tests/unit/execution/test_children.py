"""`workflow` nodes: runs started by runs."""

import asyncio
import itertools
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from pyflow.core.children import MAX_DEPTH, child_id
from pyflow.core.events import EventType
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes.workflow import WorkflowNode
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

RUN = "0190f5ee-7b1c-7000-8000-000000000001"


def engine_of(
    *workflows: WorkflowDef, sink: stage.Sink | None = None, **functions: Callable[..., Any]
) -> WorkflowEngine:
    """An engine that finds `workflows` by name."""
    registry = stage.registry(**functions)
    registry.register(WorkflowNode)
    return WorkflowEngine(registry, sink=sink, workflows=Found(workflows))


class Found:
    """Workflows by name."""

    def __init__(self, workflows: tuple[WorkflowDef, ...]) -> None:
        self._by_name = {flow.name: flow for flow in workflows}

    def get(self, name: str) -> WorkflowDef:
        return self._by_name[name]


def calls(name: str, id: str = "call", **config: Any) -> dict[str, Any]:
    fields = {key: config.pop(key) for key in ("for_each", "on_error", "retry") if key in config}
    return node(id, "workflow", config={"workflow": name, **config}, **fields)


DOUBLE = workflow(
    node("twice", config={"value": "{{ input.n * 2 }}"}),
    name="double",
    inputs={"n": "integer"},
    outputs={"result": "{{ twice }}"},
)
PLAIN = workflow(node("a", config={"value": 1}), node("b", "echo", "a", config={"value": 2}), name="plain")
BAD = workflow(node("boom", "fail", config={"message": "no luck"}), name="bad")


async def test_the_output_of_the_node_is_that_of_the_child():
    result = await engine_of(DOUBLE).execute(workflow(calls("double", input={"n": "{{ input.n }}"})), input={"n": 21})
    assert result.nodes["call"].output == {"result": 42}


async def test_a_child_without_declared_outputs_gives_the_results_of_its_nodes():
    result = await engine_of(PLAIN).execute(workflow(calls("plain")))
    assert result.nodes["call"].output == {"a": 1, "b": 2}


async def test_the_input_of_a_child_is_checked_against_its_schema():
    result = await engine_of(DOUBLE).execute(workflow(calls("double", input={"n": "many"})))
    error = result.nodes["call"].error
    assert error is not None
    assert (error.code, error.message) == ("child_run_refused", '/n: the value is not of type "integer"')


async def test_a_child_that_fails_fails_the_node_and_says_why():
    result = await engine_of(BAD).execute(workflow(calls("bad")), run_id=RUN)
    error = result.nodes["call"].error
    assert error is not None
    assert error.code == "child_run_failed"
    assert error.message == f"the child run {child_id(RUN, 'call', None)} of 'bad' failed: no luck"


async def test_a_failure_that_does_not_propagate_is_the_output():
    result = await engine_of(BAD).execute(workflow(calls("bad", propagate=False)), run_id=RUN)
    assert result.succeeded
    output = result.nodes["call"].output
    assert (output["run_id"], output["state"]) == (child_id(RUN, "call", None), "failed")
    assert output["error"]["message"] == "no luck"


async def test_a_detached_child_goes_on_after_its_parent_and_join_waits_for_it():
    may_end, sink = asyncio.Event(), stage.Sink()

    async def slow(config: dict[str, Any], _: Any) -> None:
        await may_end.wait()

    child = workflow(node("slow", "slow"), name="child")
    engine = engine_of(child, sink=sink, slow=slow)
    result = await engine.execute(workflow(calls("child", wait=False)), run_id=RUN)
    assert result.nodes["call"].output == {"run_id": child_id(RUN, "call", None)}
    assert ends(sink) == [RUN]
    may_end.set()
    await engine.join()
    assert ends(sink) == [RUN, child_id(RUN, "call", None)]


def ends(sink: stage.Sink) -> list[str]:
    """The ids of the runs that have ended, in that order."""
    return [event.run_id for event in sink.events if event.node_id is None and event.type != "run.started"]


async def test_the_events_of_children_go_where_those_of_the_run_go():
    engines, own = stage.Sink(), stage.Sink()
    middle = workflow(calls("double", input={"n": 1}), name="middle")
    engine = engine_of(DOUBLE, middle, sink=engines)
    await stage.execute(
        engine, workflow(calls("middle"), calls("double", "aside", input={"n": 1}, wait=False)), sink=own
    )
    await engine.join()
    assert engines.events == []
    assert sorted(event.workflow for event in own.of(EventType.RUN_SUCCEEDED)) == ["double", "double", "middle", "test"]


async def test_a_detached_child_that_fails_fails_nothing():
    engine = engine_of(BAD)
    result = await engine.execute(workflow(calls("bad", wait=False)))
    await engine.join()
    assert result.succeeded


async def test_without_children_join_returns_at_once():
    await engine_of().join()


async def cancelled_with(on_cancel: str) -> tuple[Any, stage.Sink, WorkflowEngine, asyncio.Event]:
    """A parent cancelled while its child is inside a node."""
    inside, may_end, sink = asyncio.Event(), asyncio.Event(), stage.Sink()

    async def slow(config: dict[str, Any], _: Any) -> None:
        inside.set()
        await may_end.wait()

    child = workflow(node("slow", "slow"), name="child", finally_=[node("bye")])
    engine = engine_of(child, sink=sink, slow=slow)
    execution = stage.start(engine, workflow(calls("child", on_cancel=on_cancel)), run_id=RUN)
    running = asyncio.create_task(execution.wait())
    await inside.wait()
    execution.cancel()
    return await running, sink, engine, may_end


def child_trail(sink: stage.Sink) -> list[str]:
    """What happened in the child, from the end of its first node on."""
    lines = [f"{e.type} {e.node_id or ''}".strip() for e in sink.events if e.run_id != RUN]
    return lines[lines.index("node.started slow") + 1 :]


async def test_request_cancel_lets_the_child_clean_up_before_its_parent_ends():
    result, sink, _, _ = await cancelled_with("request_cancel")
    assert result.state == "cancelled"
    trail = child_trail(sink)
    assert "node.succeeded bye" in trail
    assert trail[-1] == "run.cancelled"
    assert ends(sink)[-1] == RUN


async def test_terminate_ends_the_child_where_it_stands():
    result, sink, engine, _ = await cancelled_with("terminate")
    assert result.state == "cancelled"
    await engine.join()
    assert child_trail(sink) == []


async def test_abandon_lets_the_child_go_on():
    result, sink, engine, may_end = await cancelled_with("abandon")
    assert result.state == "cancelled"
    assert child_trail(sink) == []
    may_end.set()
    await engine.join()
    assert child_trail(sink)[-1] == "run.succeeded"


async def test_a_workflow_that_does_not_exist_is_refused_and_not_retried():
    result = await engine_of().execute(workflow(calls("missing", retry={"max_attempts": 5})))
    error = result.nodes["call"].error
    assert error is not None
    assert (error.code, result.nodes["call"].attempts) == ("child_run_refused", 1)
    assert "'missing'" in error.message


async def test_a_child_that_cannot_run_is_refused():
    broken = workflow(node("a", "no_such_type"), name="broken")
    result = await engine_of(broken).execute(workflow(calls("broken")))
    assert result.nodes["call"].error is not None
    assert result.nodes["call"].error.code == "child_run_refused"


@pytest.mark.parametrize("between", [[], ["other"], ["other", "another"]])
async def test_a_workflow_may_not_run_itself_however_many_are_in_between(between: list[str]):
    chain = ["test", *between, "test"]
    flows = [workflow(calls(to), name=name) for name, to in itertools.pairwise(chain)]
    result = await engine_of(*flows).execute(flows[0])
    assert result.state == "failed"
    assert result.error is not None
    assert f"a workflow may not run itself: {' -> '.join(chain)}" in result.error.message


@pytest.mark.parametrize(("length", "state"), [(MAX_DEPTH, "succeeded"), (MAX_DEPTH + 1, "failed")])
async def test_children_may_be_nested_so_deep(length: int, state: str):
    names = [f"w{n}" for n in range(length)]
    flows = [workflow(calls(to), name=name) for name, to in itertools.pairwise(names)]
    flows.append(workflow(node("end"), name=names[-1]))
    result = await engine_of(*flows).execute(flows[0])
    assert result.state == state
    if result.error is not None:
        assert f"nested deeper than {MAX_DEPTH}" in result.error.message


async def test_fan_outs_nest_through_children():
    row = workflow(
        node("cells", for_each="{{ input.cells }}", config={"value": "{{ item * 10 }}"}),
        name="row",
        outputs={"cells": "{{ cells }}"},
    )
    rows = calls("row", for_each=[[1, 2], [], [3]], input={"cells": "{{ item }}"})
    result = await engine_of(row).execute(workflow(rows))
    assert [output["cells"] for output in result.nodes["call"].output] == [[10, 20], [], [30]]


async def test_each_item_has_a_child_of_its_own_and_one_that_fails_can_be_tolerated():
    picky = workflow(node("a", config={"value": "{{ 6 / input.n }}"}), name="picky")
    rows = calls("picky", for_each=[1, 0, 3], input={"n": "{{ item }}"}) | {"tolerate_failures": 1}
    sink = stage.Sink()
    result = await engine_of(picky, sink=sink).execute(workflow(rows), run_id=RUN)
    assert result.nodes["call"].output == [{"a": 6.0}, None, {"a": 2.0}]
    assert set(ends(sink)) == {RUN, *(child_id(RUN, "call", str(n)) for n in range(3))}


async def test_the_id_of_a_child_is_always_the_same_for_the_same_place():
    ids = [
        child_id(RUN, "call", None),
        child_id(RUN, "call", "a"),
        child_id(RUN, "call", "b"),
        child_id(RUN, "x", None),
    ]
    assert ids == [child_id(RUN, *place) for place in (("call", None), ("call", "a"), ("call", "b"), ("x", None))]
    assert len(set(ids)) == 4
    assert all(uuid.UUID(id) for id in ids)
    assert child_id("not a uuid", "call", None) == child_id("not a uuid", "call", None)


async def test_the_events_of_a_child_have_its_run_id_and_are_numbered_by_themselves():
    sink = stage.Sink()
    await engine_of(PLAIN, sink=sink).execute(workflow(calls("plain")), run_id=RUN)
    child = [event for event in sink.events if event.run_id == child_id(RUN, "call", None)]
    assert [event.seq for event in child] == list(range(1, len(child) + 1))
    assert [str(event.type) for event in child][0::5] == ["run.started", "run.succeeded"]
    assert {event.workflow for event in child} == {"plain"}
