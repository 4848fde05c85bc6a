"""`compensate`: a failed run undoes what it has done."""

import asyncio
from typing import Any

import pytest

from pyflow.core.events import EventType
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun
from pyflow.core.states import NodeState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow


class Undo:
    """The node type that compensates: records its config, and fails for what is in `failures` that often."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures
        self.done: list[Any] = []

    def __call__(self, config: dict[str, Any], _: Any) -> str:
        what = config["what"]
        self.failures[what] = self.failures.get(what, 0) - 1
        if self.failures[what] >= 0:
            raise RuntimeError(f"{what} cannot be undone")
        self.done.append(what)
        return f"{what} undone"


def step(id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    undo = {"type": "undo", "config": {"what": "{{ output }}"}, **fields.pop("undo", {})}
    return node(id, "echo", *depends_on, config={"value": id}, compensate=undo, **fields)


SAGA = (step("order"), step("payment", "order"), step("stock", "payment"))
BROKEN = node("ship", "fail", "stock")


async def run(definition: WorkflowDef, undo: Undo, **arguments: Any) -> Any:
    return await stage.run(definition, {"undo": undo}, **arguments)


async def test_a_failed_run_undoes_its_nodes_in_reverse_order():
    undo = Undo()
    result = await run(workflow(*SAGA, BROKEN), undo)
    assert undo.done == ["stock", "payment", "order"]
    assert (result.state, result.compensation) == ("failed", "succeeded")
    assert result.nodes["stock:compensate"].output == "stock undone"
    assert result.error.node_id == "ship"


async def test_a_run_that_succeeds_undoes_nothing():
    undo = Undo()
    result = await run(workflow(*SAGA), undo)
    assert (undo.done, result.compensation) == ([], None)
    assert "order:compensate" not in result.nodes


async def test_nothing_to_undo_is_no_compensation():
    result = await run(workflow(node("first", "fail"), step("order", "first")), Undo())
    assert result.compensation is None


@pytest.mark.parametrize(("failing", "undone"), [(0, []), (1, ["order"]), (2, ["payment", "order"])])
async def test_only_what_completed_is_undone(failing: int, undone: list[str]):
    steps = [dict(part) for part in SAGA]
    steps[failing]["type"] = "fail"
    undo = Undo()
    await run(workflow(*steps), undo)
    assert undo.done == undone


async def test_the_order_is_that_of_completion_not_of_the_file():
    slow_may_end = asyncio.Event()

    async def slow(config: dict[str, Any], _: Any) -> str:
        await slow_may_end.wait()
        return "slow"

    def quick(config: dict[str, Any], _: Any) -> str:
        slow_may_end.set()
        return "quick"

    undo = Undo()
    steps = [step("one") | {"type": "slow"}, step("two") | {"type": "quick"}]
    definition = workflow(*steps, node("end", "fail", "one", "two"))
    await stage.run(definition, {"undo": undo, "slow": slow, "quick": quick})
    assert undo.done == ["slow", "quick"]


async def test_a_compensation_sees_the_run_and_what_the_node_saw():
    undo = Undo()
    seen = {"what": ["{{ output }}", "{{ order }}", "{{ run.error.node_id }}", "{{ input.id }}"]}
    whole = Undo.__call__

    def noting(config: dict[str, Any], context: Any) -> str:
        return whole(undo, {"what": "|".join(config["what"])}, context)

    definition = workflow(step("order", undo={"config": seen}), node("end", "fail", "order"))
    await stage.run(definition, {"undo": noting}, input={"id": "A7"})
    assert undo.done == ["order|order|end|A7"]


async def test_a_compensation_that_fails_is_recorded_and_the_others_still_run():
    undo = Undo(payment=99)
    result = await run(workflow(*SAGA, BROKEN), undo)
    assert undo.done == ["stock", "order"]
    assert (result.state, result.compensation) == ("failed", "failed")
    assert result.nodes["payment:compensate"].error.message == "payment cannot be undone"
    assert result.error.node_id == "ship"  # why the run failed, not why it could not be undone


async def test_a_compensation_has_its_own_retries():
    clock, undo = stage.Clock(), Undo(order=2)
    retry = {"retry": {"max_attempts": 3, "initial_interval": "5s"}}
    definition = workflow(step("order", undo=retry), node("end", "fail", "order"))
    result = await run(definition, undo, clock=clock)
    assert (undo.done, result.compensation) == (["order"], "succeeded")
    assert result.nodes["order:compensate"].attempts == 3
    assert clock.slept == [5, 10]


def fan_out(**fields: Any) -> dict[str, Any]:
    undo = {"type": "undo", "config": {"what": "{{ output }}{{ item_key }}"}} | fields.pop("undo", {})
    return node(
        "all",
        "work",
        for_each="{{ input.items }}",
        max_parallel=1,
        config={"value": "{{ item }}"},
        compensate=undo,
        **fields,
    )


def work(config: dict[str, Any], _: Any) -> str:
    if config["value"] == "bad":
        raise RuntimeError("bad")
    return str(config["value"])


async def test_a_fan_out_is_undone_item_by_item_the_last_first():
    undo = Undo()
    definition = workflow(fan_out(), node("end", "fail", "all"))
    result = await stage.run(definition, {"undo": undo, "work": work}, input={"items": ["a", "b", "c"]})
    assert undo.done == ["c2", "b1", "a0"]
    assert result.nodes["all:compensate"].output == 3


async def test_the_items_are_undone_in_reverse_order_of_their_completion():
    first_may_end = asyncio.Event()

    async def crossed(config: dict[str, Any], _: Any) -> str:
        if config["value"] == "a":
            await first_may_end.wait()
        first_may_end.set()
        return str(config["value"])

    undo = Undo()
    both = fan_out() | {"max_parallel": 2}
    definition = workflow(both, node("end", "fail", "all"))
    await stage.run(definition, {"undo": undo, "work": crossed}, input={"items": ["a", "b"]})
    assert undo.done == ["a0", "b1"]


async def test_after_a_restart_items_are_undone_in_reverse_order_of_their_completion():
    undo = Undo()
    done = NodeRun("all", NodeState.SUCCEEDED, attempts=1, output=["a", "b", "c"])
    done.items = {}
    for index, (value, at) in enumerate([("a", 2.0), ("b", 3.0), ("c", 2.0)]):
        item = done.items[index] = ItemRun(index, str(index), value)
        item.state, item.output, item.finished_at = NodeState.SUCCEEDED, value, at
    definition = workflow(fan_out(), node("x", "fail", "all"))
    await stage.run(definition, {"undo": undo, "work": work}, input={"items": ["a", "b", "c"]}, recorded={"all": done})
    assert undo.done == ["b1", "c2", "a0"]


async def test_of_a_fan_out_that_failed_the_completed_items_are_undone():
    undo = Undo()
    result = await stage.run(
        workflow(fan_out()), {"undo": undo, "work": work}, input={"items": ["a", "b", "bad", "never"]}
    )
    assert undo.done == ["b1", "a0"]
    assert result.compensation == "succeeded"


async def test_an_item_that_cannot_be_undone_keeps_no_other_from_it():
    undo = Undo(b1=99)
    definition = workflow(fan_out(), node("end", "fail", "all"))
    result = await stage.run(definition, {"undo": undo, "work": work}, input={"items": ["a", "b", "c"]})
    assert undo.done == ["c2", "a0"]
    assert result.compensation == "failed"
    items = result.nodes["all:compensate"].items
    assert items is not None
    assert {item.key: str(item.state) for item in items.values()} == {
        "0": "succeeded",
        "1": "failed",
        "2": "succeeded",
    }


async def test_a_retried_compensation_of_a_fan_out_repeats_only_what_failed():
    undo = Undo(b1=1)
    retry = {"retry": {"max_attempts": 2, "initial_interval": "1s"}}
    definition = workflow(fan_out(undo=retry), node("end", "fail", "all"))
    result = await stage.run(
        definition, {"undo": undo, "work": work}, input={"items": ["a", "b", "c"]}, clock=stage.Clock()
    )
    assert undo.done == ["c2", "a0", "b1"]
    assert result.compensation == "succeeded"


def done(id: str, at: float, **fields: Any) -> tuple[str, NodeRun]:
    run = NodeRun(id, NodeState.SUCCEEDED, output=id, attempts=1, **fields)
    run.finished_at = at
    return id, run


async def test_a_saga_goes_on_where_it_was_interrupted():
    undo = Undo()
    failed = NodeRun("ship", NodeState.FAILED, error=ErrorInfo("x", "no", "RuntimeError", "ship"), attempts=1)
    begun = NodeRun("payment:compensate", NodeState.RUNNING, attempts=1)
    record = dict([done("order", 1), done("payment", 2), done("stock", 3), done("stock:compensate", 5)])
    result = await run(workflow(*SAGA, BROKEN), undo, recorded={**record, "ship": failed, "payment:compensate": begun})
    assert undo.done == ["payment", "order"]
    assert result.nodes["payment:compensate"].attempts == 2
    assert (result.state, result.compensation) == ("failed", "succeeded")


async def test_items_that_were_undone_before_a_crash_are_not_undone_again():
    undo = Undo()
    definition = workflow(fan_out(), node("end", "fail", "all"))
    _, all_done = done("all", 1)
    all_done.items, undoing = {}, NodeRun("all:compensate", NodeState.RUNNING, attempts=1)
    undoing.items = {}
    for index, value in enumerate("abc"):
        item = all_done.items[index] = ItemRun(index, str(index), value)
        item.state, item.output = NodeState.SUCCEEDED, value
    undoing.items[2] = ItemRun(2, "2")
    undoing.items[2].state = NodeState.SUCCEEDED
    failed = NodeRun("end", NodeState.FAILED, error=ErrorInfo("x", "no", "RuntimeError", "end"), attempts=1)
    recorded = {"all": all_done, "end": failed, "all:compensate": undoing}
    await stage.run(definition, {"undo": undo, "work": work}, input={"items": ["a", "b", "c"]}, recorded=recorded)
    assert undo.done == ["b1", "a0"]


async def test_a_cancelled_run_undoes_what_it_has_done():
    started = asyncio.Event()

    async def stuck(config: dict[str, Any], _: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    undo = Undo()
    engine = WorkflowEngine(stage.registry(undo=undo, stuck=stuck))
    execution = stage.start(engine, workflow(*SAGA, node("ship", "stuck", "stock")))
    running = asyncio.create_task(execution.wait())
    await started.wait()
    execution.cancel()
    result = await running
    assert undo.done == ["stock", "payment", "order"]
    assert (result.state, result.compensation) == ("cancelled", "succeeded")


async def test_a_run_that_took_too_long_undoes_what_it_has_done():
    undo = Undo()
    definition = workflow(*SAGA, node("ship", "waits", "stock"), settings={"timeout": "1h"})
    clock = stage.StandingClock()
    engine = WorkflowEngine(stage.registry(undo=undo), clock=clock, sink=(sink := Until("node.started ship")))
    running = asyncio.create_task(engine.execute(definition))
    await sink.reached.wait()
    clock.wake(3600)
    result = await running
    assert undo.done == ["stock", "payment", "order"]
    assert (result.state, result.compensation) == ("timed_out", "succeeded")


class Until(stage.Sink):
    """Says when a line of the trail has been reached."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = line
        self.reached = asyncio.Event()

    def emit(self, event: Any) -> None:
        super().emit(event)
        if self.trail()[-1] == self._line:
            self.reached.set()


