"""`pyflow nodes`: which node types there are and what they take."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any, Literal

import typer

from pyflow.cli.console import err, fail, out, out_json, table, to_json
from pyflow.nodes import default_registry
from pyflow.nodes.catalogue import describe
from pyflow.nodes.fields import TEMPLATE_PATTERN
from pyflow.validation.checker import suggest


def nodes(
    type: Annotated[str | None, typer.Argument(metavar="TYPE", help="Show one node type in detail.")] = None,
    format: Annotated[Literal["text", "json"], typer.Option("--format", help="Output format.")] = "text",
) -> None:
    """List the node types, or show one with its config, output and an example."""
    for plugin in default_registry.plugins():
        if plugin.error:
            err(f"Broken plugin {plugin.name} ({plugin.distribution} {plugin.version}): {plugin.error}")
    entries = list(describe(default_registry))
    if type is None:
        if format == "json":
            out_json(entries)
        else:
            out("\n".join(table((e["type"], e["category"], _first_line(e["description"])) for e in entries)))
        return
    entry = next((entry for entry in entries if entry["type"] == type), None)
    if entry is None:
        known = [entry["type"] for entry in entries]
        near = suggest(type, known)
        if type in default_registry.broken:
            fail(default_registry.why_unknown(type))
        fail(
            f"Unknown node type: {type}" + (f" (did you mean {near!r}?)" if near else f"; there are {', '.join(known)}")
        )
    if format == "json":
        out_json(entry)
    else:
        out("\n".join(_details(entry)))


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _details(entry: dict[str, Any]) -> list[str]:
    lines = [f"{entry['type']} ({entry['category']}, version {entry['version']})"]
    if entry["description"]:
        lines += [entry["description"].strip()]
    config = entry["config"] or {}
    required = set(config.get("required", ()))
    properties = config.get("properties", {})
    if properties:
        lines += ["", "Config:"]
        for name, schema in properties.items():
            lines += _option(name, schema, required=name in required)
    elif config.get("description"):
        lines += ["", "Config:", *(f"  {line}" for line in _wrapped(config["description"].replace("``", "`")))]
    if entry["output"]:
        lines += ["", "Output (JSON Schema):", *_indented(entry["output"])]
    if entry["example"]:
        lines += ["", "Example:", *_indented(entry["example"])]
    return lines


def _indented(value: Any) -> list[str]:
    return [f"  {line}" for line in to_json(value, indent=2).splitlines()]


def _option(name: str, schema: dict[str, Any], *, required: bool) -> list[str]:
    notes = [_type(schema)]
    if required:
        notes.append("required")
    if "default" in schema:
        notes.append(f"default {to_json(schema['default'])}")
    description = _wrapped(schema.get("description") or "")
    return [f"  {name} ({', '.join(notes)})", *(f"      {line}" for line in description)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if schema.get("pattern") == TEMPLATE_PATTERN:
        return "template"
    if "const" in schema:
        return str(schema["const"])
    return str(schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])
