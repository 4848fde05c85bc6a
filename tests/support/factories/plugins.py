"""Classes of plugins: one that is right, and those that are not, each in its way."""

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel

from pyflow_sdk import BaseNodeV2, NodeContext


class Words(BaseModel):
    text: str = "hello"


class Shout(BaseNodeV2[Words]):
    """Say it louder."""

    node_type = "shout"
    Config = Words

    async def run(self, config: Words, ctx: NodeContext) -> str:
        return config.text.upper()


class Undescribable(Shout):
    node_type = "undescribable"

    class Config(BaseModel):
        hook: Callable[[int], int] | None = None


class DictConfig(Shout):
    node_type = "dict_config"
    Config = dict  # type: ignore[assignment]  # wrong on purpose


class BadName(Shout):
    node_type = "two words"


class BadSignature(Shout):
    node_type = "bad_signature"

    async def run(self, config: Words) -> str:  # type: ignore[override]  # wrong on purpose
        return config.text


class BadExample(Shout):
    node_type = "bad_example"
    example: ClassVar = {"text": {1, 2}}


class Taken(Shout):
    node_type = "log"


def no_class() -> None:
    """A function is no node type."""


#: What their errors say.
WRONG: dict[str, Any] = {
    "Undescribable": "cannot be described as JSON",
    "DictConfig": "Config must be a pydantic model",
    "BadName": "node_type is 'two words'",
    "BadSignature": "is called with (self, config, ctx)",
    "BadExample": "cannot be described as JSON",
    "Taken": "already registered",
    "no_class": "is no node class",
}
