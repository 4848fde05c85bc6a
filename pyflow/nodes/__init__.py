"""The built-in node types. ``default_registry`` has them all; a program may register its own there, too."""

from __future__ import annotations

from pyflow.core.node import NodeRegistry
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.approval import ApprovalNode
from pyflow.nodes.condition import ConditionNode
from pyflow.nodes.email import EmailNode
from pyflow.nodes.fail import FailNode
from pyflow.nodes.http import HttpNode
from pyflow.nodes.llm import LlmNode
from pyflow.nodes.log import LogNode
from pyflow.nodes.signal import SignalNode
from pyflow.nodes.sql import SqlNode
from pyflow.nodes.storage import StorageNode
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
    "SignalNode",
    "SqlNode",
    "StorageNode",
    "TemplateNode",
    "TransformNode",
    "WaitNode",
    "WorkflowNode",
    "default_registry",
]

default_registry = NodeRegistry()
default_registry.register(HttpNode)
default_registry.register(TransformNode)
default_registry.register(ConditionNode)
default_registry.register(AlertNode)
default_registry.register(StorageNode)
default_registry.register(LogNode)
default_registry.register(TemplateNode)
default_registry.register(FailNode)
default_registry.register(WaitNode)
default_registry.register(SignalNode)
default_registry.register(ApprovalNode)
default_registry.register(WorkflowNode)
default_registry.register(SqlNode)
default_registry.register(EmailNode)
default_registry.register(LlmNode)
