"""The ``template`` node: a value made from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import RootModel

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import AnyValue, NodeConfig
from pyflow_sdk.node import NodeContext


class TemplateConfig(NodeConfig):
    """Config of the ``template`` node."""

    template: AnyValue
    """Text, or a mapping or list with templates in it."""


class TemplateOutput(RootModel[Any]):
    """The template with everything in it rendered."""


class TemplateNode(BaseNodeV2[TemplateConfig]):
    """Gives its ``template`` as the engine rendered it: text, or a mapping or list of values that keep their types."""

    node_type: ClassVar[str] = "template"
    display_name: ClassVar[str] = "Template"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Renders text or data from a template."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, is_pure=True, renders_config=True, always="succeeds")
    example: ClassVar[Mapping[str, Any]] = {"template": {"subject": "Order {{ input.order_id }}", "total": "{{ sum }}"}}
    Config = TemplateConfig
    Output = TemplateOutput

    async def run(self, config: TemplateConfig, ctx: NodeContext) -> object:  # noqa: ARG002
        """Give the rendered template; see the class."""
        value: object = config.template
        return value
