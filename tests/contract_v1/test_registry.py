"""`BaseNode` in both of its spellings, and `NodeRegistry`, as v1 users know them."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pyflow.core.context import ExecutionContext
from pyflow.core.engine import WorkflowEngine
from pyflow.core.models import WorkflowDef
from pyflow.core.node import BaseNode, NodeRegistry


class Plain(BaseNode):
    node_type = "plain"

    async def execute(self, config: dict, context: ExecutionContext) -> object:
        return {"got": config, "run": context.run_id}


class GreetConfig(BaseModel):
    name: str
    times: int = 1


class GreetResponse(BaseModel):
    text: str


class Greet(BaseNode[GreetConfig, GreetResponse]):
    node_type = "greet"
    config_model = GreetConfig
    response_model = GreetResponse

    async def execute(self, config: GreetConfig, context: ExecutionContext) -> GreetResponse:
        return GreetResponse(text=f"hello {config.name} " * config.times)


async def run(cls: Any, config: dict[str, Any], *more: dict[str, Any]) -> ExecutionContext:
    registry = NodeRegistry()
    registry.register(cls)
    nodes = [{"id": "a", "type": cls.node_type, "config": config}, *more]
    return await WorkflowEngine(registry=registry).run(WorkflowDef(name="f", trigger={"type": "manual"}, nodes=nodes))


async def test_the_plain_spelling_gets_a_dict_and_the_context():
    result = (await run(Plain, {"x": 1})).get_result("a")
    assert result["got"] == {"x": 1}
    assert type(result["got"]) is dict


async def test_the_generic_spelling_gets_its_model():
    result = (await run(Greet, {"name": "Ada", "times": "2"})).get_result("a")
    assert isinstance(result, GreetResponse)
    assert result.text == "hello Ada hello Ada "


async def test_fields_of_a_response_can_be_used_by_what_follows():
    class Both(Greet):
        node_type = "both"

    after = {
        "id": "b",
        "type": "both",
        "config": {"name": "{{ a.text }}"},
        "depends_on": ["a"],
        "when": "len(a.text) > 3",
    }
    result = (await run(Both, {"name": "Ada"}, after)).get_result("b")
    assert result.text == "hello hello Ada  "


async def test_a_config_that_does_not_fit_the_model_is_the_nodes_error():
    context = await run(Greet, {"times": 2})
    assert "name" in context.get_error("a")
    assert not context.has_result("a")


def test_validate_config_gives_the_model():
    assert Greet().validate_config({"name": "Ada"}) == GreetConfig(name="Ada")
    with pytest.raises(ValidationError):
        Greet().validate_config({})


def test_validate_config_without_a_model_gives_what_it_got():
    raw = {"x": 1}
    assert Plain().validate_config(raw) is raw


async def test_validate_config_can_be_overridden():
    class Own(BaseNode):
        node_type = "own"

        def validate_config(self, raw: Any) -> Any:
            if "x" not in raw:
                raise ValueError("x is needed")
            return raw | {"checked": True}

        async def execute(self, config: dict, context: ExecutionContext) -> object:
            return config

    assert "x is needed" in str((await run(Own, {})).get_error("a"))
    assert (await run(Own, {"x": 1})).has_result("a")


async def test_a_class_with_a_model_whose_execute_says_dict_gets_the_dict():
    class Typed(BaseNode[GreetConfig, dict]):
        node_type = "typed"
        config_model = GreetConfig

        async def execute(self, config: dict, context: ExecutionContext) -> object:
            return config["name"]

    assert (await run(Typed, {"name": "Ada"})).get_result("a") == "Ada"
    assert (await run(Typed, {})).has_error("a")


async def test_the_generic_spelling_without_models_gets_a_dict():
    class Loose(BaseNode[dict, dict]):
        node_type = "loose"

        async def execute(self, config: dict, context: ExecutionContext) -> dict:
            return config

    assert (await run(Loose, {"x": 1})).get_result("a") == {"x": 1}


async def test_each_execution_has_an_instance_of_its_own():
    class Counts(BaseNode):
        node_type = "counts"

        def __init__(self) -> None:
            self.calls = 0

        async def execute(self, config: dict, context: ExecutionContext) -> object:
            self.calls += 1
            return self.calls

    context = await run(Counts, {}, {"id": "b", "type": "counts"})
    assert context.all_results() == {"a": 1, "b": 1}


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError):
        BaseNode()  # type: ignore[abstract]


async def test_a_node_can_be_executed_directly():
    context = ExecutionContext(workflow_name="f", run_id="r1")
    assert await Plain().execute({"x": 1}, context) == {"got": {"x": 1}, "run": "r1"}


def test_a_registered_class_is_found_by_its_type():
    registry = NodeRegistry()
    registry.register(Plain)
    registry.register(Greet)
    assert registry.get("plain") is Plain
    assert sorted(registry.list_types()) == ["greet", "plain"]


def test_a_second_class_of_the_same_type_is_a_value_error():
    registry = NodeRegistry()
    registry.register(Plain)
    with pytest.raises(ValueError, match="already registered"):
        registry.register(Plain)


def test_an_unknown_type_is_a_key_error():
    with pytest.raises(KeyError, match="Unknown node type: ghost"):
        NodeRegistry().get("ghost")


def test_registries_are_independent():
    first, second = NodeRegistry(), NodeRegistry()
    first.register(Plain)
    assert second.list_types() == []
    second.register(Plain)
