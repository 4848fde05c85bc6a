"""Node types of installed packages: entry points of the group ``pyflow.nodes``.

A package that fails to load is reported and disables only itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from pyflow.core.node import NodeRegistry
from pyflow.nodes import default_registry

logger = logging.getLogger(__name__)
GROUP = "pyflow.nodes"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point, the distribution that it is of, and why it could not be loaded (empty: it was)."""

    name: str
    distribution: str
    version: str
    error: str = ""

    @property
    def status(self) -> str:
        """``loaded`` or ``broken``."""
        return "broken" if self.error else "loaded"


@dataclass(frozen=True, slots=True)
class Discovered:
    """The node types of this installation, and the plugins that were looked at, by name."""

    registry: NodeRegistry
    plugins: tuple[Plugin, ...]


@cache
def discover() -> Discovered:
    """Built-in and installed node types; loaded once per process."""
    registry = default_registry.copy()
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return Discovered(registry, tuple(_load(point, registry) for point in points))


def _load(point: EntryPoint, registry: NodeRegistry) -> Plugin:
    name = point.dist.name if point.dist is not None else ""
    version = point.dist.version if point.dist is not None else ""
    try:
        registry.register(point.load())
    except Exception as error:
        logger.exception("plugin %s (%s %s) cannot be loaded; its node type is missing", point.name, name, version)
        return Plugin(point.name, name, version, f"{type(error).__name__}: {error}")
    return Plugin(point.name, name, version)
