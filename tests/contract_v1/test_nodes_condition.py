"""v1's `condition` node."""

from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.safe_eval import UnsafeExpressionError
from pyflow.nodes.condition import ConditionNode


async def run(expression: Any, **results: Any) -> object:
    context = ExecutionContext(workflow_name="w", run_id="r-1")
    for name, value in results.items():
        context.set_result(name, value)
    return await ConditionNode().execute({"if": expression}, context)


@pytest.mark.parametrize(
    ("expression", "result"),
    [("rate > 3", True), ("rate > 5", False), ("fetch['status'] == 200", True), ("fetch.status == 200", True),
     ("len(rows) == 2 and rows[0] < rows[1]", True), ("rows", True), ("[]", False), ("'x' in 'xyz'", True),
     ("__run_id__ == 'r-1' and __workflow__ == 'w'", True), ("'5 > 3' != ''", True)],
)  # fmt: skip
async def test_it_gives_a_bool(expression: str, result: bool):
    assert await run(expression, rate=4, fetch={"status": 200}, rows=[1, 2]) is result


@pytest.mark.parametrize(("value", "result"), [(True, True), (0, False), ([1], True), (None, False)])
async def test_a_template_that_was_the_whole_text_has_given_its_value(value: object, result: bool):
    assert await run(value) is result


async def test_an_unknown_name_is_a_name_error():
    with pytest.raises(NameError):
        await run("nothing > 3")


@pytest.mark.parametrize("expression", ["__import__('os')", "open('/etc/passwd')", "().__class__", "exec('1')"])
async def test_what_is_unsafe_raises(expression: str):
    with pytest.raises((UnsafeExpressionError, NameError)):
        await run(expression)


async def test_a_missing_key_is_a_key_error():
    with pytest.raises(KeyError):
        await ConditionNode().execute({}, ExecutionContext(workflow_name="w", run_id="r"))
