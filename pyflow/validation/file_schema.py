"""The JSON Schema of workflow files: the format with the configs of its triggers."""

from __future__ import annotations

from typing import Any

from pyflow.documents.models import json_schema
from pyflow.validation.triggers import KINDS


def file_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of workflow files, for editors and for checking before sending.

    In version 2, the config of a trigger is that of its type. Those of nodes are free: their values may be templates,
    and their types come from plugins, too.
    """
    schema = json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    rules: list[dict[str, Any]] = []
    for type, kind in KINDS.items():
        config = kind.model.model_json_schema(by_alias=True)
        definitions |= {**config.pop("$defs", {}), kind.model.__name__: config}
        given = {"properties": {"type": {"const": type}}, "required": ["type"]}
        then: dict[str, Any] = {"properties": {"config": {"$ref": f"#/$defs/{kind.model.__name__}"}}}
        if config.get("required"):
            then["required"] = ["config"]
        rules.append({"if": given, "then": then})
    trigger = {"allOf": rules}
    schema["if"] = {"properties": {"version": {"const": 2}}, "required": ["version"]}
    schema["then"] = {"properties": {"trigger": trigger, "triggers": {"items": trigger}}}
    return schema
