"""What a node or a run may use: cached results, slots, time without progress, size; and where and how it runs."""

import asyncio
import os
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from pyflow.core.errors import NodeError
from pyflow.core.events import Event
from pyflow.core.result import NodeRun
from pyflow.core.states import NodeState
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.shared import ConcurrencyLimitError, Shared, SkippedByLimitError, Slots
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.support.factories import stage
from tests.support.factories.stage import Held, node, workflow
from tests.unit.isolation.isolated_nodes import Blocking, Doer


class Counted:
    """A node type that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, config: dict[str, Any], _: Any) -> int:
        self.calls += 1
        if config.get("fails"):
            raise RuntimeError("no")
        return self.calls


# --- cache


def cached(id: str = "a", *depends_on: str, key: str = "k", **config: Any) -> dict[str, Any]:
    return node(id, "counted", *depends_on, config=config, cache={"key": key, "ttl": "10m"})


async def test_a_result_is_reused_until_it_expires():
    counted, clock = Counted(), stage.Clock()
    engine = WorkflowEngine(stage.registry(counted=counted), clock=clock)
    seen = []
    for later in (0, 599, 1, 599):
        clock.now += later
        result = await engine.execute(workflow(cached()))
        seen.append(result.nodes["a"].output)
    assert seen == [1, 1, 2, 2]


async def test_results_of_other_keys_are_others():
    counted = Counted()
    nodes = [cached("a", key="{{ input.x }}-1"), cached("b", "a", key="{{ input.x }}-2"), cached("c", "b", key="x-1")]
    result = await stage.run(workflow(*nodes), {"counted": counted}, input={"x": "x"})
    assert [result.nodes[id].output for id in "abc"] == [1, 2, 1]


async def test_items_of_a_fan_out_are_cached_by_their_own_keys():
    counted = Counted()
    each = cached(key="{{ item }}") | {"for_each": ["x", "y", "x"], "max_parallel": 1}
    result = await stage.run(workflow(each), {"counted": counted})
    assert result.nodes["a"].output == [1, 2, 1]


async def test_a_failure_is_not_cached():
    counted = Counted()
    engine = WorkflowEngine(stage.registry(counted=counted))
    for _ in range(2):
        await engine.execute(workflow(cached(fails=True)))
    assert counted.calls == 2


async def test_engines_share_results_if_they_are_configured_to():
    counted, shared = Counted(), Shared()
    for _ in range(2):
        await WorkflowEngine(stage.registry(counted=counted), shared=shared).execute(workflow(cached()))
    assert counted.calls == 1
    await WorkflowEngine(stage.registry(counted=counted)).execute(workflow(cached()))
    assert counted.calls == 2


# --- concurrency


def limited(id: str, on_limit: str = "queue", limit: int = 1, **fields: Any) -> dict[str, Any]:
    slots = {"key": "{{ vars.key }}", "limit": limit, "on_limit": on_limit}
    return node(id, "held", config={"value": id}, concurrency=slots, **fields)


async def two_runs(second: str, on_limit: str, held: Held) -> tuple[Any, Any]:
    """The results of a run that holds the slot and of another that wants it."""
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(workflow(limited("one"), vars={"key": "k"})))
    await held.until("one")
    other = asyncio.create_task(engine.execute(workflow(limited("two", on_limit), vars={"key": second})))
    if on_limit == "cancel_oldest":
        await held.until("two")
    elif second != "k":
        await held.until("one", "two")
    elif on_limit != "queue":
        await other
    held.leave.set()
    return await first, await other


async def test_a_node_waits_for_the_slot_of_its_key():
    held = Held()
    one, two = await two_runs("k", "queue", held)
    assert held.most == 1
    assert (one.state, two.state) == ("succeeded", "succeeded")


async def test_another_key_has_slots_of_its_own():
    held = Held()
    await two_runs("other", "queue", held)
    assert held.most == 2


@pytest.mark.parametrize("on_limit", ["fail", "cancel_newest"])
async def test_a_node_without_a_slot_may_fail(on_limit: str):
    one, two = await two_runs("k", on_limit, Held())
    assert one.succeeded
    assert two.nodes["two"].error.code == "concurrency_limit"


async def test_a_node_without_a_slot_may_be_skipped():
    one, two = await two_runs("k", "skip", Held())
    assert one.succeeded
    assert (two.nodes["two"].state, two.nodes["two"].reason) == ("skipped", "concurrency")


async def test_a_node_may_take_the_slot_of_the_oldest():
    one, two = await two_runs("k", "cancel_oldest", Held())
    assert one.nodes["one"].error.code == "concurrency_limit"
    assert two.succeeded


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_items_than_slots_are_inside(limit: int):
    most = now = 0

    async def busy(config: dict[str, Any], _: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    slots = {"key": "k", "limit": limit}
    result = await stage.run(
        workflow(node("a", "busy", for_each=list(range(30)), max_parallel=30, concurrency=slots)), {"busy": busy}
    )
    assert result.succeeded
    assert most == limit


async def test_a_slot_that_was_promised_is_not_given_to_somebody_who_comes_in_between():
    slots, inside, most = Slots(), 0, 0

    async def hold() -> None:
        nonlocal inside, most
        async with slots.hold("k", 1, "queue"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async def leave_and_come_back() -> None:
        await hold()
        await hold()  # at once: the one who waited has been told, but has not run yet

    await asyncio.gather(*(leave_and_come_back() for _ in range(5)))
    assert most == 1


async def test_a_waiter_that_gives_up_gives_its_turn_to_the_next():
    slots, order = Slots(), []

    async def hold(name: str) -> None:
        async with slots.hold("k", 1, "queue"):
            order.append(name)

    async with slots.hold("k", 1, "queue"):
        tasks = [asyncio.create_task(hold(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
    tasks[1].cancel()  # told, but not there yet
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["c"]


async def test_a_cancelled_run_waits_for_no_slot():
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(workflow(limited("one"), vars={"key": "k"})))
    await held.until("one")
    execution = stage.start(engine, workflow(limited("two"), node("after", "echo", "two"), vars={"key": "k"}))
    second = asyncio.create_task(execution.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    execution.cancel()
    assert (await second).state == "cancelled"
    held.leave.set()
    assert (await first).succeeded


async def test_waiting_for_a_slot_is_no_part_of_an_attempt():
    held, clock = Held(), stage.Clock()
    held.leave.set()
    engine = WorkflowEngine(stage.registry(held=held), clock=clock)
    async with engine.services.shared.slots.hold("k", 1, "queue"):
        running = asyncio.create_task(engine.execute(workflow(limited("a", timeout="1h"), vars={"key": "k"})))
        for _ in range(10):
            await asyncio.sleep(0)
        assert clock.slept == []  # nothing measures an attempt yet
    assert (await running).succeeded
    assert clock.slept in ([], [3600.0])


@pytest.mark.parametrize("fields", [{}, {"for_each": ["x"]}], ids=["node", "item"])
async def test_waiting_for_a_slot_counts_against_the_total_timeout(fields: dict[str, Any]):
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held), clock=stage.Clock())
    async with engine.services.shared.slots.hold("k", 1, "queue"):
        definition = workflow(limited("a", total_timeout="1h", retry={"max_attempts": 3}, **fields), vars={"key": "k"})
        result = await engine.execute(definition)
    run = result.nodes["a"].items[0] if fields else result.nodes["a"]
    assert (run.state, run.attempts) == ("timed_out", 1)
    assert run.error.message == "no slot within 3600 s"
    assert held.inside == []
    assert engine.services.shared.slots._lanes == {}


async def test_the_total_timeout_goes_on_over_a_restart_while_a_node_waits_for_a_slot():
    clock = stage.Clock()
    engine = WorkflowEngine(stage.registry(held=Held()), clock=clock)
    earlier = NodeRun("a", NodeState.RUNNING, attempts=1)
    earlier.started_at = clock.now - 3000
    async with engine.services.shared.slots.hold("k", 1, "queue"):
        definition = workflow(limited("a", total_timeout="1h"), vars={"key": "k"})
        result = await stage.start(engine, definition, recorded={"a": earlier}).wait()
    assert result.nodes["a"].state == "timed_out"
    assert clock.slept == [600.0]


def one_at_a_time(id: str, on_limit: str) -> Any:
    return workflow(
        node(id, "held", config={"value": id}),
        settings={"concurrency": {"key": "{{ input.key }}", "on_limit": on_limit}},
    )


@pytest.mark.parametrize(
    ("on_limit", "state", "error"),
    [
        ("skip", "cancelled", SkippedByLimitError),
        ("fail", "failed", ConcurrencyLimitError),
        ("cancel_newest", "cancelled", ConcurrencyLimitError),
    ],
)
async def test_a_run_without_a_slot_does_not_begin(on_limit: str, state: str, error: type[NodeError]):
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    refused = await engine.execute(one_at_a_time("two", on_limit), input={"key": "k"})
    assert (refused.state, refused.error.code) == (state, error.code)
    held.leave.set()
    assert (await first).succeeded


async def test_a_run_may_take_the_slot_of_the_oldest():
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held))
    first = asyncio.create_task(engine.execute(one_at_a_time("one", "queue"), input={"key": "k"}))
    await held.until("one")
    second = asyncio.create_task(engine.execute(one_at_a_time("two", "cancel_oldest"), input={"key": "k"}))
    assert (await first).state == "cancelled"
    await held.until("two")
    held.leave.set()
    assert (await second).succeeded


async def test_runs_of_one_key_queue_and_runs_of_another_do_not():
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held))
    keys = {"one": "k", "two": "k", "three": "other"}
    runs = [
        asyncio.create_task(engine.execute(one_at_a_time(id, "queue"), input={"key": key})) for id, key in keys.items()
    ]
    await held.until("one", "three")
    held.leave.set()
    assert [result.succeeded for result in await asyncio.gather(*runs)] == [True] * 3
    assert held.most == 2


# --- progress, size, durability, isolation


class Beats(BaseNodeV2["Beats.Config"]):
    """Reports progress `beats` times, and then never again."""

    node_type = "beats"

    class Config(BaseModel):
        beats: int

    async def run(self, config: Config, ctx: NodeContext) -> object:
        for number in range(config.beats):
            ctx.progress(number / config.beats, "on it")
            await asyncio.sleep(0)
        if config.beats < 100:
            await asyncio.Event().wait()
        return "done"


@pytest.mark.parametrize(("beats", "state"), [(0, "timed_out"), (3, "timed_out"), (100, "succeeded")])
async def test_a_node_that_stops_reporting_progress_is_timed_out(beats: int, state: str):
    registry = stage.registry()
    registry.register(Beats)
    definition = workflow(node("a", "beats", config={"beats": beats}, heartbeat_timeout="200ms"))
    result = await WorkflowEngine(registry).execute(definition)
    assert result.nodes["a"].state == state
    if state == "timed_out":
        assert result.nodes["a"].error is not None
        assert result.nodes["a"].error.code == "heartbeat_timeout"


@pytest.mark.parametrize(("value", "state"), [("x" * 98, "succeeded"), ("x" * 99, "failed"), ("é" * 50, "failed")])
async def test_an_output_may_have_so_many_bytes_as_json(value: str, state: str):
    result = await stage.run(workflow(node("a", config={"value": value}, max_output_size=100)))
    assert result.nodes["a"].state == state
    if result.error is not None:
        assert result.error.code == "output_too_large"


async def test_an_output_that_is_too_large_is_not_tried_again():
    retry = {"max_attempts": 5}
    result = await stage.run(workflow(node("a", config={"value": "xxxx"}, max_output_size=2, retry=retry)))
    assert result.nodes["a"].attempts == 1


class Slow(stage.Sink):
    """Never makes the completion of a node durable."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def commit(self, event: Event) -> None:
        await super().commit(event)
        if event.node_id is not None:
            self.asked.set()
            await asyncio.Event().wait()


