"""What a stop, a pause and a restart mean in each section of a run; a restart is not seen in what becomes of it."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pyflow.core.events import NODE_ENDS, Event, EventType, posix
from pyflow.core.ports import MappingSecrets
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun, RunResult
from pyflow.core.states import NodeState, RunState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import Execution, WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage
from tests.support.factories.stage import Held, node, workflow

TIMEOUT = {"settings": {"timeout": "1h"}}
FINALLY = {"finally": [node("last", "held", config={"value": "last"})]} | TIMEOUT
UNDONE = {"compensate": {"type": "echo", "config": {"value": "undone"}}}


class Stopped:
    """A run that stands in one of its sections: what it has done until then, and how it goes on after a stop."""

    def __init__(self, definition: WorkflowDef) -> None:
        self.held = Held()
        self.sink = stage.Sink()
        self._definition = definition

    async def stop(self, standing_in: str, outcome: RunState) -> RunResult:
        """Stop when the node `standing_in` executes, and let it go."""
        execution, task = self._start()
        await self.held.until(standing_in)
        _stop(execution, outcome)
        await asyncio.sleep(0)
        self.held.leave.set()
        return await task

    async def restart(self, standing_in: str, outcome: RunState) -> RunResult:
        """Lose the process when the node executes, and stop the run before somebody goes on with it."""
        execution, task = self._start()
        await self.held.until(standing_in)
        recorded = {run.id: run for run in execution._state.runs if run is not None}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.held.leave.set()
        execution, task = self._start(recorded=recorded)
        _stop(execution, outcome)
        return await task

    def _start(self, **arguments: Any) -> tuple[Execution, "asyncio.Task[RunResult]"]:
        engine = WorkflowEngine(stage.registry(held=self.held))
        execution = stage.start(engine, self._definition, sink=self.sink, **arguments)
        return execution, asyncio.create_task(execution.wait())


def _stop(execution: Execution, outcome: RunState) -> None:
    if outcome is RunState.CANCELLED:
        execution.cancel()
    else:
        execution._stop(outcome)


FAILS = workflow(
    node("first", config={"value": 1}, **UNDONE),
    node("bad", "fail", "first"),
    on_failure=[node("page", "held", config={"value": "page"}), node("then", "echo", "page")],
    **FINALLY,
)
WORKS = workflow(node("first", config={"value": 1}, **UNDONE), on_failure=[node("page")], **FINALLY)
SLOW = workflow(
    node("first", config={"value": 1}, **UNDONE),
    node("slow", "held", "first", config={"value": "slow"}),
    node("next", "echo", "slow"),
    on_failure=[node("page")],
    **{"finally": [node("last")]},
    **TIMEOUT,
)
#: Where the run stands, what stops it, and what becomes of it: its state, and those of some nodes.
CASES = {
    "a cancellation in the graph": (
        SLOW,
        "slow",
        RunState.CANCELLED,
        "cancelled",
        {"slow": "cancelled", "next": "cancelled", "first:compensate": "succeeded", "page": "skipped"},
    ),
    "a timeout in the graph": (
        SLOW,
        "slow",
        RunState.TIMED_OUT,
        "timed_out",
        {"slow": "cancelled", "next": "cancelled", "first:compensate": "succeeded", "page": "succeeded"},
    ),
    "a cancellation in on_failure": (
        FAILS,
        "page",
        RunState.CANCELLED,
        "failed",
        {"page": "cancelled", "then": "cancelled", "last": "succeeded", "first:compensate": "succeeded"},
    ),
    "a timeout in on_failure": (
        FAILS,
        "page",
        RunState.TIMED_OUT,
        "failed",
        {"page": "succeeded", "then": "succeeded", "last": "succeeded"},
    ),
    "a cancellation in finally": (WORKS, "last", RunState.CANCELLED, "succeeded", {"last": "succeeded"}),
    "a timeout in finally": (WORKS, "last", RunState.TIMED_OUT, "succeeded", {"last": "succeeded"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["stop", "restart"])
async def test_a_stop_means_the_same_whether_a_restart_came_between(name: str, way: str):
    definition, standing_in, outcome, state, nodes = CASES[name]
    result = await getattr(Stopped(definition), way)(standing_in, outcome)
    assert result.state == state
    found = stage.states(result)
    assert {id: found[id] for id in nodes} == nodes
    if state == "succeeded":
        assert "first:compensate" not in found


async def test_a_graph_that_ends_although_it_was_stopped_is_judged_by_its_nodes():
    async def stubborn(config: dict[str, Any], _: Any) -> str:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return ""

    inside = asyncio.Event()
    execution = stage.start(WorkflowEngine(stage.registry(stubborn=stubborn)), workflow(node("a", "stubborn")))
    task = asyncio.create_task(execution.wait())
    await inside.wait()
    execution.cancel()
    assert (await task).state == "succeeded"


@pytest.mark.parametrize("error", [RuntimeError("while it cleaned up"), None])
async def test_a_node_that_ends_its_own_way_when_it_is_stopped_was_cut_short_all_the_same(error: Exception | None):
    async def cleans_up(config: dict[str, Any], _: Any) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            raise

    inside, sink = asyncio.Event(), stage.Sink()
    engine = WorkflowEngine(stage.registry(cleans_up=cleans_up), sink=sink)
    execution = stage.start(engine, workflow(node("a", "cleans_up"), on_failure=[node("page")]))
    task = asyncio.create_task(execution.wait())
    await inside.wait()
    execution.cancel()
    result = await task
    assert (result.state, result.nodes["page"].state) == ("cancelled", "skipped")
    assert [event.data["reason"] for event in sink.of(EventType.NODE_FAILED)] == ["cancelled"]


async def test_a_stop_that_is_on_record_is_the_one_that_counts():
    cut = NodeRun("slow", NodeState.CANCELLED, reason="timed_out", attempts=1)
    first = NodeRun("first", NodeState.SUCCEEDED, output=1, attempts=1)
    held = Held()
    held.leave.set()
    execution = stage.start(WorkflowEngine(stage.registry(held=held)), SLOW, recorded={"first": first, "slow": cut})
    execution.cancel()
    result = await execution.wait()
    assert result.state == "timed_out"
    assert stage.states(result)["page"] == "cancelled"  # the cancellation came when the graph had ended
    assert stage.states(result)["last"] == "succeeded"


async def test_outputs_that_cannot_be_computed_fail_the_run_before_its_handlers():
    definition = workflow(
        node("ok", config={"value": {"a": 1}}, **UNDONE),
        outputs={"o": "{{ ok.missing }}"},
        on_failure=[node("alarm", config={"value": "{{ run.error.message }}"})],
        **{"finally": [node("report", config={"value": "{{ run.state }}"})]},
    )
    result = await stage.run(definition)
    assert (result.state, result.outputs, result.compensation) == ("failed", None, "succeeded")
    assert "missing" in result.nodes["alarm"].output
    assert result.nodes["report"].output == "failed"
    assert result.error is not None
    assert result.error.node_id is None


async def test_a_failure_in_finally_fails_the_run_and_nothing_else():
    definition = workflow(
        node("a", **UNDONE), on_failure=[node("page")], outputs={"x": "{{ a }}"}, **{"finally": [node("z", "fail")]}
    )
    result = await stage.run(definition)
    assert (result.state, result.compensation, result.outputs) == ("failed", None, None)
    assert stage.states(result) == {"a": "succeeded", "z": "failed", "page": "skipped"}


async def test_what_other_nodes_see_of_a_secret_is_what_a_resumed_run_would_see():
    definition = workflow(
        node("a", config={"value": "it is {{ secrets.S }}"}), node("b", "echo", "a", config={"value": "{{ a }}"})
    )
    result = await stage.run(definition, secrets=MappingSecrets({"S": "sesame-open"}))
    assert result.nodes["b"].output == "it is ***"


@pytest.mark.parametrize("turns", range(12))
async def test_a_run_that_is_lost_when_a_node_is_about_to_begin_leaves_no_coroutine_behind(turns: int):
    held = Held()
    execution = stage.start(
        WorkflowEngine(stage.registry(held=held)),
        workflow(node("a", "held", config={"value": "a"}), node("b", "waits", "a"), node("c", "waits", "a")),
    )
    task = asyncio.create_task(execution.wait())
    await held.until("a")
    held.leave.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del execution, task
    gc.collect()  # which warns of a coroutine that was never awaited


# --- fan-outs


class Items:
    """The node type of items: fails for those in `failures` that often, and waits in those of `held` until released."""

    def __init__(self, failures: dict[str, int] | None = None, held: str = "") -> None:
        self.failures = failures or {}
        self.began: list[str] = []
        self.inside, self.go_on = asyncio.Event(), asyncio.Event()
        self._held = held

    async def __call__(self, config: dict[str, Any], _: Any) -> str:
        value: str = config["value"]
        self.began.append(value)
        if value == self._held:
            self.inside.set()
            await self.go_on.wait()
        self.failures[value] = self.failures.get(value, 0) - 1
        if self.failures[value] >= 0:
            raise RuntimeError(f"{value} fails")
        return value.upper()


def each(items: list[str], **fields: Any) -> dict[str, Any]:
    return node("all", "items", for_each=items, config={"value": "{{ item }}"}, **fields)


class Watched(stage.Sink):
    """A sink in which a test waits for an event."""

    def __init__(self, type: EventType) -> None:
        super().__init__()
        self.seen = asyncio.Event()
        self._type = type

    async def commit(self, event: Event) -> None:
        await super().commit(event)
        if event.type is self._type:
            self.seen.set()


async def test_items_that_back_off_while_the_run_is_paused_are_tried_again_when_it_is_resumed_at_once():
    items, sink, clock = Items({"a": 1}, held="b"), Watched(EventType.NODE_RETRYING), stage.StandingClock()
    engine = WorkflowEngine(stage.registry(items=items), sink=sink, clock=clock)
    execution = stage.start(engine, workflow(each(["a", "b"], retry={"max_attempts": 2, "initial_interval": "10s"})))
    task = asyncio.create_task(execution.wait())
    await asyncio.gather(sink.seen.wait(), items.inside.wait(), clock.asleep.wait())
    execution.pause()
    await asyncio.sleep(0)
    execution.resume()
    items.go_on.set()
    clock.wake(10)
    result = await task
    assert result.nodes["all"].output == ["A", "B"]
    assert items.began == ["a", "b", "a"]
    assert result.nodes["all"].attempts == 1


async def test_a_pause_of_a_fan_out_is_no_loss_of_its_worker():
    items, sink = Items(held="a"), stage.Sink()
    engine = WorkflowEngine(stage.registry(items=items), sink=sink)
    definition = workflow(each(["a", "b"], max_parallel=1, on_lost="fail"))
    execution = stage.start(engine, definition, run_id="r")
    task = asyncio.create_task(execution.wait())
    await items.inside.wait()
    execution.pause()
    items.go_on.set()
    paused = await task
    assert (paused.state, paused.nodes["all"].state) == ("paused", "waiting")
    result = await stage.execute(engine, definition, run_id="r", recorded={"all": paused.nodes["all"]})
    assert (result.state, result.nodes["all"].output) == ("succeeded", ["A", "B"])
    assert items.began == ["a", "b"]
    assert [event.data["attempt"] for event in sink.of(EventType.NODE_STARTED)] == [1, 1]


def recorded_item(index: int, key: str, state: str, attempts: int = 1, **fields: Any) -> ItemRun:
    item = ItemRun(index, key)
    item.state, item.attempts = NodeState(state), attempts
    if item.state is NodeState.FAILED:
        item.error = ErrorInfo("node_error", "it failed", "RuntimeError", "all")
    for name, value in fields.items():
        setattr(item, name, value)
    return item


def recorded_fan_out(*items: ItemRun) -> dict[str, NodeRun]:
    run = NodeRun("all", NodeState.RUNNING, attempts=1)
    run.items = {item.index: item for item in items}
    return {"all": run}


async def test_an_item_whose_failure_was_tolerated_is_not_executed_again_after_a_restart():
    items = Items()
    definition = workflow(each(["a", "b"], tolerate_failures=1, retry={"max_attempts": 2}))
    failed = recorded_item(0, "0", "failed", attempts=2)
    result = await stage.run(definition, {"items": items}, recorded=recorded_fan_out(failed))
    assert (items.began, result.nodes["all"].output) == (["b"], [None, "B"])
    assert result.nodes["all"].items is not None
    assert result.nodes["all"].items[0].attempts == 2


async def test_more_failures_than_are_tolerated_are_so_after_a_restart_too():
    items = Items()
    failed = [recorded_item(index, str(index), "failed") for index in (0, 1)]
    definition = workflow(each(["a", "b", "c"], tolerate_failures=1))
    result = await stage.run(definition, {"items": items}, recorded=recorded_fan_out(*failed))
    assert (items.began, result.state) == ([], "failed")


async def test_the_total_timeout_of_an_item_bounds_its_backoffs():
    clock = stage.Clock()
    retry = {"max_attempts": 9, "initial_interval": "4s", "backoff_coefficient": 1}
    definition = workflow(each(["a"], total_timeout="10s", retry=retry))
    result = await stage.run(definition, {"items": Items({"a": 9})}, clock=clock)
    assert (result.state, clock.slept) == ("failed", [4, 4])


async def test_the_total_timeout_of_an_item_and_its_backoff_go_on_after_a_restart():
    clock, sink = stage.Clock(), stage.Sink()
    retry = {"max_attempts": 9, "initial_interval": "4s", "backoff_coefficient": 1}
    definition = workflow(each(["a"], total_timeout="10s", retry=retry))
    begun = recorded_item(0, "0", "retrying", 2, started_at=clock.now - 5, wake_at=clock.now + 3)
    result = await stage.run(
        definition, {"items": Items({"a": 9})}, clock=clock, sink=sink, recorded=recorded_fan_out(begun)
    )
    assert (result.state, clock.slept) == ("failed", [3])  # another 4 s would be more than 10
    [failed] = [event for event in sink.of(EventType.NODE_FAILED) if "item" in event.data]
    assert failed.data["attempt"] == 3
    assert posix(failed.data["started_at"]) == clock.now - 8


async def test_items_of_a_compensation_have_events_like_all_others():
    attempts: list[tuple[str, int]] = []

    class Undo(stage.Told):
        node_type = "undo"

        async def run(self, config: Any, ctx: Any) -> object:
            attempts.append((config.text, ctx.attempt))
            if (config.text, ctx.attempt) == ("B", 1):
                raise RuntimeError("not yet")
            return None

    registry = stage.registry(items=Items())
    registry.register(Undo)
    sink = stage.Sink()
    undo = {"type": "undo", "config": {"count": 1, "text": "{{ output }}"}, "retry": {"initial_interval": "1ms"}}
    definition = workflow(each(["a", "b"], max_parallel=1, compensate=undo), node("end", "fail", "all"))
    result = await WorkflowEngine(registry, sink=sink, clock=stage.Clock()).execute(definition)
    assert (attempts, result.compensation) == ([("B", 1), ("A", 1), ("B", 2)], "succeeded")
    told = [
        (str(event.type), event.data["item"]["key"], event.data["attempt"])
        for event in sink.events
        if event.node_id == "all:compensate" and "item" in event.data
    ]
    assert told == [("node.retrying", "1", 1), ("node.succeeded", "0", 1), ("node.succeeded", "1", 2)]


async def test_what_is_undone_first_after_a_restart_is_what_would_have_been():
    """The fan-out that was under way ends last, so what it has done is undone first."""
    undone: list[str] = []

    def undo(config: dict[str, Any], _: Any) -> None:
        undone.append(config["what"])

    other = {"type": "undo", "config": {"what": "other"}}
    of_item = {"type": "undo", "config": {"what": "{{ output }}"}}
    definition = workflow(each(["a", "b"], compensate=of_item), node("other", compensate=other))
    run = recorded_fan_out(recorded_item(0, "0", "succeeded", output="A", finished_at=1.0))
    ended = NodeRun("other", NodeState.SUCCEEDED, attempts=1)
    ended.finished_at = 2.0
    engine = WorkflowEngine(stage.registry(items=Items(), undo=undo))
    execution = stage.start(engine, definition, recorded=run | {"other": ended})
    execution.cancel()
    assert (await execution.wait()).state == "cancelled"
    assert undone == ["A", "other"]


class HeldSink(stage.Sink):
    """Keeps one commit back, until ``go`` is set."""

    def __init__(self, kept: tuple[EventType, str]) -> None:
        super().__init__()
        self.kept = kept
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def commit(self, event: Event) -> None:
        """Record it, and say so late."""
        await super().commit(event)
        if (event.type, event.node_id) == self.kept:
            self.reached.set()
            await self.go.wait()


RETRIED = {"retry": {"max_attempts": 2, "initial_interval": "1ms"}}
#: What is on its way to the record when the stop comes, and the graph in which it is.
LATE_STOPS = {
    "the skip of one while others are about to start": (
        (EventType.NODE_SKIPPED, "not"),
        [node("a"), node("next", "echo", "a"), node("b", "echo", "a"), node("not", "echo", "a", run_if="any_failed")],
    ),
    "a retry": ((EventType.NODE_RETRYING, "a"), [node("a", "fail", **RETRIED)]),
    "a timer": ((EventType.NODE_WAITING, "a"), [node("a", "wait", config={"duration": "1ms"})]),
    "the result of one that others follow": ((EventType.NODE_SUCCEEDED, "a"), [node("a"), node("next", "echo", "a")]),
}


@pytest.mark.parametrize("case", LATE_STOPS)
async def test_a_stop_that_comes_while_something_is_recorded_starts_nothing_more(case: str):
    kept, nodes = LATE_STOPS[case]
    sink = HeldSink(kept)
    registry = stage.registry()
    registry.register(default_registry.get("wait"))
    definition = workflow(*nodes, **{"finally": [node("last", config={"value": 1})]})
    execution = stage.start(WorkflowEngine(registry, sink=sink), definition)
    task = asyncio.create_task(execution.wait())
    await sink.reached.wait()
    execution.cancel()
    for _ in range(20):
        await asyncio.sleep(0.001)  # what has been recorded as ended has time to start
    sink.go.set()
    result = await task
    ends = Counter(event.node_id for event in sink.events if event.type in NODE_ENDS.values() and event.node_id)
    begun_after_its_end = [
        event.node_id
        for number, event in enumerate(sink.events)
        if event.type is EventType.NODE_STARTED
        and any(e.node_id == event.node_id and e.type in NODE_ENDS.values() for e in sink.events[:number])
    ]
    assert result.state == "cancelled"
    assert set(ends.values()) == {1}
    assert set(ends) == set(result.nodes)
    assert begun_after_its_end == []


# --- when a run is about to be parked


WAITS = "version: 2\nname: waits\nnodes: [{id: a, type: signal, config: {name: go}}]\n"


class AsItParks(stage.Sink):
    """Does something once the run is about to be parked: after that is decided, and before its execution knows."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.execution: Execution | None = None
        self._then = then

    def emit(self, event: Event) -> None:
        super().emit(event)
        if event.type is EventType.RUN_STARTED and self.execution is not None:
            self.execution._finished.add_done_callback(lambda _: self._then())


async def parking(then: Callable[[Execution], object], **arguments: Any) -> tuple[RunResult, AsItParks]:
    sink = AsItParks(lambda: then(execution))
    engine = WorkflowEngine(default_registry)
    execution = stage.start(engine, parse_workflow(WAITS), sink=sink, park=True, **arguments)
    sink.execution = execution
    return await execution.wait(), sink


async def test_a_stop_that_comes_as_a_run_is_parked_ends_it_in_order():
    result, sink = await parking(lambda execution: execution.cancel())
    assert result.state is RunState.CANCELLED
    assert sink.trail()[-2:] == ["node.skipped a", "run.cancelled"]


async def test_a_signal_that_comes_as_a_run_is_parked_is_taken():
    result, sink = await parking(lambda execution: execution.signal("go", 7))
    assert (result.state, result.nodes["a"].output) == (RunState.SUCCEEDED, 7)
    assert sink.trail()[-2:] == ["node.succeeded a", "run.succeeded"]


async def test_a_stop_after_a_run_was_parked_is_somebody_elses():
    execution = stage.start(WorkflowEngine(default_registry), parse_workflow(WAITS), park=True)
    assert (await execution.wait()).state is RunState.WAITING
    assert not execution.cancel()