async def test_undoing_is_not_cut_short_by_a_cancellation():
    begun, may_end = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def undo(config: dict[str, Any], _: Any) -> None:
        begun.set()
        await may_end.wait()
        done.append(config["what"])

    engine = WorkflowEngine(stage.registry(undo=undo))
    execution = stage.start(engine, workflow(*SAGA, BROKEN))
    running = asyncio.create_task(execution.wait())
    await begun.wait()
    execution.cancel()
    may_end.set()
    result = await running
    assert done == ["stock", "payment", "order"]
    assert result.compensation == "succeeded"


async def test_undoing_comes_first_then_on_failure_then_finally():
    sink = stage.Sink()
    definition = workflow(
        step("order"), node("end", "fail", "order"), on_failure=[node("note")], finally_=[node("bye")]
    )
    await run(definition, Undo(), sink=sink)
    ended = [event.node_id for event in sink.of(EventType.NODE_SUCCEEDED)]
    assert ended == ["order", "order:compensate", "note", "bye"]


async def test_the_end_of_the_run_has_the_result_of_the_compensation():
    sink = stage.Sink()
    result = await run(workflow(*SAGA, BROKEN), Undo(), sink=sink)
    assert sink.of(EventType.RUN_FAILED)[0].data["compensation"] == "succeeded"
    assert result.as_dict()["compensation"] == "succeeded"


async def test_a_fan_out_without_items_has_nothing_to_undo_after_a_restart_either():
    """It has no items on record, and was taken for a plain node."""
    undo = {"type": "echo", "config": {"value": "{{ item }}"}}
    definition = workflow(node("all", for_each=[], compensate=undo), node("bad", "fail", "all"))
    ended = NodeRun("all", NodeState.SUCCEEDED, output=[], attempts=1)
    for recorded in ({}, {"all": ended}):
        result = await stage.run(definition, recorded=recorded)
        assert (result.compensation, result.nodes["all:compensate"].output) == ("succeeded", 0)
