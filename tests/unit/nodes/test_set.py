"""The `set` node: fields that are expressions, which read each other, in documents that are checked as a whole."""

import subprocess
import sys
from typing import Any

import pytest

from pyflow.compare.diff import compare
from pyflow.core.errors import Problem
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.execution.dry_run import dry_run
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.nodes.catalogue import describe_type
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage
from tests.support.factories.stage import workflow

HEAD = "version: 2\nname: flow\nnodes:\n  - id: a\n    type: set\n    config:\n"


def problems(*fields: str, **more: Any) -> list[Problem]:
    """Return what is wrong with a document of one `set` node with these fields."""
    return check_workflow(parse_workflow(HEAD + "".join(f"      {field}\n" for field in fields)), default_registry)


async def run(config: dict[str, Any], *nodes: dict[str, Any], **fields: Any) -> RunResult:
    own = {name: fields.pop(name) for name in ("input",) if name in fields}
    definition = workflow({"id": "a", "type": "set", "config": config} | fields, *nodes)
    return await stage.execute(WorkflowEngine(default_registry), definition, **own)


async def output(config: dict[str, Any], **fields: Any) -> Any:
    result = await run(config, **fields)
    assert result.state == "succeeded", result
    return result.nodes["a"].output


async def test_fields_are_expressions_and_everything_else_is_itself():
    config = {
        "total": "sum(input.prices)",
        "nested": {"list": ["1 + 1", 3, True, None], "text": "f'{output.total} EUR'"},
        "first": "output.second + 1",
        "second": "output['nested'].list[0]",
    }
    assert await output(config, input={"prices": [1, 2.5]}) == {
        "total": 3.5,
        "nested": {"list": [2, 3, True, None], "text": "3.5 EUR"},
        "first": 3,
        "second": 2,
    }


async def test_a_value_leaves_as_json_has_it_and_fields_see_it_as_it_is():
    found = await output({"day": "date('2026-11-30')", "next": "output.day + duration('1d')", "of": "{'b', 'a'}"})
    assert found == {"day": "2026-11-30", "next": "2026-12-01", "of": ["a", "b"]}


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("input.nope", "expression_failed"),
        ("1 / 0", "expression_failed"),
        ("[x for x in range(9999) for y in range(9999)]", "expression_limit"),
        ("'\\0'", "output_not_json"),
    ],
)
async def test_a_field_that_fails_fails_the_node_and_is_named(field: str, code: str):
    result = await run({"ok": "1", "deep": {"x": [field]}})
    error = result.nodes["a"].error
    assert error is not None
    assert (result.state, error.code) == ("failed", code)
    assert "deep" in error.message or code == "output_not_json"


async def test_the_fields_of_a_node_have_one_budget():
    loop = "len([x for x in range(9000)])"
    assert (await output({f"f{number}": loop for number in range(5)}))["f4"] == 9000
    result = await run({f"f{number}": loop for number in range(9)})
    assert result.nodes["a"].error is not None
    assert "more than 50,000 steps" in result.nodes["a"].error.message


async def test_it_works_with_items_rounds_retries_and_compensations():
    each = await output(
        {"k": "item.k", "i": "item_index"}, for_each=[{"k": "x"}, {"k": "y"}], item_when="item.k == 'y'"
    )
    assert each == [None, {"k": "y", "i": 1}]
    rounds = await run({"n": "random()"}, until={"when": "output.n > 0 and round == 2", "every": "1ms"})
    assert rounds.nodes["a"].output["n"] > 0
    undo = {"type": "set", "config": {"back": "output.n + 1", "twice": "output.n"}}
    failed = await run({"n": "41"}, stage.node("b", "fail", "a", config={"message": "no"}), compensate=undo)
    assert failed.nodes["a:compensate"].output == {"back": 42, "twice": 41}


async def test_rounds_and_items_draw_values_of_their_own():
    drawn = await output({"u": "uuid()"}, for_each=[1, 2, 3])
    assert len({item["u"] for item in drawn}) == 3


@pytest.mark.parametrize(
    ("fields", "code", "line", "column", "message"),
    [
        (("x: sum(input.",), "expression_syntax", 7, 7, "not an expression"),
        (("x: '{{ input.a }}'",), "template_in_expression", 7, 7, "without the braces"),
        (("x: nope + 1",), "unknown_name", 7, 7, "'nope', which does not exist"),
        (("x: '1'", "y: [1, output.xx]"), "unknown_name", 8, 14, "no such field"),
        (("x: output.x",), "cycle", 7, 7, "x -> x"),
        (("x: output.y", "y: {z: output.x}"), "cycle", 7, 7, "circle: "),
        (("x: len(output)",), "unknown_name", 7, 7, "`output.NAME`"),
        (("x: splt('a')",), "expression_unknown_function", 7, 7, "did you mean 'split'"),
        (("x: item.a",), "unknown_name", 7, 7, "for_each"),
    ],
)
def test_a_wrong_field_is_refused_in_its_place(
    fields: tuple[str, ...], code: str, line: int, column: int, message: str
):
    [problem] = problems(*fields)
    assert (problem.code, problem.line, problem.column) == (code, line, column)
    assert message in f"{problem.message} (did you mean {problem.suggestion!r})"


