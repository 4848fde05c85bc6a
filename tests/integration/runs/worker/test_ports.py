"""A workflow comes to the same in the library as on the platform: two implementations of each port of the engine.

Where child runs, secrets, events, slots and the attempts of nodes of other queues come from differs; what becomes of a
run must not.
"""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pyflow.core.events import EventType
from pyflow.core.ports import MappingSecrets, MemorySink
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.validation.loader import parse_workflow
from runs.models import EventRecord, NodeItem, NodeRun, Run
from tests.support import waiting
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.processes.running import state_of

pytestmark = pytest.mark.database
SECRET = "sesame-open-1"


def a_node(id: str, type: str, config: str, **fields: object) -> str:
    """A node in YAML: ``a_node("a", "double", "n: 1", queue="gpu")``."""
    more = "".join(f", {name}: {value}" for name, value in fields.items())
    return f"{{id: {id}, type: {type}, config: {{{config}}}{more}}}"


def doubles(id: str, number: object, **fields: object) -> str:
    return a_node(id, "double", f"n: {number}", **fields)


def calls(child: str, number: object = None, **fields: object) -> str:
    """The node `a`, which starts a child run."""
    return a_node("a", "workflow", f"workflow: {child}" + (f", input: {{n: {number}}}" if number else ""), **fields)


