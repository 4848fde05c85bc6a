"""Node types of this installation: the built-in ones and those of installed packages (``pyflow.nodes.plugins``)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

from pyflow.core.node import NodeRegistry
from pyflow.nodes import default_registry
from pyflow.nodes.plugins import Plugin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Discovered:
    """The node types of this installation, and the plugins that were looked at, by name."""

    registry: NodeRegistry
    plugins: tuple[Plugin, ...]


@cache
def discover() -> Discovered:
    """Built-in and installed node types; loaded once per process, which logs the plugins that cannot be used."""
    plugins = default_registry.plugins()
    for plugin in plugins:
        if plugin.error:
            logger.error("plugin %s (%s %s): %s", plugin.name, plugin.distribution, plugin.version, plugin.error)
    return Discovered(default_registry.copy(), plugins)
