"""The built-in node types.

``default_registry`` has them all, and those of installed plugins; a program may register its own there, too.
"""

from __future__ import annotations

from pyflow.nodes.alert import AlertNode
from pyflow.nodes.approval import ApprovalNode
from pyflow.nodes.condition import ConditionNode
from pyflow.nodes.email.node import EmailNode
from pyflow.nodes.fail import FailNode
from pyflow.nodes.http.node import HttpNode
from pyflow.nodes.llm.node import LlmNode
from pyflow.nodes.log import LogNode
from pyflow.nodes.plugins import InstalledRegistry
from pyflow.nodes.set import SetNode
from pyflow.nodes.signal import SignalNode
from pyflow.nodes.sql.node import SqlNode
from pyflow.nodes.storage.node import StorageNode
from pyflow.nodes.template import TemplateNode
from pyflow.nodes.transform import TransformNode
from pyflow.nodes.wait import WaitNode
from pyflow.nodes.workflow import WorkflowNode

__all__ = [
    "AlertNode",
    "ApprovalNode",
    "ConditionNode",
    "EmailNode",
    "FailNode",
    "HttpNode",
    "LlmNode",
    "LogNode",
    "SetNode",
    "SignalNode",
    "SqlNode",
    "StorageNode",
    "TemplateNode",
    "TransformNode",
    "WaitNode",
    "WorkflowNode",
    "default_registry",
    "installed_types",
]

_BUILT_IN = (
    HttpNode,
    TransformNode,
    ConditionNode,
    AlertNode,
    StorageNode,
    LogNode,
    TemplateNode,
    SetNode,
    FailNode,
    WaitNode,
    SignalNode,
    ApprovalNode,
    WorkflowNode,
    SqlNode,
    EmailNode,
    LlmNode,
)


def installed_types() -> InstalledRegistry:
    """A registry with the built-in types and those of the installed plugins."""
    registry = InstalledRegistry()
    for cls in _BUILT_IN:
        registry.register(cls)
    return registry


default_registry = installed_types()
