"""Fan-outs of nodes that wait: each item for its own time, signal or decision."""

import asyncio
from typing import Any

import pytest

from pyflow.core.events import EventType
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import Signal
from pyflow.execution.engine import RunRequest, WorkflowEngine
from pyflow.nodes.approval import ApprovalNode
from pyflow.nodes.signal import SignalNode
from pyflow.nodes.wait import WaitNode
from tests.support.factories import stage
from tests.support.factories.stage import Counting, node, workflow

REGISTRY = stage.registry()
for cls in (WaitNode, SignalNode, ApprovalNode):
    REGISTRY.register(cls)  # type: ignore[type-var]
PAID = {"name": "paid-{{ item }}"}
ASK = {"assignees": ["{{ item }}"]}


def each(type: str, items: Any, config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return node("all", type, for_each=items, config=config, **fields)


class Parked:
    """A run that is executed as the platform does it: put down whenever nothing can proceed."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.document = workflow(*nodes)
        self.clock = stage.StandingClock()
        self.sink = stage.Sink()
        self.recorded: dict[str, NodeRun] = {}
        self.signals: list[Signal] = []

    async def go_on(self, *signals: Signal, later: float = 0.0) -> RunResult:
        """Execute it until it is put down or ends, in an engine that knows the record only."""
        self.clock.now += later
        self.signals += signals
        engine = WorkflowEngine(REGISTRY, clock=self.clock, sink=self.sink)
        request = RunRequest(
            self.document, run_id="r", recorded=self.recorded, signals=self.signals, park=True, begun_at=1_000_000.0
        )
        result = await engine.start(request).wait()
        self.recorded = {id: run for id, run in result.nodes.items() if run.state is not NodeState.PENDING}
        taken = {event.data.get("signal") for event in self.sink.of(EventType.NODE_SUCCEEDED)}
        self.signals = [signal for signal in self.signals if signal.id not in taken]
        return result

    @property
    def items(self) -> list[str]:
        """The states of the items."""
        items = self.recorded["all"].items or {}
        return [str(items[index].state) for index in sorted(items)]


async def test_each_item_has_its_own_timer():
    run = Parked(each("wait", ["3s", "1s", "2s"], {"duration": "{{ item }}"}))
    for left in (1, 1, 1):
        result = await run.go_on()
        assert (result.state, result.wake_at) == (RunState.WAITING, run.clock.now + left)
        run.clock.now += left
    result = await run.go_on()
    assert (result.state, run.items) == (RunState.SUCCEEDED, ["succeeded"] * 3)
    assert result.finished_at - 1_000_000.0 == 3
    waits = [event.data["item"]["index"] for event in run.sink.of(EventType.NODE_WAITING) if "item" in event.data]
    assert sorted(waits) == [0, 1, 2]


async def test_in_the_library_all_items_wait_at_the_same_time():
    clock = stage.Clock()
    result = await stage.execute(
        WorkflowEngine(REGISTRY, clock=clock), workflow(each("wait", list(range(200)), {"duration": "1h"}))
    )
    assert result.succeeded
    assert result.finished_at - result.started_at == pytest.approx(3600)


async def test_each_item_takes_the_signal_of_its_name():
    run = Parked(each("signal", ["a", "b", "c"], PAID))
    assert (await run.go_on(Signal("paid-b", 2, "2"))).state is RunState.WAITING
    assert run.items == ["waiting", "succeeded", "waiting"]
    assert (await run.go_on()).wake_at is None
    await run.go_on(Signal("paid-c", 3, "3"))
    result = await run.go_on(Signal("paid-a", 1, "1"))
    assert result.nodes["all"].output == [1, 2, 3]
    ends = {
        event.data["item"]["index"]: event.data["signal"]
        for event in run.sink.of(EventType.NODE_SUCCEEDED)
        if "item" in event.data
    }
    assert ends == {0: "1", 1: "2", 2: "3"}


async def test_one_signal_wakes_one_item():
    run = Parked(each("signal", [1, 2], {"name": "go"}))
    await run.go_on(Signal("go", "first", "1"))
    assert run.items == ["succeeded", "waiting"]
    assert (await run.go_on(Signal("go", "second", "2"))).nodes["all"].output == ["first", "second"]


async def test_a_signal_reaches_an_item_while_the_run_executes():
    engine = WorkflowEngine(REGISTRY, clock=stage.StandingClock(), sink=(sink := Counting(3)))
    execution = engine.start(RunRequest(workflow(each("signal", ["a", "b"], PAID))))
    ended = asyncio.ensure_future(execution.wait())
    await sink.waiting.wait()
    assert execution.signal("paid-b", 2, "2")
    assert not execution.signal("paid-b", 2, "2")
    assert execution.signal("paid-a", 1)
    assert (await ended).nodes["all"].output == [1, 2]


async def test_decisions_are_addressed_by_the_key_of_the_item():
    people = {"ada": "user:ada", "bob": "user:bob"}
    run = Parked(each("approval", people, {**ASK, "on_reject": "continue"}))
    await run.go_on()
    items = run.recorded["all"].items
    assert items is not None
    waits = [items[index].wait for index in (0, 1)]
    assert [(wait.signal, wait.details["assignees"]) for wait in waits if wait] == [
        ("approval:all:ada", ["user:ada"]),
        ("approval:all:bob", ["user:bob"]),
    ]
    await run.go_on(Signal("approval:all:bob", {"approved": True}, "x", frozenset({"user:ada"})))
    assert run.items == ["waiting", "waiting"]
    [refused] = run.sink.of(EventType.NODE_SIGNAL_REFUSED)
    assert refused.data == {
        "name": "approval:all:bob",
        "reason": "the sender is not among the assignees",
        "signal": "x",
    }
    run.signals.clear()
    await run.go_on(Signal("approval:all:bob", {"approved": False}, "y", frozenset({"user:bob"})))
    assert run.items == ["waiting", "succeeded"]
    result = await run.go_on(Signal("approval:all:ada", {"approved": True}, "z"))
    assert [output["approved"] for output in result.nodes["all"].output] == [True, False]


async def test_what_a_timeout_means_is_said_per_item():
    config = {"assignees": ["role:admin"], "timeout": "{{ item.timeout }}", "on_timeout": "{{ item.then }}"}
    items = [{"timeout": "1s", "then": "approve"}, {"timeout": "2s", "then": "fail"}]
    run = Parked(each("approval", items, config, tolerate_failures=1))
    assert (await run.go_on()).wake_at == run.clock.now + 1
    assert (await run.go_on(later=1)).wake_at == run.clock.now + 1
    result = await run.go_on(later=1)
    assert [output and output["timed_out"] for output in result.nodes["all"].output] == [True, None]
    assert run.items == ["succeeded", "timed_out"]


async def test_no_more_items_wait_at_a_time_than_max_parallel_says():
    run = Parked(each("signal", ["a", "b", "c", "d"], PAID, max_parallel=2))
    await run.go_on()
    assert run.items == ["waiting", "waiting"]
    await run.go_on(Signal("paid-b", 2, "2"))
    assert run.items == ["waiting", "succeeded", "waiting"]
    result = await run.go_on(*(Signal(f"paid-{name}", name, name) for name in "acd"))
    assert result.nodes["all"].output == ["a", 2, "c", "d"]


async def test_the_timeout_of_the_node_counts_from_the_start_of_the_item():
    run = Parked(each("signal", ["a", "b"], PAID, timeout="5s", max_parallel=1, tolerate_failures=2))
    assert (await run.go_on()).wake_at == run.clock.now + 5
    assert (await run.go_on(later=5)).wake_at == run.clock.now + 5
    assert (await run.go_on(later=5)).nodes["all"].output == [None, None]
    assert run.items == ["timed_out", "timed_out"]


async def test_one_failure_too_many_ends_the_others():
    run = Parked(each("signal", ["a", "b"], PAID, timeout="5s"))
    await run.go_on(later=0)
    items = run.recorded["all"].items
    assert items is not None
    items[1].wake_at, items[1].wait = None, None if items[1].wait is None else type(items[1].wait)(None, "paid-b")
    result = await run.go_on(later=5)
    assert (result.state, run.items) == (RunState.FAILED, ["timed_out", "cancelled"])


async def test_items_that_are_not_wanted_do_not_wait():
    run = Parked(each("signal", ["a", "b"], PAID, item_when="item == 'b'", collect="mapping", item_key="{{ item }}"))
    result = await run.go_on(Signal("paid-b", 2, "2"))
    assert result.nodes["all"].output == {"a": None, "b": 2}


async def test_a_key_that_is_too_long_for_a_signal_fails_its_item():
    run = Parked(each("approval", ["x" * 300], {"assignees": ["role:admin"]}, item_key="{{ item }}"))
    result = await run.go_on()
    items = result.nodes["all"].items
    assert items is not None
    error = items[0].error
    assert error is not None
    assert "has at most 255 characters" in error.message
    assert "item_key" in error.message


async def test_completed_items_are_undone():
    undo = {"type": "echo", "config": {"value": "{{ item }}"}}
    run = Parked(each("signal", ["a", "b"], PAID, compensate=undo), node("bad", "fail", "all"))
    result = await run.go_on(Signal("paid-a", 1, "1"), Signal("paid-b", 2, "2"))
    assert result.compensation == "succeeded"
    assert result.nodes["all:compensate"].output == 2


async def test_cancelling_ends_the_items_that_wait():
    engine = WorkflowEngine(REGISTRY, clock=stage.StandingClock(), sink=(sink := stage.Sink()))
    run = Parked(each("signal", ["a", "b"], PAID))
    await run.go_on(Signal("paid-a", 1, "1"))
    request = RunRequest(run.document, run_id="r", recorded=run.recorded, park=True, begun_at=1_000_000.0)
    execution = engine.start(request)
    execution.cancel()
    result = await execution.wait()
    assert (result.state, result.nodes["all"].state) == (RunState.CANCELLED, NodeState.CANCELLED)
    items = result.nodes["all"].items
    assert items is not None
    assert {index: str(item.state) for index, item in items.items()} == {0: "succeeded", 1: "cancelled"}
    [end] = [event for event in sink.of(EventType.NODE_FAILED) if "item" in event.data]
    assert end.data["item"] == {"index": 1, "key": "1"}
