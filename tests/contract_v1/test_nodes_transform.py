"""v1's `transform` node."""

from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.engine import WorkflowEngine
from pyflow.core.models import WorkflowDef
from pyflow.nodes.transform import TransformNode

DATA = {"items": [{"name": "a", "price": 1}, {"name": "b", "price": 2}], "meta": {"total": 3}}


async def run(**config: Any) -> object:
    return await TransformNode().execute(config, ExecutionContext(workflow_name="w", run_id="r"))


@pytest.mark.parametrize(
    ("expression", "result"),
    [("$.meta.total", 3), ("$.items[*].name", ["a", "b"]), ("$.items[?(@.price > 1)].name", "b"), ("$.none", []),
     ("$.items[0]", {"name": "a", "price": 1}), ("$", DATA)],
)  # fmt: skip
async def test_a_single_match_is_its_value_and_others_a_list(expression: str, result: object):
    assert await run(input=DATA, expression=expression) == result


async def test_any_value_is_input():
    assert await run(input=[1, 2, 3], expression="$[*]") == [1, 2, 3]
    assert await run(input="text", expression="$") == "text"


async def test_a_bad_expression_raises():
    with pytest.raises(ValueError, match="not a JSONPath"):
        await run(input=DATA, expression="$[[")


@pytest.mark.parametrize("config", [{"input": 1}, {"expression": "$"}])
async def test_a_missing_key_is_a_key_error(config: dict[str, Any]):
    with pytest.raises(KeyError):
        await run(**config)


async def test_a_template_as_input_is_resolved_where_the_node_is_called_directly():
    context = ExecutionContext(workflow_name="w", run_id="r")
    context.set_result("prev", DATA)
    result = await TransformNode().execute({"input": "{{ prev }}", "expression": "$.items[0].name"}, context)
    assert result == "a"


async def test_data_that_looks_like_a_template_is_data_in_a_run():
    given = {"a": "{{ secret }}"}
    nodes = [{"id": "t", "type": "transform", "config": {"input": "{{ trigger.a }}", "expression": "$"}}]
    workflow = WorkflowDef.model_validate({"name": "w", "trigger": {"type": "manual"}, "nodes": nodes})
    context = await WorkflowEngine().run(workflow, initial_context={"trigger": given, "secret": "no"})
    assert context.get_result("t") == "{{ secret }}"
