"""Describes the node types of a registry as data: for ``pyflow nodes``, editors and the API."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from pyflow.core.node import AnyNodeClass, BaseNode, NodeRegistry


def describe(registry: NodeRegistry) -> list[dict[str, Any]]:
    """All types, sorted by name; see ``describe_type``."""
    return [describe_type(registry, node_type) for node_type in registry.list_types()]


def describe_type(registry: NodeRegistry, node_type: str) -> dict[str, Any]:
    """One type: ``{type, display_name, category, description, version, config, output, example}``.

    ``config`` and ``output`` are JSON Schemas (2020-12); a class without models accepts and gives anything. Raises
    ``UnknownNodeTypeError`` (a ``KeyError``).
    """
    cls = registry.get(node_type)
    return {
        "type": node_type,
        "display_name": _text(cls, "display_name") or node_type.replace("_", " ").capitalize(),
        "category": _text(cls, "category") or "general",
        "description": _text(cls, "description") or _summary(cls),
        "version": _text(cls, "version") or "1.0.0",
        "config": _schema(config_model(cls), {"type": "object"}),
        "output": _schema(output_model(cls), {}),
        "example": dict(getattr(cls, "example", None) or {}),
    }


def config_model(cls: AnyNodeClass) -> type[BaseModel] | None:
    """The pydantic model of a class's config, however the class spells it."""
    return _model(cls, "Config", "config_model")


def output_model(cls: AnyNodeClass) -> type[BaseModel] | None:
    """The pydantic model of what a class gives, however the class spells it."""
    return _model(cls, "Output", "response_model")


def _model(cls: AnyNodeClass, *names: str) -> type[BaseModel] | None:
    for name in names:
        found = getattr(cls, name, None)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def _schema(model: type[BaseModel] | None, otherwise: dict[str, Any]) -> dict[str, Any]:
    return dict(otherwise) if model is None else model.model_json_schema(by_alias=True)


def _text(cls: AnyNodeClass, name: str) -> str:
    value = getattr(cls, name, "")
    return value if isinstance(value, str) else ""


def _summary(cls: AnyNodeClass) -> str:
    """The first line of the class's own docstring."""
    inherited = {base.__doc__ for base in cls.__mro__[1:]} | {BaseNode.__doc__}
    if cls.__doc__ is None or cls.__doc__ in inherited:
        return ""
    return inspect.cleandoc(cls.__doc__).partition("\n")[0]
