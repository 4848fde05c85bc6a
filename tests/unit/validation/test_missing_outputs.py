"""`--lint` warns where an output is read that may not be there, and nowhere else."""

from typing import Any

import pytest

from pyflow.documents.models import WorkflowDef
from pyflow.validation.lint.rules import lint_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

MAYBE = node("x", when="input.go")
TOLERATED = node("x", "fail", on_error="skip")


def reads(value: str = "{{ x }}", *depends_on: str, **fields: Any) -> dict[str, Any]:
    return node("b", "echo", *(depends_on or ("x",)), config={"value": value}, **fields)


def warned(definition: WorkflowDef) -> list[str]:
    found = lint_workflow(definition, stage.registry())
    return [problem.pointer for problem in found if problem.code == "may_be_missing"]


@pytest.mark.parametrize("x", [MAYBE, TOLERATED, node("x", run_if="any_failed", depends_on=["w"])])
def test_outputs_of_a_node_that_may_have_none(x: dict[str, Any]):
    definition = workflow({"nodes": [node("w"), x], "outputs": {"a": "{{ x.y }}", "b": ["{{ w }}"]}})
    assert warned(definition) == ["/outputs/a"]


@pytest.mark.parametrize("run_if", ["none_failed", "all_done", "any_succeeded", "any_failed"])
def test_a_join_that_runs_without_it(run_if: str):
    definition = workflow(node("w"), MAYBE, reads("{{ w }} {{ x }}", "w", "x", run_if=run_if))
    assert "/nodes/2/config/value" in warned(definition)


def test_a_node_behind_the_join():
    join = node("j", "echo", "x", run_if="none_failed")
    assert warned(workflow(MAYBE, join, reads("{{ x }}", "j"))) == ["/nodes/2/config/value"]


def test_expressions_and_fan_outs():
    asks = node("c", "echo", "x", run_if="all_done", when="x > 1")
    each = node("e", "echo", "x", run_if="none_failed", for_each="{{ x }}", item_when="item != x")
    found = warned(workflow(MAYBE, asks, each))
    assert sorted(found) == ["/nodes/1/when", "/nodes/2/for_each", "/nodes/2/item_when"]


def test_a_failure_that_such_a_node_survives():
    assert warned(workflow(node("x", "fail"), reads(run_if="all_done"))) == ["/nodes/1/config/value"]


@pytest.mark.parametrize(
    "nodes",
    [
        [MAYBE, reads()],
        [TOLERATED, reads()],
        [MAYBE, node("m", "echo", "x"), reads("{{ x }}", "m")],
        [node("x"), reads(run_if="none_failed")],
        [node("x", when="True"), reads(run_if="none_failed")],
        [MAYBE | {"default_output": None}, reads(run_if="all_done")],
        [MAYBE, reads("{{ nodes.x.output }}", run_if="all_done")],
        [MAYBE, reads("{{ x | default(5) }}", run_if="all_done")],
        [MAYBE, reads("{{ x if x is defined else 5 }}", run_if="all_done")],
        [MAYBE, reads("{{ x if nodes.x.state == 'succeeded' else 5 }}", run_if="all_done")],
    ],
)
def test_a_node_that_does_not_run_without_it_or_asks_for_it(nodes: list[dict[str, Any]]):
    assert warned(workflow(*nodes)) == []


async def test_what_is_warned_of_happens():
    """The other way round, too: without a warning there is no such failure."""
    definition = workflow(
        {"nodes": [node("x", when="input.go"), reads(run_if="all_done")], "outputs": {"a": "{{ b }}"}}
    )
    result = await stage.run(definition, input={"go": False})
    assert (result.nodes["b"].state, result.nodes["b"].error.code) == ("failed", "template_undefined")
    assert warned(definition) == ["/nodes/1/config/value"]
