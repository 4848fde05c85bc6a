"""The ``transform`` node: takes a part out of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import RootModel

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show
from pyflow.core.node import BaseNode
from pyflow.core.traits import NodeTraits
from pyflow.expressions.template import resolve_templates
from pyflow.nodes.fields import AnyValue, Flag, JsonPath, NodeConfig


class TransformConfig(NodeConfig):
    """Config of the ``transform`` node."""

    input: AnyValue
    """The data: any value, or a template that gives one."""
    expression: JsonPath
    """JSONPath into the data, such as ``$.items[*].price``."""
    default: AnyValue = None
    """Output of a path that matches nothing, if it can match one value at most. Without it, the node fails."""
    unwrap: Flag = False
    """Give one match bare although there could be more, as version 1 does."""


class TransformOutput(RootModel[Any]):
    """The value of a path to one place, else the list of the values of all matches."""


class NoMatchError(NonRetryableError):
    """The path leads to one place, there is nothing, and the config has no ``default``."""

    code: ClassVar[str] = "no_match"


class TransformNode(BaseNode[dict[str, Any], Any]):
    """Gives what a JSONPath finds.

    In version 2 the path decides the shape, not the data: names and indices only (``$.a.b[0]``) lead to one place and
    give its value, or ``default``; whatever could match more (a filter, wildcard, slice or descent) gives a list, of
    one and of none, too. Version 1 gives a single match bare, else the list.

    Raises ``JsonPathError``, ``NoMatchError``; ``KeyError`` when ``input`` or ``expression`` is missing.
    """

    node_type: ClassVar[str] = "transform"
    display_name: ClassVar[str] = "Transform"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Extracts a part of data with a JSONPath."
    version: ClassVar[str] = "2.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, is_pure=True, renders_config=True)
    example: ClassVar[Mapping[str, Any]] = {"input": "{{ fetch.body }}", "expression": "$.items[*].price"}
    Config = TransformConfig
    Output = TransformOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        """Evaluate the JSONPath; see the class. A template as ``input`` is resolved, for who calls this directly."""
        from pyflow.expressions import jsonpath  # noqa: PLC0415 - jsonpath-ng takes longer to load than a small workflow to run

        data = config["input"]
        if not context.is_rendered:
            data = resolve_templates(data, context)
        expression = config["expression"]
        if context.scope is None:
            return jsonpath.find(expression, data)
        found: list[object] = jsonpath.find_all(expression, data)
        if not jsonpath.is_singular(expression):
            return found[0] if config.get("unwrap") and len(found) == 1 else found
        if found:
            return found[0]
        if "default" in config:
            return config["default"]
        raise NoMatchError(f"the data has nothing at {show(expression)}: a `default` says what to give then")