async def test_a_durable_node_is_recorded_before_the_next_one_starts():
    sink = Slow()
    running = asyncio.create_task(stage.run(workflow(node("a"), node("b", "echo", "a")), sink=sink))
    await sink.asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sink.trail() == ["run.started", "node.started a", "node.succeeded a"]


async def test_with_durability_run_nobody_waits_for_the_record_of_a_node():
    sink = Slow()
    definition = workflow(node("a"), node("b", "echo", "a"), settings={"durability": "run"})
    result = await stage.run(definition, sink=sink)
    assert result.succeeded
    assert not sink.asked.is_set()
    assert sink.trail()[-2:] == ["node.succeeded b", "run.succeeded"]


async def test_isolated_nodes_run_in_a_thread_or_a_process_of_their_own():
    registry = stage.registry()
    registry.register(Doer)
    registry.register(Blocking)
    process = node("process", "doer", config={"do": "echo", "value": "{{ input.x }}"}, isolation="process")
    thread = node("thread", "blocking", config={"value": "{{ input.x }}"}, isolation="thread")
    result = await WorkflowEngine(registry).execute(workflow(process, thread), input={"x": [1, 2]})
    assert result.nodes["process"].output["value"] == [1, 2]
    assert result.nodes["process"].output["pid"] != os.getpid()
    assert result.nodes["thread"].output == {"value": [1, 2], "thread": True}
    assert threading.current_thread() is threading.main_thread()


async def test_a_node_in_a_process_that_is_killed_fails_alone():
    registry = stage.registry()
    registry.register(Doer)
    dies = node("dies", "doer", config={"do": "suicide"}, isolation="process", on_error="skip")
    result = await WorkflowEngine(registry).execute(workflow(dies, node("other")))
    assert stage.states(result) == {"dies": "failed", "other": "succeeded"}


async def test_an_item_without_a_slot_may_be_skipped_and_fails_nothing():
    held = Held()
    engine = WorkflowEngine(stage.registry(held=held))
    slots = {"key": "k", "on_limit": "skip"}
    each = node("all", "held", for_each=["a", "b"], config={"value": "{{ item }}"}, concurrency=slots)
    running = asyncio.create_task(engine.execute(workflow(each)))
    await held.until("a")
    held.leave.set()
    result = await running
    assert result.nodes["all"].output == ["a", None]
    assert [item["state"] for item in result.nodes["all"].as_dict()["items"]] == ["succeeded", "skipped"]
