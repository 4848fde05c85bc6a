"""`for_each`: one node, once per item."""

import asyncio
from typing import Any

import pytest

from pyflow.core.events import EventType
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.testing import ManualClock
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow
from tests.support.processes import memory

SEEN = {"value": ["{{ item }}", "{{ item_index }}", "{{ item_key }}"]}


class Picky:
    """A node type that fails for the items in `bad`, as often as they say, and notes the calls."""

    def __init__(self, **bad: int) -> None:
        self.bad = bad
        self.calls: list[Any] = []

    def __call__(self, config: dict[str, Any], _: Any) -> Any:
        item = config["value"]
        self.calls.append(item)
        self.bad[item] = self.bad.get(item, 0) - 1
        if self.bad[item] >= 0:
            raise RuntimeError(f"{item} is bad")
        return f"{item} done"


def each(items: Any, type: str = "picky", value: Any = "{{ item }}", **fields: Any) -> WorkflowDef:
    return workflow(node("all", type, for_each=items, config={"value": value}, **fields))


async def run_picky(items: Any, picky: Picky, **fields: Any) -> RunResult:
    arguments = {key: fields.pop(key) for key in ("recorded", "clock", "sink") if key in fields}
    return await stage.run(each(items, **fields), {"picky": picky}, **arguments)


def item_states(result: RunResult) -> list[str]:
    items = result.nodes["all"].items
    assert items is not None
    return [str(items[index].state) for index in sorted(items)]


async def test_the_items_of_a_list_have_their_index_as_key():
    result = await stage.run(workflow(node("all", for_each=["a", "b"], config=SEEN)))
    assert result.nodes["all"].output == [["a", 0, "0"], ["b", 1, "1"]]


async def test_the_items_of_a_mapping_are_its_values_and_have_its_keys():
    result = await stage.run(workflow(node("all", for_each={"x": 1, "y": 2}, config=SEEN)))
    assert result.nodes["all"].output == [[1, 0, "x"], [2, 1, "y"]]


async def test_the_items_may_come_from_the_input_or_from_another_node():
    nodes = [
        node("list", config={"value": [3, 4]}),
        node("here", "echo", "list", for_each="{{ list }}", config={"value": "{{ item * 2 }}"}),
        node("there", for_each="{{ input.names }}", config={"value": "{{ item | upper }}"}),
    ]
    result = await stage.run(workflow(*nodes), input={"names": ["ada"]})
    assert (result.nodes["here"].output, result.nodes["there"].output) == ([6, 8], ["ADA"])


async def test_dependents_see_the_list_of_outputs():
    after = node("after", "echo", "all", config={"value": "{{ all | sum }}"})
    result = await stage.run(workflow(node("all", for_each=[1, 2, 3], config={"value": "{{ item }}"}), after))
    assert result.nodes["after"].output == 6


async def test_an_own_key_identifies_the_items():
    items = [{"id": "A"}, {"id": "B"}]
    result = await stage.run(
        workflow(node("all", for_each=items, item_key="{{ item.id }}", config={"value": "{{ item_key }}"}))
    )
    assert result.nodes["all"].output == ["A", "B"]
    assert [item["key"] for item in result.nodes["all"].as_dict()["items"]] == ["A", "B"]


async def test_two_items_of_one_key_are_refused_before_anything_runs():
    picky = Picky()
    result = await run_picky(["a", "b"], picky, item_key="same")
    assert result.nodes["all"].error is not None
    assert result.nodes["all"].error.code == "bad_items"
    assert "'same'" in result.nodes["all"].error.message
    assert picky.calls == []


@pytest.mark.parametrize(("value", "kind"), [("text", "str"), (3, "int"), (None, "NoneType"), (True, "bool")])
async def test_what_is_no_list_is_refused_and_not_retried(value: Any, kind: str):
    definition = each("{{ input.items }}", retry={"max_attempts": 5})
    result = await stage.run(definition, {"picky": Picky()}, input={"items": value}, clock=stage.Clock())
    error = result.nodes["all"].error
    assert error is not None
    assert (error.code, result.nodes["all"].attempts) == ("bad_items", 1)
    assert kind in error.message


@pytest.mark.parametrize("items", [[], {}])
async def test_no_items_are_a_success_without_outputs(items: Any):
    result = await run_picky(items, Picky())
    assert result.succeeded
    assert result.nodes["all"].output == []


