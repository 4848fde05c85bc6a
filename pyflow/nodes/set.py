"""The ``set`` node: values computed by expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, RootModel

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import NodeConfig
from pyflow_sdk.node import NodeContext


class SetConfig(NodeConfig):
    """Config of the ``set`` node: names of your own, each with an expression.

    A nested mapping or list has expressions as its leaves; numbers, booleans and null stand for themselves. An
    expression reads another field as ``output.NAME``.
    """

    model_config = ConfigDict(extra="allow")


class SetOutput(RootModel[dict[str, Any]]):
    """The fields with their values."""


class SetNode(BaseNodeV2[SetConfig]):
    """Gives its fields as the engine computed them."""

    node_type: ClassVar[str] = "set"
    display_name: ClassVar[str] = "Set"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Computes values with expressions."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(
        writes_files=False, is_pure=True, renders_config=True, computes_config=True
    )
    example: ClassVar[Mapping[str, Any]] = {
        "total": "sum(line.price * line.count for line in input.lines)",
        "by_day": "{day: len(rows) for day, rows in group_by(input.lines, 'day').items()}",
        "label": {"text": "f'{output.total} EUR'", "due": "today('Europe/Berlin') + duration('14d')", "paid": False},
    }
    Config = SetConfig
    Output = SetOutput

    async def run(self, config: SetConfig, ctx: NodeContext) -> object:  # noqa: ARG002
        """Give the fields; see the class."""
        return dict(config.model_extra or {})
