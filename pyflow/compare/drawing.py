"""A workflow's graph as a tree of text, as Mermaid, as Graphviz and as data."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pyflow.documents.graph import Graph
from pyflow.execution.plan import PLAN_SECTIONS, Plan, PlannedNode

#: Deeper nodes are indented no further; their level is printed instead.
MAX_INDENT = 24


class Colour(NamedTuple):
    """Colours of a node in some state; both as ``#rrggbb``."""

    fill: str
    stroke: str


INK = "#1f2933"
#: By the state of the node. What has none, or another, is drawn plainly.
COLOURS = {
    "running": Colour("#dbeafe", "#2563eb"),
    "waiting": Colour("#ede9fe", "#7c3aed"),
    "retrying": Colour("#ffedd5", "#ea580c"),
    "succeeded": Colour("#dcfce7", "#16a34a"),
    "failed": Colour("#fee2e2", "#dc2626"),
    "skipped": Colour("#f1f5f9", "#94a3b8"),
    "cancelled": Colour("#e5e7eb", "#4b5563"),
    "timed_out": Colour("#fee2e2", "#b91c1c"),
}


def tree(plan: Plan) -> Iterator[str]:
    """Each node once, below the first of its dependencies; further ones are named beside it."""
    workflow = plan.workflow
    triggers = ", ".join(trigger.type for trigger in workflow.all_triggers())
    yield f"{workflow.name} [{triggers}] ({len(plan.nodes)} nodes)"
    for name, section in zip(PLAN_SECTIONS, plan.sections, strict=True):
        if not section:
            continue
        if name != "nodes":
            yield f"{name}:"
        roots = [index for index in section if not plan.graph.dependencies[index]]
        stack = [(index, 0) for index in reversed(roots)]
        while stack:
            index, depth = stack.pop()
            yield _tree_line(plan, index, depth)
            children = [d for d in plan.graph.dependents[index] if plan.graph.dependencies[d][0] == index]
            stack.extend((child, depth + 1) for child in reversed(children))


def _tree_line(plan: Plan, index: int, depth: int) -> str:
    node = plan.nodes[index]
    indent = "  " * (min(depth, MAX_INDENT) + 1)
    level = f"[level {depth + 1}] " if depth > MAX_INDENT else ""
    others = plan.ids(plan.graph.dependencies[index][1:])
    also = f" (also after {', '.join(others)})" if others else ""
    return f"{indent}{level}{node.id} ({node.type}){_conditions(node)}{also}"


def _conditions(node: PlannedNode) -> str:
    definition = node.definition
    parts = [f"when {definition.when}"] if definition.when is not None else []
    if definition.run_if is not None:
        parts.append(f"run_if {definition.run_if}")
    if definition.until is not None:
        parts.append(f"until {definition.until.when}")
    return f" [{'; '.join(parts)}]" if parts else ""


def mermaid(plan: Plan, states: Mapping[str, str] | None = None) -> Iterator[str]:
    """A Mermaid flowchart; labels are quoted, with HTML and Mermaid's own characters as entities.

    ``states`` of nodes by their id, of a run, colour them.
    """
    yield "flowchart TD"
    yield from _grouped(plan, "  subgraph {name}", "  end", _mermaid_node)
    for source, target in edges(plan):
        yield f"  n{source} --> n{target}"
    found: dict[str, list[str]] = {}
    for node in plan.nodes:
        if states and (state := states.get(node.id)) in COLOURS:
            found.setdefault(state, []).append(f"n{node.index}")
    for state, names in found.items():
        yield f"  classDef {state} fill:{COLOURS[state].fill},stroke:{COLOURS[state].stroke},color:{INK}"
        yield f"  class {','.join(names)} {state}"


def _mermaid_node(node: PlannedNode) -> str:
    label = f"{_mermaid_text(node.id)}<br/>{_mermaid_text(node.type)}"
    shape = f'{{"{label}"}}' if node.definition.when is not None else f'["{label}"]'
    return f"  n{node.index}{shape}"


def _mermaid_text(text: str) -> str:
    # "#" starts an entity and ";" ends one: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters
    entities = {"#": "#35;", ";": "#59;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\n": " "}
    return "".join(entities.get(char, char) for char in text)


def dot(plan: Plan) -> Iterator[str]:
    """A Graphviz digraph; every text is a quoted string."""
    yield f"digraph {_dot_text(plan.workflow.name)} {{"
    yield "  rankdir=TB; node [shape=box, style=rounded];"
    yield from _grouped(plan, "  subgraph cluster_{name} {{ label={name};", "  }", _dot_node)
    for source, target in edges(plan):
        yield f"  n{source} -> n{target};"
    yield "}"


def _dot_node(node: PlannedNode) -> str:
    label = _dot_text(f"{node.id}\n{node.type}")
    tooltip = "" if node.definition.when is None else f", tooltip={_dot_text(html.escape(node.definition.when))}"
    return f"  n{node.index} [label={label}{tooltip}];"


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")
    return f'"{escaped}"'


def _grouped(plan: Plan, opening: str, closing: str, draw: Callable[[PlannedNode], str]) -> Iterator[str]:
    for name, section in zip(PLAN_SECTIONS, plan.sections, strict=True):
        lines = [draw(plan.nodes[index]) for index in section]
        if name == "nodes" or not lines:
            yield from lines
        else:
            yield opening.format(name=name)
            yield from (f"  {line}" for line in lines)
            yield closing


def edges(plan: Plan) -> Iterator[tuple[int, int]]:
    """Every dependency as ``(what is waited for, what waits)``, by index."""
    for target, sources in enumerate(plan.graph.dependencies):
        for source in sources:
            yield source, target


def graph(plan: Plan) -> dict[str, Any]:
    """Nodes, edges, levels and critical path as plain data; levels and path are those of ``nodes``."""
    main = Graph(plan.graph.dependencies[: len(plan.sections[0])])
    return {
        "name": plan.workflow.name,
        "version": plan.version,
        "triggers": [trigger.type for trigger in plan.workflow.all_triggers()],
        "nodes": [_node(node) for node in plan.nodes],
        "edges": [{"from": plan.nodes[s].id, "to": plan.nodes[t].id} for s, t in edges(plan)],
        "levels": [plan.ids(level) for level in main.levels()],
        "critical_path": plan.ids(main.longest_path()),
    }


def _node(node: PlannedNode) -> dict[str, Any]:
    return {
        "id": node.id,
        "type": node.type,
        "section": PLAN_SECTIONS[node.section],
        "depends_on": list(node.definition.depends_on),
        "when": node.definition.when,
        "run_if": str(node.run_if),
        "until": None if node.definition.until is None else node.definition.until.when,
        "description": node.definition.description,
    }
