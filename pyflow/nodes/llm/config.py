"""Config and output of the ``llm`` node."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pyflow.nodes.fields import AnyValue, Flag, NodeConfig, NodeOutput, PositiveInt, Seconds, TemplateText
from pyflow.nodes.schemas import checked_schema

TIMEOUT = 60.0


class Message(NodeConfig):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] | TemplateText
    """Who says it."""
    content: AnyValue
    """Text, or a list of parts as the API has them."""


class LlmConfig(NodeConfig):
    """What the ``llm`` node needs: ``messages``, or ``prompt`` with or without ``system``."""

    url: str
    """An OpenAI-compatible API: its base (``https://api.example.com/v1``) or the URL of its chat completions."""
    api_key: str | None = None
    """Sent as a bearer token. From a secret."""
    model: str
    """The model's name."""
    messages: list[Message] | TemplateText | None = None
    """The conversation so far."""
    prompt: AnyValue = None
    """What to ask."""
    system: AnyValue = None
    """How to answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] | TemplateText | None = None
    """0 to 2; the model's own default without it."""
    max_tokens: PositiveInt | None = None
    """How long the answer may be."""
    schema_: Annotated[dict[str, Any] | None, AfterValidator(checked_schema)] = Field(default=None, alias="schema")
    """JSON Schema of the answer, which is then parsed and checked; if it does not fit, the model is asked once more."""
    timeout: Seconds | None = TIMEOUT
    """How long everything together may take."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request, as the provider has them."""
    allow_private_networks: Flag = False
    """Whether private and loopback addresses may be reached, where the operator lets workflows decide that."""

    @model_validator(mode="after")
    def _one_conversation(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give `messages` or `prompt`, one of them")
        if self.system is not None and self.messages is not None:
            raise ValueError("`system` goes with `prompt`; in `messages` it is one of them")
        return self


class Usage(NodeOutput):
    """What an answer cost, a second attempt included."""

    prompt_tokens: int
    """Tokens that were sent."""
    completion_tokens: int
    """Tokens that came back."""
    total_tokens: int
    """Both."""


class LlmOutput(NodeOutput):
    """What the ``llm`` node gives."""

    text: str
    """The answer."""
    data: Any = None
    """With ``schema``: the answer parsed."""
    usage: Usage
    """Tokens; zeros from a server that does not count."""
    model: str
    """The model that answered."""
    finish_reason: str | None
    """Why it stopped: ``stop``, ``length``, ``content_filter``…"""
