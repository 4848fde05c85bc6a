"""The items of a fan-out: a matrix, items that are chosen, and outputs by key."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pyflow.cli.report import run_lines
from pyflow.core.events import EventType
from pyflow.core.ports import MemorySink
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.documents.models import WorkflowDef
from pyflow.execution.matrix import BadItemsError, combinations
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

SYSTEMS = {"py": ["3.11", "3.12"], "os": ["linux", "macos"]}


def each(items: Any, **fields: Any) -> dict[str, Any]:
    return node("all", for_each=items, **({"config": {"value": "{{ item }}"}} | fields))


async def outcome(*nodes: dict[str, Any], **arguments: Any) -> RunResult:
    return await stage.run(workflow(*nodes), clock=stage.Clock(), **arguments)


# --- matrix ------------------------------------------------------------------------------------------------------


def test_a_matrix_gives_the_product_with_the_axes_in_the_order_of_their_names():
    assert combinations({"matrix": SYSTEMS}) == [
        ("linux-3.11", {"os": "linux", "py": "3.11"}),
        ("linux-3.12", {"os": "linux", "py": "3.12"}),
        ("macos-3.11", {"os": "macos", "py": "3.11"}),
        ("macos-3.12", {"os": "macos", "py": "3.12"}),
    ]


def test_documents_that_mean_the_same_have_the_same_items():
    one, other = each({"matrix": SYSTEMS}), each({"matrix": dict(reversed(SYSTEMS.items()))})
    assert workflow(one).checksum() == workflow(other).checksum()
    assert combinations(one["for_each"]) == combinations(other["for_each"])


def test_exclude_removes_what_has_all_its_values():
    exclude = [{"os": "macos", "py": "3.11"}, {"py": "3.12", "os": "linux"}]
    assert [key for key, _ in combinations({"matrix": SYSTEMS, "exclude": exclude})] == ["linux-3.11", "macos-3.12"]
    assert [key for key, _ in combinations({"matrix": SYSTEMS, "exclude": [{"os": "macos"}]})] == [
        "linux-3.11",
        "linux-3.12",
    ]


def test_include_is_that_of_github_actions():
    """The example of its documentation."""
    include = [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]
    matrix = {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}
    assert combinations({"matrix": matrix, "include": include}) == [
        ("cat-apple", {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"}),
        ("cat-pear", {"fruit": "pear", "animal": "cat", "color": "pink"}),
        ("dog-apple", {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"}),
        ("dog-pear", {"fruit": "pear", "animal": "dog", "color": "green"}),
        ("banana", {"fruit": "banana"}),
        ("cat-banana", {"fruit": "banana", "animal": "cat"}),
    ]


def test_values_of_any_type_have_keys():
    matrix = {"a": [1, 2.5, True, None], "b": [{"x": [1]}]}
    assert [key for key, _ in combinations({"matrix": matrix})] == [
        '1-{"x": [1]}',
        '2.5-{"x": [1]}',
        'true-{"x": [1]}',
        'null-{"x": [1]}',
    ]
    assert [key for key, _ in combinations({"matrix": {"a": [1, True]}, "exclude": [{"a": True}]})] == ["1"]


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"matrix": {"a": "x"}}, "`for_each.matrix.a` is a list, not str"),
        ({"matrix": {"a": [1]}, "exclude": [{"b": 1}]}, "`for_each.exclude` names 'b', which is no axis"),
        ({"matrix": {"a": [1]}, "include": {"a": 2}}, "`for_each.include` is a list, not dict"),
        ({"matrix": {"a": [1]}, "include": [2]}, "an entry of `for_each.include` is a mapping, not int"),
        ({"matrix": {name: list(range(200)) for name in "abc"}}, "8,000,000 items; at most 1,000,000"),
        ({"matrix": {"a": [0] * 9999}, "exclude": [{"a": 1}] * 999}, "9,999 combinations with 999 entries"),
    ],
)
def test_what_is_no_matrix_is_refused_before_it_is_built(definition: dict[str, Any], words: str):
    with pytest.raises(BadItemsError) as refused:
        combinations(definition)
    assert words in str(refused.value)


def test_an_empty_axis_has_no_combinations():
    assert combinations({"matrix": {"a": [], "b": [1]}, "include": [{"a": 1}]}) == [("1", {"a": 1})]


async def test_the_item_is_a_mapping_and_axes_may_be_templates():
    matrix = {"matrix": {"os": "{{ input.systems }}", "py": ["3.12"]}, "exclude": "{{ input.without }}"}
    config = {"value": "{{ item.os }} {{ item['py'] }} {{ item_key }} {{ item_index }}"}
    document = workflow(each(matrix, config=config), vars={})
    result = await stage.run(document, input={"systems": ["a", "b", "c"], "without": [{"os": "b"}]})
    assert result.nodes["all"].output == ["a 3.12 a-3.12 0", "c 3.12 c-3.12 1"]


async def test_combinations_of_one_key_are_refused():
    matrix = {"matrix": {"a": ["x-y", "x"], "b": ["z", "y-z"]}}
    result = await outcome(each(matrix))
    error = result.nodes["all"].error
    assert error is not None
    assert (error.code, error.message) == (
        "bad_items",
        "2 items have the key 'x-y-z': give them different ones with `item_key`",
    )
    result = await outcome(each(matrix, item_key="{{ item.a }}/{{ item.b }}"))
    assert result.succeeded


async def test_a_mapping_that_a_template_gives_is_no_matrix():
    result = await outcome(each("{{ vars }}"), node("b"))
    assert result.nodes["all"].output == []
    document = workflow(each("{{ input.x }}"))
    result = await stage.run(document, input={"x": {"matrix": {"a": [1]}}})
    assert result.nodes["all"].output == [{"a": [1]}]


async def test_so_is_a_literal_mapping_with_other_keys():
    result = await outcome(each({"matrix": 1, "other": 2}))
    assert result.nodes["all"].output == [1, 2]


MATRIX = """
version: 2
name: test
nodes:
  - id: all
    type: echo
    for_each:
      matrix:
        os: [linux, macos]
        python: ["3.11"]
      {more}
    config: {{value: "{value}"}}
