"""The ``llm`` node: an answer of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.llm.config import LlmConfig, LlmOutput
from pyflow_sdk.node import NodeContext


class LlmNode(BaseNodeV2[LlmConfig]):
    """Asks a language model and gives ``{text, data, usage, model, finish_reason}``.

    Raises ``LlmUnavailableError`` for 429 and 5xx (with ``retry_after`` in seconds where the server gave one),
    ``LlmRefusedError`` for other errors of the server and an answer that it declines to give, ``LlmAnswerError`` for
    one that does not fit the schema or the API, and what requests raise: ``SSRFError``, ``HttpTimeoutError``, …
    """

    node_type: ClassVar[str] = "llm"
    display_name: ClassVar[str] = "Language model"
    category: ClassVar[str] = "ai"
    description: ClassVar[str] = "Asks a language model through an OpenAI-compatible API."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, calls_service=True, limits_time=True)
    example: ClassVar[Mapping[str, Any]] = {
        "url": "https://api.example.com/v1",
        "api_key": "{{ secrets.LLM_KEY }}",
        "model": "small-1",
        "system": "You sort support tickets.",
        "prompt": "{{ input.ticket }}",
        "schema": {
            "type": "object",
            "required": ["urgent"],
            "properties": {"urgent": {"type": "boolean"}},
        },
    }
    Config = LlmConfig
    Output = LlmOutput

    async def run(self, config: LlmConfig, ctx: NodeContext) -> LlmOutput:  # noqa: ARG002
        """Ask; see the class."""
        from pyflow.nodes.llm import chat  # noqa: PLC0415 - httpx2 takes longer to load than a small workflow to run

        output: LlmOutput = await chat.ask(config)
        return output
