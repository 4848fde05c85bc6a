"""What other rooms know about a node type is declared by its class, never concluded from its name."""

from typing import Any

import pytest
from pydantic import BaseModel

from pyflow.core.node import BaseNodeV2
from pyflow.core.suspension import SuspendingNode
from pyflow.core.traits import NodeTraits, traits_of
from pyflow.nodes import default_registry
from pyflow.nodes.log import LogNode
from pyflow_sdk.node import NodeContext


def _types(trait: str) -> set[str]:
    registry = default_registry
    return {name for name in registry.list_types() if getattr(traits_of(registry.get(name)), trait)}


@pytest.mark.parametrize(
    ("trait", "types"),
    [
        ("is_pure", {"condition", "set", "template", "transform"}),
        ("computes_config", {"set"}),
        ("renders_config", {"set", "template", "transform"}),
        ("calls_service", {"alert", "email", "http", "llm", "sql"}),
        ("has_method", {"http"}),
        ("limits_time", {"alert", "email", "http", "llm", "sql"}),
        ("always", {"fail", "log", "template"}),
        ("writes_files", {"http", "sql", "storage"}),
    ],
)
def test_the_built_in_types_that_have_a_trait(trait: str, types: set[str]):
    assert _types(trait) == types


def test_http_writes_files_only_where_it_saves_the_answer():
    traits = traits_of(default_registry.get("http"))
    assert traits.may_write_files({"url": "https://example.com", "save_to": "a.json"})
    assert not traits.may_write_files({"url": "https://example.com"})
    assert traits.may_write_files("a config that is no mapping")


def test_a_subclass_of_a_built_in_type_is_not_taken_for_it():
    class _Copying(LogNode):
        node_type = "copying_log"

    assert traits_of(_Copying) == NodeTraits()
    assert traits_of(_Copying).may_write_files({})


def test_an_attribute_of_that_name_which_is_something_else_is_left_alone():
    class _Config(BaseModel):
        pass

    class _Own(BaseNodeV2[_Config]):
        node_type = "own"
        Config = _Config
        traits = ("brave", "strong")

        def run(self, config: _Config, ctx: NodeContext) -> Any:
            return None

    assert traits_of(_Own) == NodeTraits()


def test_nodes_that_wait_are_known_by_their_class():
    registry = default_registry
    waiting = {name for name in registry.list_types() if issubclass(registry.get(name), SuspendingNode)}
    assert waiting == {"approval", "signal", "wait"}
