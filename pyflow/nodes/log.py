"""The ``log`` node: a line in the log of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import AnyValue, NodeConfig, NodeOutput, TemplateText
from pyflow_sdk.node import NodeContext

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogConfig(NodeConfig):
    """Config of the ``log`` node."""

    message: AnyValue
    """The text; a value of another type is written as text."""
    level: Literal["debug", "info", "warning", "error"] | TemplateText = "info"
    """Level of the line."""


class LogOutput(NodeOutput):
    """Output of the ``log`` node."""

    message: str
    """The text that was logged."""
    level: str
    """The level it was logged at."""


class LogNode(BaseNodeV2[LogConfig]):
    """Writes a message to the node's logger and gives ``{message, level}``."""

    node_type: ClassVar[str] = "log"
    display_name: ClassVar[str] = "Log"
    category: ClassVar[str] = "notify"
    description: ClassVar[str] = "Writes a line to the log."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, always="succeeds")
    example: ClassVar[Mapping[str, Any]] = {"message": "{{ lines | length }} lines", "level": "info"}
    Config = LogConfig
    Output = LogOutput

    async def run(self, config: LogConfig, ctx: NodeContext) -> LogOutput:
        """Log the message; see the class."""
        text = str(config.message)
        ctx.logger.log(_LEVELS.get(config.level, logging.INFO), "%s", text)
        return LogOutput(message=text, level=config.level)
