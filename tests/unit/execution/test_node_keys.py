"""Each key on each kind of node: it has an effect, or the checker refuses it with the reason."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.core.suspension import Signal
from pyflow.documents.models import WorkflowDef
from pyflow.documents.node_keys import KEYS, NodeKind, kind_of, why_refused
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.plan import Plan, PlannedNode
from pyflow.execution.remote import Place
from pyflow.nodes.approval import ApprovalNode
from pyflow.nodes.signal import SignalNode
from pyflow.nodes.wait import WaitNode
from pyflow.nodes.workflow import WorkflowNode
from pyflow.validation.checker import check_workflow
from pyflow_sdk.node import BaseNodeV2, NodeContext
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

CALLS: list[str] = []
INSIDE: list[int] = [0, 0]


class Acts(BaseModel):
    do: str = "echo"
    value: Any = None


async def act(do: str, value: Any) -> Any:
    CALLS.append(do)
    match do:
        case "hang":
            await asyncio.Event().wait()
        case "fail":
            raise RuntimeError("no luck")
        case "gauge":
            INSIDE[0] += 1
            INSIDE[1] = max(INSIDE)
            await asyncio.sleep(0)
            INSIDE[0] -= 1
        case "place":
            return {"pid": os.getpid(), "main": threading.current_thread() is threading.main_thread()}
        case "memory":
            return len(bytearray(2 * 1024**3))
        case "spin":
            while True:
                pass
    return value


class Acting(BaseNodeV2[Acts]):
    """Does what `do` says."""

    node_type = "acting"
    Config = Acts

    async def run(self, config: Acts, ctx: NodeContext) -> object:
        return await act(config.do, config.value)


class ActingV1(BaseNode):
    """The same, as version 1 had it."""

    node_type = "acting_v1"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        return await act(config.get("do", "echo"), config.get("value"))


REGISTRY: NodeRegistry = stage.registry()
for cls in (Acting, ActingV1, WorkflowNode, WaitNode, SignalNode, ApprovalNode):
    REGISTRY.register(cls)  # type: ignore[type-var]

TYPES = {
    NodeKind.CODE: ["acting"],
    NodeKind.V1_CLASS: ["acting_v1"],
    NodeKind.WORKFLOW: ["workflow"],
    NodeKind.WAITING: ["wait", "signal", "approval"],
}
CHILD = workflow(
    node("it", "acting", config={"do": "{{ input.do }}", "value": "{{ input.value }}"}),
    name="child",
    inputs={"do": "string", "value": {"required": False}},
    outputs={"value": "{{ it }}"},
)
#: What wakes a node that waits.
YES = {"approved": True}
SIGNALS = [
    *(Signal("go", payload) for payload in ("a payload", "another", "a third")),
    Signal("approval:a", YES),
    *(Signal(f"approval:a:{key}", YES) for key in ("0", "1", "x", "y", "k-x", "k-y")),
]


class Children:
    def get(self, name: str) -> WorkflowDef:
        assert name == "child"
        return CHILD


class Elsewhere:
    """Notes what it is asked to have executed."""

    async def call(self, node: PlannedNode, place: Place) -> object:
        CALLS.append(f"elsewhere {node.id}")
        return None


def config_of(node_type: str, do: str, value: Any = None) -> dict[str, Any]:
    if node_type == "workflow":
        return {"workflow": "child", "input": {"do": do, "value": value}}
    if node_type == "wait":
        return {"duration": "1d" if do == "hang" else "1s"}
    if node_type == "signal":
        return {"name": "never" if do == "hang" else "go"}
    return {"assignees": ["role:admin"]} if node_type == "approval" else {"do": do, "value": value}


def one(node_type: str, do: str = "echo", value: Any = None, **keys: Any) -> dict[str, Any]:
    return node("a", node_type, config=config_of(node_type, do, value), **keys)


def new_engine() -> WorkflowEngine:
    CALLS.clear()
    INSIDE[:] = [0, 0]
    return WorkflowEngine(REGISTRY, clock=stage.Clock(), workflows=Children())


async def run(*nodes: dict[str, Any], engine: WorkflowEngine | None = None, **arguments: Any) -> RunResult:
    signals = arguments.pop("signals", SIGNALS)
    engine = engine or new_engine()
    return await stage.start(engine, workflow(*nodes), signals=signals, **arguments).wait()


# --- one effect per key ------------------------------------------------------------------------------------------


async def timeout(of: str, key: str = "timeout") -> None:
    result = await run(one(of, "hang", **{key: "5s"}), signals=[])
    assert (result.nodes["a"].state, result.nodes["a"].error.code) == ("timed_out", "node_timeout")
    assert result.finished_at - result.started_at == pytest.approx(5)


async def total_timeout(of: str) -> None:
    await timeout(of, "total_timeout")


async def retry(of: str) -> None:
    result = await run(one(of, "fail", retry={"max_attempts": 2}))
    assert result.nodes["a"].attempts == 2


async def concurrency(of: str) -> None:
    engine = new_engine()
    async with engine.services.shared.slots.hold("k", 1, "queue"):
        result = await run(one(of, concurrency={"key": "k", "on_limit": "fail"}), engine=engine)
    assert result.nodes["a"].error.code == "concurrency_limit"


async def cache(of: str) -> None:
    engine = new_engine()
    for _ in range(2):
        assert (await run(one(of, value=[1], cache={"key": "k", "ttl": "1h"}), engine=engine)).succeeded
    assert CALLS == ["echo"]


async def isolation(of: str) -> None:
    result = await run(one(of, "place", isolation="thread"))
    assert result.nodes["a"].output == {"pid": os.getpid(), "main": False}


async def memory_limit(of: str) -> None:
    result = await run(one(of, "memory", isolation="process", memory_limit="512MiB"))
    assert result.nodes["a"].error.code == "memory_limit"


async def cpu_limit(of: str) -> None:
    result = await run(one(of, "spin", isolation="process", cpu_limit="1s"))
    assert result.nodes["a"].error.code == "cpu_limit"


async def max_output_size(of: str) -> None:
    result = await run(one(of, value="0123456789", max_output_size=8))
    assert result.nodes["a"].error.code == "output_too_large"


async def heartbeat_timeout(of: str) -> None:
    result = await run(one(of, "hang", heartbeat_timeout="5s"))
    assert result.nodes["a"].error.code == "heartbeat_timeout"


async def for_each(of: str) -> None:
    result = await run(one(of, value="{{ item }}", for_each=["x", "y"]))
    if of in TYPES[NodeKind.WAITING]:
        assert [str(item.state) for item in result.nodes["a"].items.values()] == ["succeeded", "succeeded"]
        return
    assert [output if isinstance(output, str) else output["value"] for output in result.nodes["a"].output] == ["x", "y"]


async def item_key(of: str) -> None:
    result = await run(one(of, for_each=["x", "y"], item_key="k-{{ item }}"))
    assert [item.key for item in result.nodes["a"].items.values()] == ["k-x", "k-y"]


async def item_when(of: str) -> None:
    result = await run(one(of, value=1, for_each=[1, 2], item_when="item > 1"))
    assert [str(item.state) for item in result.nodes["a"].items.values()] == ["skipped", "succeeded"]


async def collect(of: str) -> None:
    result = await run(one(of, value=1, for_each={"x": 1, "y": 2}, collect="mapping"))
    assert list(result.nodes["a"].output) == ["x", "y"]


async def max_parallel(of: str) -> None:
    if of in TYPES[NodeKind.WAITING]:
        parked = await run(one(of, "hang", for_each=[1, 2, 3], max_parallel=2), signals=[], park=True)
        assert [str(item.state) for item in parked.nodes["a"].items.values()] == ["waiting", "waiting"]
        return
    assert (await run(one(of, "gauge", for_each=[1, 2, 3], max_parallel=1))).succeeded
    assert (INSIDE[1], len(CALLS)) == (1, 3)


async def tolerate_failures(of: str) -> None:
    if of in TYPES[NodeKind.WAITING]:
        result = await run(one(of, "hang", for_each=[1, 2], tolerate_failures=2, timeout="5s"), signals=[])
    else:
        result = await run(one(of, "fail", for_each=[1, 2], tolerate_failures=2))
    assert result.nodes["a"].output == [None, None]


async def until(of: str) -> None:
    result = await run(one(of, until={"when": "round == 3", "every": "1s"}))
    assert (result.nodes["a"].state, result.nodes["a"].round, CALLS) == ("succeeded", 3, ["echo"] * 3)


async def compensate(of: str) -> None:
    undo = {"type": "acting", "config": {"do": "undo"}}
    result = await run(one(of, compensate=undo), node("b", "fail", "a"))
    assert (result.compensation, CALLS[-1]) == ("succeeded", "undo")


async def queue(of: str) -> None:
    await run(one(of, queue="gpu"), remote=Elsewhere())
    assert CALLS == ["elsewhere a"]


async def on_lost(of: str) -> None:
    lost = NodeRun("a", NodeState.RUNNING, attempts=1)
    result = await run(one(of, on_lost="fail"), recorded={"a": lost})
    assert (result.nodes["a"].error.code, CALLS) == ("worker_lost", [])


async def when(of: str) -> None:
    result = await run(one(of, when="1 > 2"))
    assert (result.nodes["a"].state, result.nodes["a"].reason) == ("skipped", "when")


async def run_if(of: str) -> None:
    result = await run(node("before", "echo"), one(of, run_if="any_failed", depends_on=["before"]))
    assert result.nodes["a"].reason == "run_if any_failed"


async def on_error(of: str) -> None:
    broken = one(of, on_error="skip")
    broken["config"]["name" if of == "signal" else "duration" if of == "wait" else "do"] = "{{ input.nothing }}"
    if of in {"workflow", "approval"}:
        broken["config"] = {"workflow": "{{ input.nothing }}", "assignees": "{{ input.nothing }}"}
        broken["config"].pop("assignees" if of == "workflow" else "workflow")
    result = await run(broken)
    assert (result.state, result.nodes["a"].state) == ("succeeded", "failed")


async def default_output(of: str) -> None:
    skipped = one(of, default_output={"n": 5}, when="False")
    result = await run(skipped, node("after", "echo", "a", run_if="all_done", config={"value": "{{ a.n }}"}))
    assert (result.nodes["a"].state, result.nodes["after"].output) == ("skipped", 5)


async def depends_on(of: str) -> None:
    result = await run(node("before", "fail"), one(of, depends_on=["before"]))
    assert result.nodes["a"].state == "skipped"


EFFECTS: dict[str, Callable[[str], Any]] = {
    effect.__name__: effect
    for effect in (
        timeout, total_timeout, retry, concurrency, cache, isolation, memory_limit, cpu_limit, max_output_size,
        heartbeat_timeout, for_each, item_key, item_when, collect, max_parallel, tolerate_failures, until, compensate,
        queue, on_lost, when, run_if, on_error, default_output, depends_on,
    )
}  # fmt: skip
#: A value of each key that is refused somewhere.
VALUES: dict[str, dict[str, Any]] = {
    "retry": {"retry": {"max_attempts": 2}},
    "concurrency": {"concurrency": {"key": "k"}},
    "cache": {"cache": {"key": "k", "ttl": "1h"}},
    "isolation": {"isolation": "process"},
    "memory_limit": {"isolation": "process", "memory_limit": "1GiB"},
    "cpu_limit": {"isolation": "process", "cpu_limit": "1s"},
    "heartbeat_timeout": {"heartbeat_timeout": "5s"},
    "until": {"until": {"when": "1 == 1"}},
    "queue": {"queue": "gpu"},
    "on_lost": {"on_lost": "fail"},
}
CELLS = [(key, node_type, kind) for key in KEYS for kind, types in TYPES.items() for node_type in types]


@pytest.mark.parametrize(("key", "node_type", "kind"), CELLS, ids=str)
async def test_a_key_has_an_effect_or_is_refused(key: str, node_type: str, kind: NodeKind):
    reason = why_refused(key, kind)
    if reason is None:
        await EFFECTS[key](node_type)
        return
    keys = VALUES[key]
    definition = workflow(one(node_type, **keys))
    [problem] = check_workflow(definition, REGISTRY)
    assert problem.code == "key_without_effect"
    assert problem.pointer == f"/nodes/0/{next(iter(keys))}"
    assert problem.message.endswith(reason)


def test_every_type_is_of_the_kind_that_the_table_has_it_under():
    assert {kind_of(REGISTRY.get(name)): [name] for name in ("acting", "acting_v1", "workflow")} == {
        kind: types for kind, types in TYPES.items() if kind is not NodeKind.WAITING
    }
    assert {kind_of(REGISTRY.get(name)) for name in TYPES[NodeKind.WAITING]} == {NodeKind.WAITING}


@pytest.mark.parametrize(
    ("keys", "section", "message"),
    [
        ({"item_key": "{{ run.id }}"}, "nodes", "`item_key` has no effect without `for_each`"),
        ({"max_parallel": 3}, "nodes", "`max_parallel` has no effect without `for_each`"),
        ({"tolerate_failures": "5%"}, "nodes", "`tolerate_failures` has no effect without `for_each`"),
        ({"memory_limit": "1GiB"}, "nodes", "`memory_limit` has no effect without `isolation: process`"),
        (
            {"isolation": "thread", "cpu_limit": "1s"},
            "nodes",
            "`cpu_limit` has no effect without `isolation: process`",
        ),
        (
            {"compensate": {"type": "echo"}},
            "finally",
            "`compensate` has no effect in `finally`: only `nodes` are undone",
        ),
        (
            {"queue": "gpu"},
            "on_failure",
            "`queue` has no effect in `on_failure`: what finishes a run is executed where the run is",
        ),
    ],
)
def test_a_key_that_lacks_what_it_needs_is_refused(keys: dict[str, Any], section: str, message: str):
    document = {"version": 2, "name": "test", "nodes": [node("b")], section: [one("acting", **keys)]}
    [problem] = check_workflow(WorkflowDef.model_validate(document), REGISTRY)
    assert (problem.code, problem.message) == ("key_without_effect", message)


@pytest.mark.parametrize("node_type", ["signal", "approval"])
@pytest.mark.parametrize("key", ["timeout", "total_timeout"])
def test_two_times_to_wait_are_refused(node_type: str, key: str):
    definition = one(node_type, **{key: "5s"})
    definition["config"]["timeout"] = "1d"
    [problem] = check_workflow(workflow(definition), REGISTRY)
    assert (problem.code, problem.pointer) == ("key_without_effect", f"/nodes/0/{key}")
    assert "give one of them" in problem.message


def test_version_1_ignores_what_it_always_ignored():
    assert (
        check_workflow(stage.v1(one("wait", retry={"max_retries": 1}, cache=7, queue=[], timeout="x")), REGISTRY) == []
    )


# --- nodes that wait ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node_type", TYPES[NodeKind.WAITING])
async def test_the_timeout_of_a_node_that_waits_counts_from_its_start_over_a_restart(node_type: str):
    definition = workflow(one(node_type, "hang", timeout="10s"))
    engine = new_engine()
    parked = await stage.start(engine, definition, park=True).wait()
    assert (parked.state, parked.wake_at) == ("waiting", 1_000_010.0)
    for later, state in ((9.0, "waiting"), (10.0, "failed")):
        engine = WorkflowEngine(REGISTRY, clock=stage.Clock(1_000_000.0 + later))
        result = await stage.start(engine, definition, park=True, recorded=dict(parked.nodes)).wait()
        assert result.state == state
    assert result.nodes["a"].state == "timed_out"
    assert result.nodes["a"].error.message == "what the node waits for did not come within 10 s (`timeout`)"


async def test_a_wait_that_ends_first_succeeds():
    result = await run(node("a", "wait", config={"duration": "5s"}, timeout="5s", total_timeout="6s"))
    assert result.succeeded


async def test_an_early_signal_is_in_time():
    assert (await run(one("signal", timeout="5s"))).nodes["a"].output == "a payload"


def test_a_plan_hands_no_node_that_waits_to_a_queue():
    definition = workflow(one("wait"), settings={"distribute": True})
    assert not Plan(definition, REGISTRY).nodes[0].remote
