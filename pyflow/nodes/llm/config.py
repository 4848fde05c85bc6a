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
    """Role of the author."""
    content: AnyValue
    """Text, or a list of parts as the API has them."""


class LlmConfig(NodeConfig):
    """Config of the ``llm`` node: ``messages``, or ``prompt`` with or without ``system``."""

    url: str
    """An OpenAI-compatible API: its base (``https://api.example.com/v1``) or the URL of its chat completions."""
    api_key: str | None = None
    """Sent as a bearer token. From a secret."""
    model: str
    """The model's name."""
    messages: list[Message] | TemplateText | None = None
    """The conversation so far."""
    prompt: AnyValue = None
    """The user's message."""
    system: AnyValue = None
    """The system's message: instructions for the answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] | TemplateText | None = None
    """0 to 2; the model's own default without it."""
    max_tokens: PositiveInt | None = None
    """Maximum length of the answer in tokens."""
    schema_: Annotated[dict[str, Any] | None, AfterValidator(checked_schema)] = Field(default=None, alias="schema")
    """JSON Schema of the answer, which is then parsed and checked; if it does not fit, the model is asked once more."""
    timeout: Seconds | None = TIMEOUT
    """Time limit for everything together."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request, as the provider has them."""
    allow_private_networks: Flag = False
    """Allow private and loopback addresses, if the operator lets workflows decide that."""

    @model_validator(mode="after")
    def _one_conversation(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give `messages` or `prompt`, one of them")
        if self.system is not None and self.messages is not None:
            raise ValueError("`system` goes with `prompt`; in `messages` it is one of them")
        return self


class Usage(NodeOutput):
    """Tokens that an answer used, a second attempt included."""

    prompt_tokens: int
    """Tokens that were sent."""
    completion_tokens: int
    """Tokens that came back."""
    total_tokens: int
    """Both."""


class LlmOutput(NodeOutput):
    """Output of the ``llm`` node."""

    text: str
    """The answer."""
    data: Any = None
    """With ``schema``: the answer parsed."""
    usage: Usage
    """Tokens; zeros from a server that does not count."""
    model: str
    """The model that answered."""
    finish_reason: str | None
    """The reason that it stopped: ``stop``, ``length``, ``content_filter``…"""