"""


@pytest.mark.parametrize(
    ("more", "value", "code", "at", "suggestion"),
    [
        ("exclude: [{oss: macos}]", "x", "unknown_axis", (11, 18), "os"),
        ("exlude: []", "x", "unknown_key", (11, 7), "exclude"),
        ("exclude: [7]", "x", "bad_matrix", (11, 17), None),
        ("include: no list", "x", "bad_matrix", (11, 7), None),
        ("exclude: []", "{{ item.oss }}", "unknown_name", (12, 14), "os"),
        ("exclude: []", "{{ item['pyhton'] }}", "unknown_name", (12, 14), "python"),
    ],
)
def test_mistakes_have_a_place_and_a_near_miss(more: str, value: str, code: str, at: Any, suggestion: str | None):
    document = parse_workflow(MATRIX.format(more=more, value=value))
    [problem] = check_workflow(document, stage.registry())
    assert (problem.code, (problem.line, problem.column), problem.suggestion) == (code, at, suggestion)


@pytest.mark.parametrize("value", ["{{ item.extra }}", "{{ item.os }}", "{{ item.get('x') or item.items() | list }}"])
def test_members_that_include_adds_exist(value: str):
    found = check_workflow(parse_workflow(MATRIX.format(more="include: [{extra: 1}]", value=value)), stage.registry())
    assert [problem.code for problem in found] == (["unknown_name"] if "get" in value else [])


@pytest.mark.parametrize(
    ("items", "code", "pointer"),
    [
        ({"matrix": 7}, "bad_matrix", "/nodes/0/for_each/matrix"),
        ({"matrix": {}}, "bad_matrix", "/nodes/0/for_each/matrix"),
        ({"matrix": {"a": "text"}}, "bad_matrix", "/nodes/0/for_each/matrix/a"),
        ({"matrix": {name: list(range(200)) for name in "abc"}}, "bad_matrix", "/nodes/0/for_each/matrix"),
        ({"matrix": {"a": "{{ nothing }}"}}, "unknown_name", "/nodes/0/for_each/matrix/a"),
    ],
)
def test_shapes_that_are_no_matrix(items: Any, code: str, pointer: str):
    [problem] = check_workflow(workflow(each(items, config={})), stage.registry())
    assert (problem.code, problem.pointer) == (code, pointer)


def test_a_matrix_survives_the_canonical_form():
    document = workflow(each({"matrix": SYSTEMS, "include": [{"x": 1}]}))
    again = WorkflowDef.model_validate(json.loads(json.dumps(document.canonical())))
    assert again == document
    assert document.canonical()["nodes"][0]["for_each"] == {"matrix": SYSTEMS, "include": [{"x": 1}]}


# --- a block scalar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["|-", ">-"])
async def test_a_block_scalar_with_one_expression_keeps_its_type(style: str):
    text = f"""
