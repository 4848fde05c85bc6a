"""The ``transform`` node: takes a part out of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import RootModel

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode
from pyflow.core.template import resolve_templates
from pyflow.nodes import lazy
from pyflow.nodes.fields import AnyValue, NodeConfig


class TransformConfig(NodeConfig):
    """What the ``transform`` node needs."""

    input: AnyValue
    """The data: any value, or a template that gives one."""
    expression: str
    """JSONPath into the data, such as ``$.items[*].price``."""


class TransformOutput(RootModel[Any]):
    """The value of a single match, else the list of the values of all matches."""


class TransformNode(BaseNode[dict[str, Any], Any]):
    """Gives what a JSONPath finds: the value of a single match, else the list of values.

    Raises ``JsonPathError``; ``KeyError`` when ``input`` or ``expression`` is missing.
    """

    node_type: ClassVar[str] = "transform"
    display_name: ClassVar[str] = "Transform"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Takes a part out of data by a JSONPath."
    version: ClassVar[str] = "2.0.0"
    example: ClassVar[Mapping[str, Any]] = {"input": "{{ fetch.body }}", "expression": "$.items[*].price"}
    Config = TransformConfig
    Output = TransformOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        """Evaluate the JSONPath; see the class. A template as ``input`` is resolved, for who calls this directly."""
        data = config["input"]
        if not context.is_rendered:
            data = resolve_templates(data, context)
        found: object = lazy.jsonpath.find(config["expression"], data)
        return found
