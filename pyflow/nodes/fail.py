"""The ``fail`` node: ends a path of the workflow as a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import AnyValue, Flag, NodeConfig
from pyflow_sdk.node import NodeContext


class FailConfig(NodeConfig):
    """Config of the ``fail`` node."""

    message: AnyValue = "the workflow was told to fail here"
    """Why; it becomes the node's error."""
    kind: str | None = None
    """A name for the error that ``retry_on`` and ``non_retryable`` can match."""
    retryable: Flag = False
    """True if the node's ``retry`` applies."""


class FailNode(BaseNodeV2[FailConfig]):
    """Raises ``NonRetryableError`` (with ``retryable``: ``NodeError``) with its message."""

    node_type: ClassVar[str] = "fail"
    display_name: ClassVar[str] = "Fail"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Fails, with a message."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, always="fails")
    example: ClassVar[Mapping[str, Any]] = {"message": "no price for {{ input.sku }}", "kind": "no_price"}
    Config = FailConfig

    async def run(self, config: FailConfig, ctx: NodeContext) -> NoReturn:  # noqa: ARG002
        """Raise; see the class."""
        error = NodeError if config.retryable else NonRetryableError
        raise error(str(config.message), kind=config.kind)