def test_a_field_that_is_nearly_named_is_suggested_and_a_node_has_fields():
    [problem] = problems("total: '1'", "x: output.totl")
    assert problem.suggestion == "total"
    [empty] = check_workflow(workflow({"id": "a", "type": "set", "config": {}}), default_registry)
    assert (empty.code, empty.pointer) == ("bad_config", "/nodes/0/config")


def test_a_node_may_not_be_called_now():
    [problem] = check_workflow(workflow({"id": "now", "type": "log", "config": {"message": "x"}}), default_registry)
    assert problem.code == "reserved_node_id"


def test_its_references_count_and_are_compared():
    source = {"id": "a", "type": "template", "config": {"template": [1]}}
    using = {"id": "b", "type": "set", "depends_on": ["a"], "config": {"x": "len(a)", "y": "input.n"}}
    definition = workflow(source, using, inputs={"type": "object", "properties": {"m": {}}}, outputs={"x": "{{ b.x }}"})
    assert [warning.code for warning in lint_workflow(definition, default_registry)] == ["undeclared_input"]
    other = workflow(source, using | {"config": {"x": "len(a) + 1", "y": "input.n"}})
    one, another = (each.model_dump(by_alias=True, exclude_none=True) for each in (definition, other))
    assert "/config/x" in str(compare(one, another).as_dict())


def test_a_dry_run_computes_what_is_known():
    report = dry_run(
        workflow(
            {"id": "a", "type": "set", "config": {"x": "input.n + 1", "y": {"z": "output.x * 2"}, "k": 3}},
            {"id": "b", "type": "set", "depends_on": ["a"], "config": {"x": "a.x", "y": "now"}},
        ),
        default_registry,
        input={"n": 1},
    )
    assert report.nodes[0].config == {"x": 2, "y": {"z": 4}, "k": 3}
    assert report.nodes[1].config == {"x": "a.x", "y": "now"}
    assert report.nodes[1].pending == ("/config/x", "/config/y")
    assert not report.unresolved


def test_the_catalogue_has_it_with_an_example_that_is_valid():
    described = describe_type(default_registry, "set")
    assert described["config"]["additionalProperties"] is True
    definition = workflow({"id": "a", "type": "set", "config": described["example"]})
    assert check_workflow(definition, default_registry) == []


async def test_a_resumed_node_computes_with_the_moment_at_which_it_began():
    begun = NodeRun("a", NodeState.RUNNING, attempts=1)
    begun.started_at = 1_000_000.25
    definition = workflow({"id": "a", "type": "set", "config": {"at": "now", "u": "uuid()"}})
    engine = WorkflowEngine(default_registry)
    resumed = await stage.execute(engine, definition, recorded={"a": begun}, run_id="r")
    fresh = await stage.execute(engine, definition, run_id="r")
    assert resumed.nodes["a"].output["at"] == "1970-01-12T13:46:40.250000+00:00"
    assert fresh.nodes["a"].output["at"] > "2026"
    assert resumed.nodes["a"].output["u"] == fresh.nodes["a"].output["u"]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("now > datetime(trigger.event.at)", "`now`, or `today()`"),
        ("uuid() == trigger.event.id", "`random()` or `uuid()`"),
    ],
)
def test_what_is_computed_for_nodes_is_not_there_for_triggers(when: str, message: str):
    config = {"on": "run.succeeded", "workflow": "x", "when": when}
    triggers = [{"id": "e", "type": "event", "config": config}]
    definition = workflow({"id": "a", "type": "log", "config": {"message": "x"}}, triggers=triggers)
    found = check_workflow(definition, default_registry)
    assert any(message in problem.message for problem in found), found


def test_fields_are_computed_in_the_same_order_in_every_process():
    """A random value follows from the number of the call, so that a crash must not change the order."""
    code = (
        "from pyflow.expressions.fields import compile_fields; from pyflow.expressions.draws import DRAWS, Draws;"
        "f = {f'f{i}': 'uuid()' for i in range(9)}; f = {'all': ' + '.join(f'output.{n}' for n in reversed(f)), **f};"
        "print(compile_fields(f).render({DRAWS: Draws('r')})['f3'])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1
