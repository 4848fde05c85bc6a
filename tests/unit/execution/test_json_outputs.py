"""What a node returns is JSON: what dependents see is what is recorded, and what is not JSON is named by its place."""

import asyncio
import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.events import EventType
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.core.ports import MemorySink
from pyflow.core.result import RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.middleware import Handler, NodeCall, plain_output


class Gives(BaseNode[dict[str, Any], Any]):
    """Returns what the test holds ready."""

    node_type = "gives"
    value: Any = None

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> Any:
        return type(self).value


class Sees(BaseNode[dict[str, Any], Any]):
    """Tells the type of what it gets."""

    node_type = "sees"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> Any:
        return type(config["it"]).__name__


def run(
    value: Any, *more: Mapping[str, Any], sink: MemorySink | None = None, middleware: Any = (), **a: Any
) -> RunResult:
    registry = NodeRegistry()
    registry.register(type("Gives", (Gives,), {"value": value}))
    registry.register(Sees)
    node = {"id": "a", "type": "gives", **a.pop("node", {})}
    document = {"version": 2, "name": "w", "nodes": [node, *more], **a}
    engine = WorkflowEngine(registry, sink=sink or MemorySink(), middleware=middleware)
    return asyncio.run(engine.execute(WorkflowDef.model_validate(document)))


NOT_JSON = {
    "a number": (float("nan"), "the result holds NaN, which JSON does not have"),
    "in a mapping": ({"body": {"b": float("inf")}}, "the result holds Infinity, which JSON does not have, at body.b"),
    "in a list": ([1, [2, float("-inf")]], "the result holds -Infinity, which JSON does not have, at [1][1]"),
    "an odd key": (
        {"rows": [{"a b": object()}]},
        "the result holds an object of type object, which is not JSON data, at rows[0]['a b']",
    ),
    "a key": ({"a": {(1, 2): 3}}, "the result holds a key of type tuple; keys are text, at a"),
    "text": ({"a": ("\0",)}, "the result holds text with a NUL character, which cannot be stored, at a[0]"),
    "a large number": ({"id": 10**5000}, "the result holds an integer of more than 4,096 bits, at id"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_is_not_json_fails_its_node_and_is_named_by_its_place(case: str):
    value, message = NOT_JSON[case]
    result = run(value, node={"retry": {"max_attempts": 3}})
    error = result.nodes["a"].error
    assert error is not None
    assert (error.code, error.message, result.nodes["a"].attempts) == ("output_not_json", message, 1)


PLAIN = {"at": datetime.date(2026, 1, 2), "n": Decimal("1.50"), "pair": (1, 2), 5: None}
RECORDED = {"at": "2026-01-02", "n": "1.50", "pair": [1, 2], "5": None}


def test_what_follows_sees_what_is_recorded():
    sink = MemorySink()
    see = {"id": "b", "type": "sees", "depends_on": ["a"], "config": {"it": "{{ a.pair }}"}}
    result = run(PLAIN, see, sink=sink, outputs={"pair": "{{ a.pair }}"})
    assert result.nodes["b"].output == "list"
    ended = next(event for event in sink.events if event.type is EventType.NODE_SUCCEEDED and event.node_id == "a")
    assert result.nodes["a"].output == ended.data["output"] == RECORDED
    assert json.loads(json.dumps(result.outputs, allow_nan=False)) == {"pair": [1, 2]}


def test_items_of_a_fan_out_and_cached_outputs_are_json():
    result = run(PLAIN, node={"for_each": [1, 2], "cache": {"key": "k", "ttl": "1h"}})
    assert result.nodes["a"].output == [RECORDED, RECORDED]
    failed = run({"b": float("nan")}, node={"for_each": [1], "tolerate_failures": 1})
    assert failed.nodes["a"].output == [None]
    items = failed.nodes["a"].items
    assert items is not None
    assert items[0].error is not None
    assert items[0].error.message.endswith("at b")


def test_what_middleware_answers_is_json_too():
    async def later(call: NodeCall, next_handler: Handler) -> object:
        await next_handler(call)
        return (1, datetime.date(2026, 1, 2))

    assert run(None, middleware=[later]).nodes["a"].output == [1, "2026-01-02"]
    # Where a layer of the chain makes outputs plain, as on the platform, what is around it sees what is recorded.
    assert run((1,), middleware=[plain_output]).nodes["a"].output == [1]


def test_outputs_of_a_run_are_json():
    result = run(1, outputs={"n": ["{{ 'a\\0b' }}"]})
    assert result.error is not None
    assert (result.state, result.error.code) == ("failed", "output_not_json")
    assert result.error.message == "the result holds text with a NUL character, which cannot be stored, at n[0]"


def test_version_1_keeps_the_objects_of_its_nodes():
    registry = NodeRegistry()
    registry.register(type("Gives", (Gives,), {"value": PLAIN}))
    document = {"name": "w", "trigger": {"type": "manual"}, "nodes": [{"id": "a", "type": "gives"}]}
    result = asyncio.run(WorkflowEngine(registry).execute(WorkflowDef.model_validate(document)))
    assert result.nodes["a"].output is PLAIN
