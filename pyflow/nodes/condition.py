"""The ``condition`` node: a yes or no that other nodes refer to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, RootModel

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode
from pyflow.core.traits import NodeTraits
from pyflow.expressions.evaluation import safe_eval
from pyflow.expressions.scope import V1Scope
from pyflow.nodes.fields import NodeConfig


class ConditionConfig(NodeConfig):
    """Config of the ``condition`` node."""

    if_: str | bool | int | float | None = Field(alias="if")
    """The expression, over the results of other nodes by their id."""


class ConditionOutput(RootModel[bool]):
    """True if the expression is true."""


class ConditionNode(BaseNode[dict[str, Any], bool]):
    """Evaluates an expression over all results so far to a ``bool``.

    Raises what ``safe_eval`` raises (``UnsafeExpressionError``, ``NameError``, …); ``KeyError`` without an ``if``.
    """

    node_type: ClassVar[str] = "condition"
    display_name: ClassVar[str] = "Condition"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Evaluates an expression to true or false."
    version: ClassVar[str] = "2.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, is_pure=True)
    #: In version 2 the engine hands over the names that the node's own templates see: `item`, `run.state`, `output`.
    wants_scope: ClassVar[bool] = True
    example: ClassVar[Mapping[str, Any]] = {"if": "fetch['body']['total'] > 100"}
    #: Keys of the config that hold expressions, for the checker.
    expressions: ClassVar[tuple[str, ...]] = ("if",)
    Config = ConditionConfig
    Output = ConditionOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> bool:
        """Evaluate the expression; see the class."""
        expression = config["if"]
        if not isinstance(expression, str):
            return bool(expression)  # a template that was the whole text has given its value
        return bool(_evaluate(expression, context))


def _evaluate(expression: str, context: ExecutionContext) -> Any:
    if context.scope is None:
        return safe_eval(expression, V1Scope(context, time.time()))
    return safe_eval(expression, context.scope, version=2)
