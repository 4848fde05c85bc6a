"""Node types of installed packages: entry points of the group ``pyflow.nodes``.

A package that fails to load is reported and disables only itself.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from pyflow.core.node import NodeRegistry
from pyflow.nodes import default_registry

logger = logging.getLogger(__name__)
GROUP = "pyflow.nodes"


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be loaded, and why."""

    name: str
    distribution: str
    version: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """The node types of this installation, and the plugins that are not among them."""

    registry: NodeRegistry
    broken: tuple[BrokenPlugin, ...]


@cache
def discover() -> Discovered:
    """Built-in and installed node types; loaded once per process."""
    registry = default_registry.copy()
    broken = [failure for point in entry_points(group=GROUP) if (failure := _load(point, registry)) is not None]
    return Discovered(registry, tuple(broken))


def _load(point: EntryPoint, registry: NodeRegistry) -> BrokenPlugin | None:
    try:
        registry.register(point.load())
    except Exception:
        name = point.dist.name if point.dist is not None else ""
        version = point.dist.version if point.dist is not None else ""
        logger.exception("plugin %s (%s %s) cannot be loaded; its node type is missing", point.name, name, version)
        return BrokenPlugin(point.name, name, version, traceback.format_exc())
    return None