A, ITEM, RESULT = "'{{ a }}'", "'{{ item }}'", {"outputs": "{it: '{{ a }}'}"}
NUMBER, EACH, RETRY = "{n: integer}", {"for_each": "'{{ [1, 0, 3] }}'"}, "{max_attempts: 3, initial_interval: 1ms}"
LAST = {"for_each": "'{{ [1, 3, 0] }}'"}
CHILDREN = (
    workflow(doubles("x", "'{{ input.n }}'"), name="child", inputs=NUMBER, outputs="{it: '{{ x }}'}"),
    workflow(doubles("x", 1), doubles("y", "'{{ x }}'", depends_on="[x]"), name="plain"),
    workflow(a_node("x", "fail", "message: no luck"), name="bad"),
    workflow(calls("child", "'{{ input.n + 1 }}'"), name="deeper", inputs=NUMBER),
    workflow(calls("main"), name="back"),
    workflow(a_node("x", "third", "n: '{{ input.n }}'"), name="third", inputs=NUMBER, outputs="{it: '{{ x }}'}"),
    workflow(
        calls("third", "'{{ input.n }}'", retry=RETRY), name="deep-third", inputs=NUMBER, outputs="{it: '{{ a }}'}"
    ),
    workflow(a_node("x", "wait", "duration: 1h"), name="slow", **{"finally": f"[{doubles('y', 1)}]"}),
    workflow(a_node("x", "inverse", "n: '{{ input.n }}'"), name="inverse", inputs=NUMBER, outputs="{it: '{{ x }}'}"),
)
#: What each is of: the state that its run ends in, its nodes, and more of the document.
CASES: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "the output of a child": ("succeeded", [calls("child", 21)], RESULT),
    "a child without outputs": ("succeeded", [calls("plain")], {}),
    "records of nodes": (
        "succeeded",
        [
            calls("bad", on_error="skip"),
            doubles("s", 1, when="'False'"),
            doubles("d", 4, depends_on="[a, s]", run_if="all_done", queue="gpu"),
        ],
        {
            "outputs": "{a: '{{ nodes.a.state }}', code: '{{ nodes.a.error.code }}', s: '{{ nodes.s.state }}',"
            " d: '{{ nodes.d.output }}'}"
        },
    ),
    "outputs that stand in": (
        "succeeded",
        [
            calls("bad", on_error="skip", default_output="{v: 3}"),
            doubles("s", 1, when="'False'", default_output="{v: 4}"),
            doubles("d", "'{{ a.v + nodes.s.output.v }}'", depends_on="[a, s]", run_if="all_done", queue="gpu"),
        ],
        {"outputs": "{a: '{{ a.v }}', d: '{{ d }}'}"},
    ),
    "a child of a child": ("succeeded", [calls("deeper", 20)], {}),
    "a child that fails": ("failed", [calls("bad"), doubles("b", 1, depends_on="[a]")], {}),
    "a child that may fail": ("succeeded", [calls("bad, propagate: false")], {}),
    "a child that nobody waits for": ("succeeded", [calls("plain, wait: false")], {}),
    "a child that is not there": ("failed", [calls("nothing", retry=RETRY)], {}),
    "a child that is its own ancestor": ("failed", [calls("back")], {}),
    "an input that a child does not take": ("failed", [calls("child", "many", retry=RETRY)], {}),
    "a child for each item": ("succeeded", [calls("child", ITEM, **EACH)], RESULT),
    "an item that fails": ("failed", [a_node("a", "inverse", f"n: {ITEM}", max_parallel=1, **EACH)], {}),
    "an item that may fail": (
        "succeeded",
        [a_node("a", "inverse", f"n: {ITEM}", max_parallel=1, tolerate_failures=1, **EACH)],
        RESULT,
    ),
    "a child at its third attempt": ("succeeded", [calls("third", 1, retry=RETRY)], RESULT),
    "a child of a child at its third attempt": ("succeeded", [calls("deep-third", 1)], RESULT),
    "no attempt left for a child": (
        "failed",
        [calls("bad", retry=RETRY), doubles("b", 1, depends_on="[a]")],
        {"finally": f"[{doubles('e', 3)}]"},
    ),
    "a child for each item at its third attempt": ("succeeded", [calls("third", ITEM, retry=RETRY, **EACH)], RESULT),
    "no attempt left for the child of an item": (
        "succeeded",
        [calls("inverse", ITEM, retry=RETRY, max_parallel=1, tolerate_failures=1, **LAST)],
        RESULT,
    ),
    "no attempt left for the child of an item that has to succeed": (
        "failed",
        [calls("inverse", ITEM, retry=RETRY, max_parallel=1, **LAST)],
        {},
    ),
    "attempts of a child that take too long": ("failed", [calls("slow", timeout="150ms", retry=RETRY)], {}),
    "children of items that take too long": (
        "succeeded",
        [calls("slow", timeout="150ms", retry=RETRY, tolerate_failures="100%", max_parallel=1, **EACH)],
        RESULT,
    ),
    "attempts of a child that take too long in all": (
        "failed",
        [calls("slow", timeout="2s", total_timeout="150ms", retry=RETRY)],
        {},
    ),
    "a child that undoes at its third attempt": (
        "failed",
        [
            doubles(
                "a", 1, compensate=f"{{type: workflow, retry: {RETRY}, config: {{workflow: third, input: {{n: 7}}}}}}"
            ),
            a_node("b", "fail", "message: no luck", depends_on="[a]"),
        ],
        {},
    ),
    "children that undo items at their third attempt": (
        "failed",
        [
            doubles(
                "a",
                ITEM,
                compensate=f"{{type: workflow, retry: {RETRY}, config: {{workflow: third, input: {{n: {ITEM}}}}}}}",
                max_parallel=1,
                **EACH,
            ),
            a_node("b", "fail", "message: no luck", depends_on="[a]"),
        ],
        {},
    ),
    "a child under a limit at its third attempt": (
        "succeeded",
        [calls("third", 1, retry=RETRY, concurrency="{key: k}")],
        RESULT,
    ),
    "another queue": ("succeeded", [doubles("a", 4, queue="gpu"), doubles("b", A, depends_on="[a]")], RESULT),
    "a failure in another queue": ("failed", [a_node("a", "inverse", "n: 0", queue="gpu")], {}),
    "another attempt in another queue": ("succeeded", [a_node("a", "flaky", "", queue="gpu", retry=RETRY)], {}),
    "a distributed fan-out": (
        "succeeded",
        [a_node("a", "inverse", f"n: {ITEM}", max_parallel=1, tolerate_failures="50%", **EACH)],
        {"settings": "{distribute: true}"},
    ),
    "a secret": ("succeeded", [doubles("a", "'it is {{ secrets.TOKEN }}'")], RESULT),
    "a secret in another queue": ("succeeded", [doubles("a", "'it is {{ secrets.TOKEN }}'", queue="gpu")], RESULT),
    "a secret that is not there": ("failed", [doubles("a", "'{{ secrets.NOTHING }}'", retry=RETRY)], {}),
    "a secret in an error": ("failed", [a_node("a", "fail", "message: 'it was {{ secrets.TOKEN }}'")], {}),
    "a failure, and what is done about it": (
        "failed",
        [doubles("a", 1), a_node("b", "inverse", "n: 0", depends_on="[a]"), doubles("c", 1, depends_on="[b]")],
        {"on_failure": f"[{doubles('d', 2)}]", "finally": f"[{doubles('e', 3)}]"},
    ),
    "a node that is skipped": ("succeeded", [doubles("a", 1), doubles("b", 1, depends_on="[a]", when="a > 5")], {}),
    "a slot that is free again": (
        "succeeded",
        [
            calls("child", 1, concurrency="{key: k}"),
            doubles("b", 1, depends_on="[a]", concurrency="{key: k, on_limit: fail}"),
        ],
        {},
    ),
}


@dataclass
class Played:
    """What became of a run, and in which order what is not a wait happened in it."""

    state: str
    outputs: Any
    error: tuple[str, str] | None
    nodes: dict[str, tuple[Any, ...]]
    items: dict[tuple[str, int], tuple[Any, ...]]
    events: list[tuple[str, str]]
    #: Of all runs below it.
    children: dict[str, str]