class Gate:
    """A node type that notes how many of it run at a time, and whose calls end when a test opens the gate."""

    def __init__(self, until: int) -> None:
        self.now = self.most = 0
        self._until = until
        self._open = asyncio.Event()

    async def __call__(self, config: dict[str, Any], _: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now >= self._until:
            self._open.set()
        await self._open.wait()
        await asyncio.sleep(0)
        self.now -= 1
        return config["value"]


@pytest.mark.parametrize("parallel", [1, 3, 10])
async def test_exactly_max_parallel_items_run_at_a_time(parallel: int):
    gate = Gate(until=parallel)  # never opens if fewer run at a time
    result = await stage.run(each(list(range(20)), "gate", max_parallel=parallel), {"gate": gate})
    assert gate.most == parallel
    assert result.nodes["all"].output == list(range(20))


async def test_without_max_parallel_fifty_run_at_a_time():
    gate = Gate(until=50)
    await stage.run(each(list(range(120)), "gate"), {"gate": gate})
    assert gate.most == 50


async def test_the_outputs_are_in_the_order_of_the_items_whichever_ends_first():
    ended: list[int] = []
    ends = [asyncio.Event() for _ in range(4)]
    ends[3].set()

    async def backwards(config: dict[str, Any], _: Any) -> int:
        index: int = config["value"]
        await ends[index].wait()
        ended.append(index)
        if index:
            ends[index - 1].set()
        return index

    result = await stage.run(each([0, 1, 2, 3], "backwards"), {"backwards": backwards})
    assert ended == [3, 2, 1, 0]
    assert result.nodes["all"].output == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("tolerated", "failures", "state"),
    [
        (None, 1, "failed"),
        (1, 1, "succeeded"),
        (1, 2, "failed"),
        ("20%", 2, "succeeded"),
        ("20%", 3, "failed"),
        ("19.9%", 2, "failed"),
        ("100%", 10, "succeeded"),
    ],
)
async def test_so_many_items_may_fail(tolerated: Any, failures: int, state: str):
    items = [f"i{n}" for n in range(10)]
    picky = Picky(**dict.fromkeys(items[:failures], 99))
    result = await run_picky(items, picky, tolerate_failures=tolerated)
    assert result.nodes["all"].state == state
    if state == "succeeded":
        assert result.nodes["all"].output == [None] * failures + [f"{item} done" for item in items[failures:]]


async def test_one_failure_too_many_starts_no_more_items_and_the_error_names_the_first():
    picky = Picky(a=99, c=99)
    result = await run_picky(["a", "b", "c", "d", "e"], picky, max_parallel=1, tolerate_failures=1)
    assert picky.calls == ["a", "b", "c"]
    error = result.nodes["all"].error
    assert error is not None
    assert error.code == "items_failed"
    assert error.message == "2 of 5 items failed (1 tolerated); the first is item '0': RuntimeError: a is bad"


async def test_each_item_has_its_state_attempts_and_error():
    result = await run_picky(["a", "b"], Picky(b=99), tolerate_failures=1)
    items = result.nodes["all"].as_dict()["items"]
    assert items[0] == {"index": 0, "key": "0", "state": "succeeded", "attempts": 1}
    assert (items[1]["state"], items[1]["error"]["message"]) == ("failed", "b is bad")


async def test_an_item_is_retried_by_itself_and_gives_its_slot_to_others_meanwhile():
    clock, picky = stage.Clock(), Picky(a=1)
    retry = {"max_attempts": 2, "initial_interval": "10s"}
    result = await run_picky(["a", "b", "c"], picky, max_parallel=1, retry=retry, clock=clock)
    assert picky.calls == ["a", "b", "c", "a"]
    assert clock.slept == [10]
    assert result.nodes["all"].output == ["a done", "b done", "c done"]
    assert [item["attempts"] for item in result.nodes["all"].as_dict()["items"]] == [2, 1, 1]
    assert result.nodes["all"].attempts == 1


async def test_an_item_fails_when_its_attempts_are_used_up_and_the_node_is_not_retried():
    picky = Picky(a=99)
    retry = {"max_attempts": 3, "initial_interval": "1s"}
    result = await run_picky(["a", "b"], picky, retry=retry, clock=stage.Clock())
    assert picky.calls.count("a") == 3
    assert result.nodes["all"].state == "failed"


