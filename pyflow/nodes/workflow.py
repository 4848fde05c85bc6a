"""The ``workflow`` node: a run of another workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from pyflow.core.children import ChildConfig
from pyflow.core.errors import NonRetryableError
from pyflow.core.traits import NodeTraits
from pyflow_sdk.node import BaseNodeV2, NodeContext


class WorkflowNode(BaseNodeV2[ChildConfig]):
    """Runs another workflow as a child run. Its output is the child's ``outputs``, or its nodes' results by id.

    Without ``wait`` the output is ``{run_id}``. A child that fails fails the node (``ChildRunFailedError``), unless
    ``propagate`` is false: then the output is ``{run_id, state, error}``.
    """

    node_type: ClassVar[str] = "workflow"
    display_name: ClassVar[str] = "Workflow"
    category: ClassVar[str] = "flow"
    description: ClassVar[str] = "Runs another workflow as a child run and waits for it, or not."
    version: ClassVar[str] = "2.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False)
    example: ClassVar[Mapping[str, Any]] = {"workflow": "shipping", "input": {"order": "{{ input.order_id }}"}}
    #: The engine starts the run; see ``pyflow.core.children``.
    starts_run: ClassVar[bool] = True
    Config = ChildConfig

    async def run(self, config: ChildConfig, ctx: NodeContext) -> NoReturn:
        """Only an engine can start runs."""
        raise NonRetryableError(f"`workflow` ({config.workflow}) runs in an engine only, not by itself ({ctx.node_id})")