class Found:
    """Workflows by name."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        self._by_name = {found.name: found for found in map(parse_workflow, sources)}

    def get(self, name: str) -> WorkflowDef:
        return self._by_name[name]


@pytest.fixture
def own_nodes(registry):
    """Node types of which a workflow's outcome depends on nothing but its config."""
    calls: dict[str, int] = {}

    def flaky(ctx) -> int:
        calls[ctx.run_id] = calls.get(ctx.run_id, 0) + 1
        if calls.pop(ctx.run_id) < 2:
            calls[ctx.run_id] = 1
            raise ConnectionError("not yet")
        return 2

    register(registry, "double", lambda ctx, config: config.n * 2)
    register(registry, "inverse", lambda ctx, config: 1 / config.n)
    thirds: Counter[object] = Counter()

    def third(ctx, config) -> int:
        thirds[config.n] += 1
        if thirds[config.n] % 3:
            raise ConnectionError("not yet")
        return 3

    register(registry, "flaky", flaky)
    register(registry, "third", third)
    return registry


def error_of(error: dict[str, Any] | None) -> tuple[str, str] | None:
    """What it says but for the way in which it is written."""
    if error is None:
        return None
    message = re.sub(r"within [\d.]+ s", "in time", error["message"])  # what was left of a `total_timeout`
    return error["code"], message.casefold().rstrip(".")


ENDS = {EventType.RUN_SUCCEEDED, EventType.RUN_FAILED, EventType.RUN_CANCELLED}
#: Of these the platform notes more or fewer: it has a queue, and puts runs down that wait.
WAITS = {
    EventType.RUN_QUEUED,
    EventType.NODE_WAITING,
    EventType.NODE_STARTED,
    EventType.RUN_STARTED,
    EventType.RUN_RESUMED,
}


def on_platform(run: Run) -> Played:
    nodes = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run)
    events = EventRecord.objects.for_tenant(run.tenant_id).filter(run=run).order_by("seq")
    return Played(
        state_of(run),
        run.outputs,
        error_of(run.error),
        {row.node_id: (row.state, row.output, error_of(row.error), row.reason, row.attempts) for row in nodes},
        {
            (row.node_id, row.index): (row.key, row.state, row.output, row.attempts)
            for row in items
            if ":" not in row.node_id
        },
        [(event.type, event.node_id) for event in events if event.type not in WAITS],
        below(run),
    )


def below(run: Run) -> dict[str, str]:
    found = {}
    for child in Run.objects.for_tenant(run.tenant_id).filter(parent=run):
        found |= {str(child.pk): child.state} | below(child)
    return found


def in_library(registry, source: str, run_id: str) -> Played:
    sink = MemorySink()
    sources = (*CHILDREN, source)
    engine = WorkflowEngine(registry, sink=sink, workflows=Found(sources), secrets=MappingSecrets({"TOKEN": SECRET}))

    async def play() -> Any:
        result = await engine.execute(parse_workflow(source), run_id=run_id)
        await engine.join()
        return result

    result = asyncio.run(play())
    events = [event for event in sink.events if event.run_id == run_id]
    # Not those of the result, which nodes go on with: what is recorded is masked.
    done = [event for event in events if event.type is EventType.NODE_SUCCEEDED and "item" not in event.data]
    outputs = {event.node_id: event.data["output"] for event in done}
    nodes, items = {}, {}
    for name, node in result.nodes.items():
        error = None if node.error is None else error_of(node.error.as_dict())
        nodes[name] = (str(node.state), outputs.get(name), error, node.reason or "", node.attempts)
        for item in (node.items or {}).values() if ":" not in name else ():  # what undoing has is not on record
            items[name, item.index] = (item.key, str(item.state), item.output, item.attempts)
    return Played(
        str(result.state),
        result.outputs,
        None if result.error is None else error_of(result.error.as_dict()),
        nodes,
        items,
        [(str(event.type), event.node_id or "") for event in events if event.type not in WAITS],
        {
            event.run_id: str(event.data["state"])
            for event in sink.events
            if event.type in ENDS and event.run_id != run_id
        },
    )


#: While one of its items backs off another begins, and which of them is due first is a matter of milliseconds.
TAKE_TURNS = {"children of items that take too long"}


@pytest.mark.parametrize("case", CASES)
def test_a_workflow_comes_to_the_same_in_the_library_as_on_the_platform(tenant, own_nodes, drain, case):
    state, nodes, sections = CASES[case]
    source = workflow(*nodes, name="main", **sections)
    make_secret(tenant, "TOKEN", SECRET)
    for child in CHILDREN:
        make_workflow(tenant, child)
    run = make_run(tenant, source, {})
    # One whose timer is not due yet is put aside: whoever looks next goes on with it.
    waiting.until(lambda: (drain(), state_of(run) == state)[1], what=f"a run that has {state}")
    found, expected = on_platform(run), in_library(own_nodes, source, str(run.pk))
    if case in TAKE_TURNS:
        assert Counter(expected.events) == Counter(found.events)
        expected = replace(expected, events=found.events)
    assert expected == found
