"""`default_output` stands for an output that there is none of, for whoever reads it."""

import json
from typing import Any

import pytest

from pyflow.core.result import ErrorInfo, NodeRun
from pyflow.core.states import NodeState
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, v1, workflow

SEEN = "{{ x }} {{ nodes.x.output }} {{ nodes.x.state }}"
READS = node("b", "echo", "x", config={"value": SEEN}, run_if="all_done")


@pytest.mark.parametrize("default", [5, "none", [], {"a": [1, {"b": None}]}, None, False])
async def test_any_plain_value_can_stand_in(default: Any):
    reads = node("b", "echo", "x", config={"value": ["{{ x }}", "{{ nodes.x.output }}"]}, run_if="all_done")
    result = await stage.run(workflow(node("x", when="False", default_output=default), reads))
    assert result.nodes["b"].output == [default, default]
    assert (result.nodes["x"].state, result.nodes["x"].output) == ("skipped", None)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"config": {"value": 7}}, "7 7 succeeded"),
        ({"config": {"value": None}}, "None None succeeded"),
        ({"when": "False"}, "5 5 skipped"),
        ({"type": "fail", "on_error": "skip"}, "5 5 failed"),
        ({"type": "waits", "timeout": 0.01, "on_error": "skip"}, "5 5 timed_out"),
        ({"type": "fail", "for_each": [1, 2], "on_error": "skip"}, "5 5 failed"),
        ({"type": "echo", "for_each": [1, 2], "item_when": "False"}, "[None, None] [None, None] succeeded"),
    ],
)
async def test_it_stands_for_what_is_missing_and_for_nothing_else(fields: dict[str, Any], shown: str):
    definition = workflow({"nodes": [node("x", default_output=5) | fields, READS], "outputs": {"it": SEEN}})
    result = await stage.run(definition)
    assert (result.nodes["b"].output, result.outputs) == (shown, {"it": shown})


async def test_outputs_see_that_of_a_node_that_was_skipped_last():
    nodes = [node("a", when="False"), node("x", "echo", "a", default_output=5)]
    assert (await stage.run(workflow({"nodes": nodes, "outputs": {"it": "{{ x }}"}}))).outputs == {"it": 5}


async def test_finally_sees_that_of_a_node_that_a_failure_kept_from_running():
    definition = workflow(
        node("a", "fail"),
        node("x", "echo", "a", default_output=5),
        **{"finally": [node("end", config={"value": SEEN})]},
    )
    result = await stage.run(definition)
    assert (result.state, result.nodes["end"].output) == ("failed", "5 5 skipped")


async def test_who_changes_it_does_not_change_that_of_other_runs():
    def spoil(config: dict[str, Any], _: Any) -> Any:
        config["value"].append("spoilt")
        return config["value"]

    spoils = node("b", "spoil", "x", config={"value": "{{ x }}"}, run_if="all_done")
    definition = workflow(node("x", when="False", default_output=[]), spoils)
    for _ in range(2):
        result = await stage.run(definition, {"spoil": spoil})
        assert result.nodes["b"].output == ["spoilt"]


@pytest.mark.parametrize("state", [NodeState.SKIPPED, NodeState.FAILED])
async def test_it_is_the_same_after_a_crash(state: NodeState):
    error = ErrorInfo("node_error", "no", "E", "x") if state is NodeState.FAILED else None
    recorded = {"x": NodeRun("x", state, error=error, tolerated=True)}
    definition = workflow(node("x", when="False", default_output={"n": 5}), READS)
    result = await stage.run(definition, recorded=recorded)
    assert result.nodes["b"].output == f"{{'n': 5}} {{'n': 5}} {state}"


def test_it_is_kept_where_definitions_are_stored():
    for default in (None, 0, {"a": 1}):
        stored = workflow(node("x", default_output=default)).canonical()
        assert stored["nodes"][0]["default_output"] == default
        again = parse_workflow(json.dumps(stored), "json")
        assert again.canonical() == stored
    assert "default_output" not in workflow(node("x")).canonical()["nodes"][0]


def test_a_template_in_it_is_refused_with_its_place():
    node = "{id: x, type: log, config: {message: a}, default_output: {b: '{{ input.c }}'}}"
    source = f"version: 2\nname: a\nnodes:\n- {node}\n"
    [problem] = check_workflow(parse_workflow(source), default_registry)
    assert (problem.code, problem.pointer, problem.line) == ("not_rendered", "/nodes/0/default_output/b", 4)


async def test_version_1_has_none():
    result = await stage.run(v1(node("x", "fail", on_error="skip", default_output=5), node("b", "echo", "x")))
    assert not result.context.has_result("x")
