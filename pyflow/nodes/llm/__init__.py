"""The ``llm`` node."""

from pyflow.nodes.llm.node import LlmNode

__all__ = ["LlmNode"]
