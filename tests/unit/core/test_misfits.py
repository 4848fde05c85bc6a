"""Values that do not fit a model are reported by place and rule: once for each mistake, and never by value."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from pyflow.core.misfits import ConfigInvalidError, parse
from pyflow.core.ports import MappingSecrets
from pyflow.execution.engine import WorkflowEngine
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow

REGISTRY = default_registry
SECRET = "kdf83-jd02k-d93kd-0wkx7"


class Red(BaseModel):
    type: Literal["red"]
    depth: int = Field(ge=1)


class Blue(BaseModel):
    type: Literal["blue"]
    name: str


class Shape(BaseModel):
    colour: Red | Blue | None = None
    tagged: Annotated[Red | Blue, Field(discriminator="type")] | None = None
    amount: int | float | None = None
    size: Annotated[str, Field(max_length=3)] | int | None = None
    rows: list[Red] | dict[str, Red] | None = None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"amount": SECRET}, "`amount` must be an integer or a number"),
        ({"amount": []}, "`amount` must be an integer or a number"),
        ({"size": SECRET}, "`size` must have at most 3 characters"),
        ({"colour": {"type": "red", "depth": SECRET}}, "`colour.depth` must be an integer"),
        ({"colour": {"type": "blue"}}, "`colour.name` is required"),
        ({"colour": SECRET}, "`colour` must be a mapping"),
        ({"tagged": {"type": SECRET}}, "`tagged` 'type' must be one of 'red', 'blue'"),
        ({"tagged": {"type": "red", "depth": 0}}, "`tagged.depth` must be at least 1"),
        (
            {"rows": [{"type": "red", "depth": 1}, {"type": "red", "depth": SECRET}]},
            "`rows.1.depth` must be an integer",
        ),
        ({"rows": {"a": {"type": "red"}}}, "`rows.a.depth` is required"),
    ],
)
def test_one_mistake_is_reported_once_and_without_the_value(config: dict[str, Any], told: str):
    with pytest.raises(ConfigInvalidError) as error:
        parse(Shape, config)
    assert str(error.value) == f"the config does not fit: {told}"


def _problems(node: str) -> list[str]:
    text = f"version: 2\nname: x\nnodes: [{node}]"
    return [problem.message for problem in check_workflow(parse_workflow(text), REGISTRY)]


def test_a_union_in_a_file_gives_one_problem_for_one_mistake():
    assert _problems("{id: a, type: http, config: {url: 'https://x.test', headers: {X-Null: null}}}") == [
        "must be text, an integer, a number or true or false"
    ]


def test_when_with_an_item_says_that_it_is_asked_once():
    node = "{id: e, type: log, for_each: [1, 2], when: 'item > 1', config: {message: hi}}"
    assert _problems(node) == [
        "node 'e' uses 'item'; `when` is asked once for the node, before there are items: say it in `item_when`"
    ]


async def test_a_config_that_does_not_fit_once_rendered_is_not_tried_again():
    text = """
version: 2
name: f06
nodes:
  - id: a
    type: http
    retry: {max_attempts: 5, delay: 1}
    config: {url: "https://api.example.com/x", params: "{{ secrets.TOKEN }}"}
"""
    result = await WorkflowEngine(REGISTRY, secrets=MappingSecrets({"TOKEN": SECRET})).execute(parse_workflow(text))
    error = result.nodes["a"].error
    assert error is not None
    assert (error.code, error.message) == ("config_invalid", "the config does not fit: `params` must be a mapping")
    assert result.nodes["a"].attempts == 1
