"""Node types of installed packages: entry points of the group ``pyflow.nodes``.

Looking for them reads the metadata of every installed package, so it is done once, and only when a type is asked for
that is not built in, or all of them. A plugin that cannot be used is reported and disables only itself.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from pyflow.core.node import AnyNodeClass, BaseNode, BaseNodeV2, NodeRegistry

logger = logging.getLogger(__name__)
GROUP = "pyflow.nodes"
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point, the distribution that it is of, and why it cannot be used (empty: it can)."""

    name: str
    distribution: str
    version: str
    error: str = ""

    @property
    def status(self) -> str:
        """``loaded`` or ``broken``."""
        return "broken" if self.error else "loaded"


class InstalledRegistry(NodeRegistry):
    """Node types that were registered, and those of the plugins, which are loaded when they are first needed."""

    def __init__(self) -> None:
        super().__init__()
        self._plugins: tuple[Plugin, ...] | None = None
        #: Re-entered by a plugin that asks for types while it is imported.
        self._loading = threading.RLock()
        self._began = False

    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins of this installation by name, loaded."""
        if self._plugins is None:
            with self._loading:
                if not self._began:
                    self._began = True
                    points = sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name)
                    self._plugins = tuple(_load(point, self) for point in points)
        return self._plugins or ()

    def get(self, node_type: str) -> AnyNodeClass:
        """The class of a type; ``KeyError`` ("Unknown node type: …") if there is none."""
        _ = node_type in self
        return super().get(node_type)

    def list_types(self) -> list[str]:
        """The registered type names, sorted."""
        self.plugins()
        return super().list_types()

    def copy(self) -> NodeRegistry:
        """A registry with the same types that can be added to without changing this one."""
        self.plugins()
        return super().copy()

    def __contains__(self, node_type: object) -> bool:
        if super().__contains__(node_type):
            return True
        self.plugins()
        return super().__contains__(node_type)


def _load(point: metadata.EntryPoint, registry: NodeRegistry) -> Plugin:
    name = point.dist.name if point.dist is not None else ""
    version = point.dist.version if point.dist is not None else ""
    cls: Any = None
    try:
        cls = point.load()
        _check(cls)
        registry.register(cls)
    except (Exception, SystemExit) as error:
        logger.debug("plugin %s (%s %s) cannot be used", point.name, name, version, exc_info=True)
        why = f"{type(error).__name__}: {error}"
        # A class that cannot be imported has no type: entry points are named after theirs.
        node_type = getattr(cls, "node_type", None)
        wanted = node_type if isinstance(node_type, str) else point.name
        if wanted not in registry:
            registry.broken[wanted] = f"{why} (entry point {point.name!r} of {name} {version})"
        return Plugin(point.name, name, version, why)
    return Plugin(point.name, name, version)


def _check(cls: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a plugin's class can be registered, described and called."""
    if not (isinstance(cls, type) and issubclass(cls, BaseNode | BaseNodeV2)):
        raise TypeError(f"{cls!r} is no node class: it must derive from BaseNodeV2 or BaseNode")
    if inspect.isabstract(cls):
        raise TypeError(f"{cls.__name__} is abstract: it does not define {', '.join(sorted(cls.__abstractmethods__))}")
    node_type = getattr(cls, "node_type", None)
    if not isinstance(node_type, str) or not _TYPE.fullmatch(node_type):
        raise ValueError(
            f"{cls.__name__}.node_type is {node_type!r}: it must be text of letters, digits, '_', '.', '-', at most 128"
        )
    _check_models(cls)
    _check_signature(cls)
    _check_description(cls, node_type)


def _check_models(cls: type) -> None:
    is_v2 = issubclass(cls, BaseNodeV2)
    for name in ("Config", "Output") if is_v2 else ("config_model", "response_model"):
        model = getattr(cls, name, None)
        if model is None and not (is_v2 and name == "Config"):
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{cls.__name__}.{name} must be a pydantic model, not {model!r}")


def _check_signature(cls: type) -> None:
    name = "run" if issubclass(cls, BaseNodeV2) else "execute"
    given = ["config", "ctx", "node_context"][: 3 if getattr(cls, "wants_node_context", False) else 2]
    try:
        inspect.signature(getattr(cls, name)).bind(cls, *given)
    except TypeError:
        raise TypeError(
            f"{cls.__name__}.{name} is called with (self, {', '.join(given)}), which its signature does not allow"
        ) from None


def _check_description(cls: AnyNodeClass, node_type: str) -> None:
    from pyflow.nodes.catalogue import describe_type  # noqa: PLC0415 - a run without plugins describes nothing

    alone = NodeRegistry()
    alone.register(cls)
    try:
        json.dumps(describe_type(alone, node_type))
    except Exception as error:  # noqa: BLE001 - pydantic's and the class's own
        raise ValueError(f"its config, output or example cannot be described as JSON: {error}") from None