version: 2
name: test
nodes:
  - id: all
    type: echo
    for_each: {style}
      {{{{ input.xs }}}}
    config: {{value: "{{{{ item }}}}"}}
"""
    result = await stage.run(parse_workflow(text), input={"xs": [1, 2]})
    assert result.nodes["all"].output == [1, 2]


# --- item_when ---------------------------------------------------------------------------------------------------


async def test_an_item_that_is_not_wanted_is_skipped():
    sink = MemorySink()
    result = await outcome(each([1, 2, 3, 4], item_when="item % 2 == 0 and item_index > 0"), sink=sink)
    run = result.nodes["all"]
    assert run.output == [None, 2, None, 4]
    assert run.items is not None
    assert [str(run.items[index].state) for index in range(4)] == ["skipped", "succeeded"] * 2
    assert [run.items[index].attempts for index in range(4)] == [0, 1, 0, 1]
    skips = [event.data for event in sink.events if event.type is EventType.NODE_SKIPPED]
    assert [(skip["item"]["index"], skip["reason"], skip["state"]) for skip in skips] == [
        (0, "item_when", "skipped"),
        (2, "item_when", "skipped"),
    ]


async def test_a_skipped_item_is_no_failure():
    assert (await outcome(each([1, 2], item_when="item == 0", tolerate_failures=0))).nodes["all"].output == [None, None]


async def test_an_expression_that_cannot_be_evaluated_fails_its_item():
    fields: Mapping[str, Any] = {"item_when": "item.x > 1", "retry": {"max_attempts": 3}}
    result = await outcome(each([{"x": 2}, {}], **fields, tolerate_failures=1))
    run = result.nodes["all"]
    assert run.output == [{"x": 2}, None]
    assert run.items is not None
    error = run.items[1].error
    assert error is not None
    assert (error.code, run.items[1].attempts) == ("item_condition", 0)
    assert error.message.startswith("`item_when` cannot be evaluated: ")


async def test_what_was_skipped_is_not_asked_again():
    """A run that is resumed has it on record."""
    first = await outcome(each([1, 2], item_when="input.x == item"), input={"x": 1})
    recorded = first.nodes["all"]
    recorded.state = NodeState.RUNNING
    again = await outcome(each([1, 2], item_when="input.x == item"), input={"x": 2}, recorded={"all": recorded})
    assert again.nodes["all"].output == [1, None]


@pytest.mark.parametrize("key", ["item_when", "collect"])
def test_keys_of_items_need_items(key: str):
    value = "mapping" if key == "collect" else "1 == 1"
    [problem] = check_workflow(workflow(node("a") | {key: value}), stage.registry())
    assert problem.message == f"`{key}` has no effect without `for_each`"


def test_names_in_item_when_are_checked():
    [problem] = check_workflow(workflow(each([1], item_when="itme > 1")), stage.registry())
    assert (problem.pointer, problem.suggestion) == ("/nodes/0/item_when", "item")
    assert [
        warning.code
        for warning in lint_workflow(
            workflow(
                node("first"), each([1], depends_on=["first"], item_when="first == item"), outputs={"x": "{{ all }}"}
            ),
            stage.registry(),
        )
    ] == []


# --- collect -----------------------------------------------------------------------------------------------------


async def test_outputs_by_key():
    matrix = each({"matrix": {"a": [1, 2]}}, collect="mapping", item_when="item.a == 1")
    result = await outcome(matrix, node("after", depends_on=["all"], config={"value": "{{ all['1'].a }}"}))
    assert result.nodes["all"].output == {"1": {"a": 1}, "2": None}
    assert result.nodes["after"].output == 1
    assert (await outcome(each({"x": 1, "y": 2}, collect="mapping"))).nodes["all"].output == {"x": 1, "y": 2}
    assert (await outcome(each({"x": 1, "y": 2}))).nodes["all"].output == [1, 2]


async def test_keys_that_become_equal_are_refused():
    result = await outcome(each("{{ {1: 'a', '1': 'b'} }}", collect="mapping"))
    error = result.nodes["all"].error
    assert error is not None
    assert error.message == "2 items have the key '1': give them different ones with `item_key`"


def test_a_form_that_does_not_exist_has_a_near_miss():
    with pytest.raises(Exception, match="map"):
        workflow(each([1], collect="maping"))


# --- what is said of it ------------------------------------------------------------------------------------------


async def test_text_output_tells_tolerated_failures_and_skipped_items():
    def odd(config: dict[str, Any], _: Any) -> int:
        if config["value"] % 4 == 1:
            raise RuntimeError("odd")
        return int(config["value"])

    document = workflow(
        node(
            "all",
            "odd",
            for_each=list(range(40)),
            item_when="item > 28",
            tolerate_failures=3,
            config={"value": "{{ item }}"},
        )
    )
    result = await stage.run(document, {"odd": odd})
    assert "  all: OK — 3 of 40 items failed (tolerated), 29 of 40 items skipped" in run_lines(result, 2, verbose=False)


# --- the order of mappings


async def test_items_of_a_mapping_are_taken_in_the_order_of_their_keys():
    one, other = ({"b": 1, "aa": 2, "10": 3, "9": 4}, {"9": 4, "10": 3, "aa": 2, "b": 1})
    assert [(await outcome(each(items))).nodes["all"].output for items in (one, other)] == [[3, 4, 2, 1]] * 2


async def test_a_resumed_run_repeats_no_item_of_a_mapping_that_a_database_gave_back_in_another_order():
    """PostgreSQL orders the keys of a mapping by their length."""
    asked: list[str] = []

    def ask(config: dict[str, Any], _: Any) -> str:
        asked.append(config["key"])
        if config["key"] == "c" and len(asked) < 4:
            raise RuntimeError("not yet")
        return config["key"]

    fan = node("all", "ask", "list", for_each="{{ list }}", max_parallel=1, config={"key": "{{ item_key }}"})
    definition = workflow(node("list", config={"value": {"bb": 1, "c": 2, "aaa": 3}}), fan)
    first = await stage.run(definition, {"ask": ask}, clock=stage.Clock())
    recorded = first.nodes | {"all": NodeRun("all", NodeState.RUNNING, attempts=1)}
    recorded["list"].output = {"c": 2, "bb": 1, "aaa": 3}
    recorded["all"].items = {i: item for i, item in first.nodes["all"].items.items() if item.key != "c"}
    second = await stage.run(definition, {"ask": ask}, clock=stage.Clock(), recorded=recorded)
    assert (asked, second.nodes["all"].output) == (["aaa", "bb", "c", "c"], ["aaa", "bb", "c"])