async def test_what_happens_to_an_item_is_reported_with_its_place():
    sink = stage.Sink()
    retry = {"max_attempts": 2, "initial_interval": "1s"}
    await run_picky({"x": "a"}, Picky(a=1), retry=retry, clock=stage.Clock(), sink=sink)
    told = [(str(event.type), event.data["item"]) for event in sink.events if "item" in event.data]
    place = {"index": 0, "key": "x"}
    assert told == [("node.retrying", place), ("node.succeeded", place)]
    assert sink.of(EventType.NODE_SUCCEEDED)[-1].data["output"] == ["a done"]


def earlier(*items: tuple[str, str, Any], state: str = "running") -> dict[str, NodeRun]:
    """The record of a fan-out: (key, state, output) of its items."""
    run = NodeRun("all", NodeState(state), attempts=1)
    run.items = {}
    for index, (key, item_state, output) in enumerate(items):
        item = run.items[index] = ItemRun(index, key)
        item.state, item.output, item.attempts = NodeState(item_state), output, 1
        if item_state == "failed":
            item.error = ErrorInfo("node_error", "it failed", "RuntimeError", "all")
    return {"all": run}


async def test_resuming_repeats_only_the_items_that_have_not_ended():
    picky = Picky()
    record = earlier(("0", "succeeded", "kept"), ("1", "retrying", None), ("2", "running", None))
    result = await run_picky(["a", "b", "c", "d"], picky, recorded=record)
    assert picky.calls == ["b", "c", "d"]
    assert result.nodes["all"].output == ["kept", "b done", "c done", "d done"]
    assert [item["attempts"] for item in result.nodes["all"].as_dict()["items"]] == [1, 2, 2, 1]


async def test_an_item_whose_key_is_another_now_is_executed():
    picky = Picky()
    record = earlier(("a", "succeeded", "old a"), ("b", "succeeded", "old b"))
    result = await run_picky(["a", "x"], picky, recorded=record, item_key="{{ item }}")
    assert result.nodes["all"].output == ["old a", "x done"]


async def test_cancelling_in_the_middle_keeps_what_is_done_and_starts_nothing_more():
    started: list[str] = []
    stuck = asyncio.Event()

    async def work(config: dict[str, Any], _: Any) -> str:
        started.append(config["value"])
        if config["value"] == "b":
            stuck.set()
            await asyncio.Event().wait()
        return f"{config['value']} done"

    engine = WorkflowEngine(stage.registry(work=work))
    execution = stage.start(engine, each(["a", "b", "c"], "work", max_parallel=1))
    running = asyncio.create_task(execution.wait())
    await stuck.wait()
    execution.cancel()
    result = await running
    assert result.state == "cancelled"
    assert result.nodes["all"].state == "cancelled"
    assert item_states(result) == ["succeeded", "cancelled"]
    assert started == ["a", "b"]


