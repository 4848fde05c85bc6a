"""Node types of this installation: the built-in ones and those of installed packages (``pyflow.nodes.plugins``)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyflow.core.node import NodeRegistry
from pyflow.nodes import default_registry
from pyflow.nodes.plugins import Plugin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Discovered:
    """The node types of this installation, and the plugins that were looked at, by name."""

    registry: NodeRegistry
    plugins: tuple[Plugin, ...]


#: The node types of this process, once it has looked for them.
_found: Discovered | None = None


def discover() -> Discovered:
    """Built-in and installed node types; loaded once per process, which logs the plugins that cannot be used."""
    global _found  # noqa: PLW0603 - one per process
    if _found is None:
        _found = _look()
    return _found


@contextmanager
def using(other: Discovered | None) -> Iterator[None]:
    """Use other node types in this process for a while; ``None``: look again for those that are installed."""
    global _found  # noqa: PLW0603 - one per process
    before, _found = _found, other
    try:
        yield
    finally:
        _found = before


def _look() -> Discovered:
    plugins = default_registry.plugins()
    for plugin in plugins:
        if plugin.error:
            logger.error("plugin %s (%s %s): %s", plugin.name, plugin.distribution, plugin.version, plugin.error)
    return Discovered(default_registry.copy(), plugins)
