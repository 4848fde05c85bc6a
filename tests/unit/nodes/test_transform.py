"""`transform` in version 2: the path decides the shape of the result, not the data."""

from typing import Any

import pytest

from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import WorkflowEngine
from pyflow.expressions.jsonpath import find_all, is_singular
from pyflow.nodes import default_registry
from pyflow.upgrade.convert import convert
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from tests.support.factories.stage import node, workflow

ORDERS = [{"id": 1, "status": "open"}, {"id": 2, "status": "paid"}, {"id": 3, "status": "open"}]
SINGULAR = ("$", "$.a", "$['a'].b[0]", "$.a[-1]", "a.b", "$.a.`len`", "$.a + 1", "$.größe", "$['größe']")
PLURAL = ("$.*", "$.a[*]", "$..a", "$.a[0:1]", "$[?(@.x > 1)]", "$.a, b", "$[0,1]", "$..größe")


@pytest.mark.parametrize("path", SINGULAR)
def test_names_and_indices_lead_to_one_place(path: str):
    assert is_singular(path)


@pytest.mark.parametrize("path", PLURAL)
def test_anything_else_may_match_many(path: str):
    assert not is_singular(path)


async def transformed(data: Any, path: str, version: int = 2, **config: Any) -> Any:
    head = {"version": 2} if version == 2 else {"trigger": {"type": "manual"}}
    node = {"id": "t", "type": "transform", "config": {"input": data, "expression": path} | config}
    return await WorkflowEngine().execute(WorkflowDef.model_validate({"name": "w", "nodes": [node]} | head))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_a_filter_gives_a_list_of_however_many(count: int):
    result = await transformed(ORDERS[:count], "$[?(@.status == 'open')].id")
    assert result.nodes["t"].output == [order["id"] for order in ORDERS[:count] if order["status"] == "open"]


async def test_a_path_to_one_place_gives_its_value_be_it_a_list():
    assert (await transformed({"a": [7]}, "$.a")).nodes["t"].output == [7]
    assert (await transformed({"a": None}, "$.a", default=1)).nodes["t"].output is None


async def test_nothing_there_is_the_default_or_a_failure():
    assert (await transformed({}, "$.a", default=None)).nodes["t"].output is None
    result = await transformed({}, "$.a")
    assert (result.state, result.error.code) == ("failed", "no_match")
    assert "$.a" in result.error.message


async def test_version_1_gives_a_single_match_bare():
    assert (await transformed(ORDERS[:1], "$[*].id", version=1)).nodes["t"].output == 1
    assert (await transformed(ORDERS, "$[*].id", version=1)).nodes["t"].output == [1, 2, 3]


@pytest.mark.parametrize("path", ["$.größe", "$..größe", "$[?(@.größe == 1)].größe", "$.x['größe']"])
def test_names_beyond_ascii_need_no_quotes(path: str):
    data: Any = [{"größe": 1}] if "?" in path else {"größe": 1, "x": {"größe": 1}}
    assert set(find_all(path, data)) == {1}


def test_what_is_in_quotes_is_left_as_it_is():
    assert find_all("$['é.ü']", {"é.ü": 1}) == [1]
    assert find_all("$[?(@.a == 'é')].a", [{"a": "é"}, {"a": "e"}]) == ["é"]


@pytest.mark.parametrize("data", [[], [{"id": 1}], [{"id": 1}, {"id": 2}]])
@pytest.mark.parametrize("path", ["$[*].id", "$[0].id", "$"])
async def test_a_converted_file_gives_what_it_gave(path: str, data: Any):
    source = f"""
name: w
trigger: {{type: manual}}
nodes:
  - id: t
    type: transform
    config: {{input: "{{{{ trigger.data }}}}", expression: "{path}"}}
  - {{id: after, type: condition, depends_on: [t], config: {{if: "True"}}}}
"""
    converted = convert(source, default_registry)
    given = {"trigger": {"data": data}}
    before = await WorkflowEngine().execute(parse_workflow(source), initial_context=given)
    after = await WorkflowEngine().execute(parse_workflow(converted.text), initial_context=given)
    assert after.nodes["t"].output == before.nodes["t"].output
    assert ("transform_matches" in {note.code for note in converted.notes}) == (path != "$")


@pytest.mark.parametrize(
    ("type", "config", "place"),
    [
        ("transform", {"input": [1], "expression": "$..["}, "expression"),
        ("transform", {"input": "{{ input.a }}", "expression": "a b c"}, "expression"),
        ("http", {"url": "https://a.example", "paginate": {"next": "link", "items": "$["}}, "paginate/items"),
    ],
)
def test_a_path_that_is_none_is_refused_when_the_file_is_checked(type: str, config: dict[str, Any], place: str):
    problems = check_workflow(workflow(node("a", type, config=config)), default_registry)
    assert [problem.pointer for problem in problems] == [f"/nodes/0/config/{place}"]
    assert "not a JSONPath" in problems[0].message
    templated = check_workflow(
        workflow(node("a", "transform", config={"input": 1, "expression": "{{ input.path }}"})), default_registry
    )
    assert templated == []