class Backoffs:
    """A node type whose items fail and back off; `last` fails permanently, once released."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail = asyncio.Event()
        self.retry = {"max_attempts": 2, "initial_interval": "1h", "non_retryable": ["ValueError"]}

    async def __call__(self, config: dict[str, Any], _: Any) -> None:
        self.calls.append(config["value"])
        if config["value"] == "last":
            await self.fail.wait()
            raise ValueError("for good")
        raise RuntimeError("again")


@pytest.mark.parametrize("parallel", [2, 10])
async def test_items_in_backoff_end_at_once_when_the_node_fails_for_good(parallel: int):
    work, clock, sink = Backoffs(), ManualClock(), stage.Sink()
    definition = each(["a", "b", "last"], "work", retry=work.retry, max_parallel=parallel)
    running = asyncio.create_task(stage.run(definition, {"work": work}, clock=clock, sink=sink))
    await clock.advance(0)
    work.fail.set()
    result = await running  # nobody has moved the clock
    assert work.calls == ["a", "b", "last"]
    assert item_states(result) == ["cancelled", "cancelled", "failed"]
    error = result.nodes["all"].error
    assert error is not None
    assert error.message == "1 of 3 items failed (0 tolerated); the first is item '2': ValueError: for good"
    ended = [event.data for event in sink.of(EventType.NODE_FAILED) if "item" in event.data]
    assert [(data["item"]["key"], data["state"], data["error"]["message"]) for data in ended] == [
        ("2", "failed", "for good"),
        ("0", "cancelled", "again"),
        ("1", "cancelled", "again"),
    ]


async def test_items_in_backoff_are_cancelled_with_the_run():
    work, clock, sink = Backoffs(), ManualClock(), stage.Sink()
    engine = WorkflowEngine(stage.registry(work=work), clock=clock, sink=sink)
    execution = stage.start(engine, each(["a", "last"], "work", retry=work.retry))
    running = asyncio.create_task(execution.wait())
    await clock.advance(0)
    execution.cancel()
    result = await running
    assert (result.state, item_states(result)) == ("cancelled", ["cancelled", "cancelled"])
    ended = [event.data for event in sink.of(EventType.NODE_FAILED) if "item" in event.data]
    assert sorted((data["item"]["key"], data["state"], data["error"]["code"]) for data in ended) == [
        ("0", "cancelled", "node_error"),
        ("1", "cancelled", "node_cancelled"),
    ]


async def test_items_that_are_abandoned_end_nowhere():
    work, clock, sink = Backoffs(), ManualClock(), stage.Sink()
    running = asyncio.create_task(
        stage.run(each(["a", "last"], "work", retry=work.retry), {"work": work}, clock=clock, sink=sink)
    )
    await clock.advance(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sink.of(EventType.NODE_FAILED) == []


async def test_a_skipped_item_is_recorded_like_a_skipped_node_and_not_retried_after_a_restart():
    inside, leave, calls, sink = asyncio.Event(), asyncio.Event(), [], stage.Sink()

    async def work(config: dict[str, Any], _: Any) -> str:
        calls.append(config["value"])
        inside.set()
        await leave.wait()
        return "done"

    definition = each(["a", "b"], "work", concurrency={"key": "k", "on_limit": "skip"})
    running = asyncio.create_task(stage.run(definition, {"work": work}, sink=sink))
    await inside.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    [told] = sink.of(EventType.NODE_SKIPPED)
    assert told.node_id == "all"
    assert told.data | {"started_at": None} == {
        "attempt": 1,
        "started_at": None,
        "reason": "concurrency",
        "state": "skipped",
        "item": {"index": 1, "key": "1"},
    }
    leave.set()
    assert (await running).nodes["all"].output == ["done", None]
    record = earlier(("0", "running", None), ("1", "skipped", None))
    result = await stage.run(definition, {"work": work}, recorded=record)
    assert calls == ["a", "a"]
    assert (result.nodes["all"].output, item_states(result)) == (["done", None], ["succeeded", "skipped"])


async def test_each_item_has_an_idempotency_key_of_its_own():
    keys = workflow(node("all", "told", for_each={"x": 1, "y": 2}, config={"count": "{{ item }}"}))
    result = await stage.run(keys, run_id="r")
    assert [output["key"] for output in result.nodes["all"].output] == ["r:all:x", "r:all:y"]


async def test_a_template_that_fails_for_one_item_fails_that_item_alone():
    result = await stage.run(
        workflow(node("all", for_each=[1, 0], tolerate_failures=1, config={"value": "{{ 2 / item }}"}))
    )
    assert result.nodes["all"].output == [2.0, None]


#: Prints the bytes by which the peak grows, per item, for 5,000 and for 30,000 items.
GROWTH = """
    import asyncio, sys
    from tests.support.processes import memory
    from tests.support.factories import stage
    from tests.support.factories.stage import node, workflow

    length = int(sys.argv[1])

    async def output(config, context):
        assert len(config["text"]) > 2000
        return f"{config['value']:0{length}}"

    def execute(size):
        config = {"value": "{{ item }}", "text": "{{ item }}" + "-" * 2000}
        definition = workflow(node("all", "output", for_each="{{ range(%d) | list }}" % size, config=config))
        result = asyncio.run(stage.run(definition, {"output": output}))
        assert result.succeeded and len(result.nodes["all"].output) == size, result.error

    execute(100)
    before = memory.peak()
    for size in (5_000, 30_000):
        execute(size)
        print((memory.peak() - before) / size)
"""
#: What is kept of an item beside its output: its record, its key, its place in three collections.
PER_ITEM = 700


@pytest.mark.parametrize("length", [1, 1000])
def test_of_an_item_only_the_output_and_a_record_stay_in_memory(length: int):
    fewer, more = map(float, memory.printed_by(GROWTH, length).split())
    assert more < PER_ITEM + length
    assert more < 1.5 * fewer
