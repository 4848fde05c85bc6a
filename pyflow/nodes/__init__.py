"""The built-in node types. ``default_registry`` has them all; a program may register its own there, too."""

from __future__ import annotations

from pyflow.core.node import NodeRegistry
from pyflow.nodes.alert import AlertNode
from pyflow.nodes.condition import ConditionNode
from pyflow.nodes.fail import FailNode
from pyflow.nodes.http import HttpNode
from pyflow.nodes.log import LogNode
from pyflow.nodes.storage import StorageNode
from pyflow.nodes.template import TemplateNode
from pyflow.nodes.transform import TransformNode

__all__ = [
    "AlertNode",
    "ConditionNode",
    "FailNode",
    "HttpNode",
    "LogNode",
    "StorageNode",
    "TemplateNode",
    "TransformNode",
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
