"""Writes the parts of the pages that follow from the code: `python docs/generate.py`, `--check` to only look.

A page holds `<!-- begin: NAME -->` … `<!-- end: NAME -->`; what is between them is made by the function of that name.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from pyflow.cli import app
from pyflow.core import states
from pyflow.documents.node_keys import KEYS, NodeKind, why_refused
from pyflow.nodes import default_registry
from pyflow.nodes.catalogue import describe
from pyflow.nodes.fields import TEMPLATE_PATTERN
from pyflow_site.environment import Environment
from tenants.plans import MEANINGS, PLANS, Plan

PAGES = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- begin: ([\w-]+) -->\n)(.*?)(<!-- end: \2 -->)", re.DOTALL)


def run_states() -> str:
    """The state machine of runs."""
    return _machine(states.RUN_TRANSITIONS, states.TERMINAL_RUN_STATES, "queued")


def node_states() -> str:
    """The state machine of node runs."""
    return _machine(states.NODE_TRANSITIONS, states.TERMINAL_NODE_STATES, "pending")


def _machine(table: Mapping[Any, frozenset[Any]], final: frozenset[Any], first: str) -> str:
    arrows = [f"    [*] --> {first}"]
    arrows += [f"    {state} --> {after}" for state in table for after in _in_order(table, table[state])]
    arrows += [f"    {state} --> [*]" for state in _in_order(table, final)]
    rows = [
        f"| `{state}` | {', '.join(f'`{after}`' for after in _in_order(table, table[state])) or 'nothing'} |"
        f" {'yes' if state in final else ''} |"
        for state in table
    ]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])
    return "\n".join([diagram, "", "| state | may become | is an end |", "| --- | --- | --- |", *rows])


def _in_order(table: Mapping[Any, Any], some: frozenset[StrEnum]) -> list[StrEnum]:
    return [state for state in type(next(iter(table))) if state in some]


def environment() -> str:
    """Every variable of the platform, from the fields of ``Environment`` and their docstrings."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, text in _field_docstrings(Environment):
        field = Environment.model_fields[name]
        variable = field.validation_alias or f"PYFLOW_{name.upper()}"
        # The default home is a folder of the checkout, wherever that is.
        default = "`var` of the checkout" if isinstance(field.default, Path) else _default(field.default)
        rows.append(f"| `{variable}` | {default} | {text.replace('``', '`')} |")
    return "\n".join(rows)


def _field_docstrings(cls: type) -> Iterator[tuple[str, str]]:
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, " ".join(str(text.value.value).split())


def _default(value: object) -> str:
    if value in ("", None):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def commands() -> str:
    """Describe every command by its `--help`."""
    names = [[command.name or ""] for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        within = group.typer_instance.registered_commands
        names += [[group.name or ""], *([group.name or "", command.name or ""] for command in within)]
    return "\n\n".join(f"### pyflow {' '.join(name)}\n\n```text\n{_help(name)}\n```" for name in names)


def _help(name: list[str]) -> str:
    # The widest that fits a page; help is wrapped at the width of the terminal.
    shown = CliRunner().invoke(
        app, [*name, "--help"], prog_name="pyflow", env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    )
    return "\n".join(line.rstrip() for line in shown.output.strip().splitlines())


def node_types() -> str:
    """Every built-in node type with its config and output, from the catalogue."""
    return "\n\n".join(_node_type(entry) for entry in describe(default_registry))


def _node_type(entry: dict[str, Any]) -> str:
    config = entry["config"] or {}
    required = set(config.get("required", ()))
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, schema in config.get("properties", {}).items():
        default = "required" if name in required else f"`{schema['default']!r}`" if "default" in schema else ""
        meaning = " ".join(schema.get("description", "").replace("``", "`").split())
        rows.append(f"| `{name}` | {_type(schema)} | {default} | {meaning} |")
    description = " ".join((entry["description"] or "").replace("``", "`").split())
    if not config.get("properties"):
        rows = [" ".join(config.get("description", "").replace("``", "`").split())]
    return "\n".join([f"## {entry['type']}", "", description, "", *rows])


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    return "template" if schema.get("pattern") == TEMPLATE_PATTERN else str(schema.get("type", "any"))


def node_keys() -> str:
    """Describe which keys work on which kinds of nodes, and why others are refused."""
    rows = [f"| key | {' | '.join(NodeKind)} |", "| --- |" + " --- |" * len(NodeKind)]
    reasons: dict[str, None] = {}
    for key in KEYS:
        cells = []
        for kind in NodeKind:
            reason = why_refused(key, kind)
            if reason is not None:
                reasons.setdefault(reason)
            cells.append("yes" if reason is None else f"no ({list(reasons).index(reason) + 1})")
        rows.append(f"| `{key}` | {' | '.join(cells)} |")
    return "\n".join([*rows, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))])


def plans() -> str:
    """The limit of each quota in each plan."""
    rows = [f"| quota | limits | {' | '.join(f'`{plan}`' for plan in Plan)} |", "| --- | --- |" + " --- |" * len(Plan)]
    for quota, meaning in MEANINGS.items():
        limits = (PLANS[plan][quota] for plan in Plan)
        shown = " | ".join("none" if limit is None else f"{limit:,}" for limit in limits)
        rows.append(f"| `{quota}` | {meaning} | {shown} |")
    return "\n".join(rows)


MAKERS: dict[str, Callable[[], str]] = {
    "run-states": run_states,
    "node-states": node_states,
    "environment": environment,
    "commands": commands,
    "node-types": node_types,
    "node-keys": node_keys,
    "plans": plans,
}


def renewed(text: str) -> str:
    """A page with its blocks as they should be now."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{MAKERS[block[2]]()}\n\n{block[4]}", text)


def main() -> int:
    """Rewrite the pages; with ``--check`` name those that are out of date and return 1."""
    stale = []
    for page in sorted(PAGES.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if renewed(text) != text:
            stale.append(page)
            if "--check" not in sys.argv:
                page.write_text(renewed(text), encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(PAGES)} {'is out of date' if '--check' in sys.argv else 'was renewed'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
