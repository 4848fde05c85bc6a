"""A workflow's graph as SVG, laid out here: the drawing is complete, and needs no script and no font of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import graphlay

from pyflow.compare.drawing import COLOURS, INK, Colour, edges
from pyflow.execution.plan import COMPENSATE, MAIN, PLAN_SECTIONS, Plan, PlannedNode
from workflows.errors import GraphTooLargeError

#: What a graph may have to be drawn: the layout of 500 nodes takes 0.7 s, and nobody could read more.
MAX_DRAWN_NODES = 500
MAX_DRAWN_EDGES = 1500

_FEW = 150
_HEIGHT = 46
_CHARACTER = 7.4
"""Pixels that a character of a label takes, about."""
_LONGEST = 30
_MARGIN = 24
_PLAIN = Colour("#ffffff", "#64748b")
_LINE = "#64748b"
_FONT = 'font-family="system-ui, DejaVu Sans, sans-serif" font-size="13"'
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    f'<path d="M0 0 8 4 0 8z" fill="{_LINE}"/></marker></defs>'
)
#: Characters that XML 1.0 cannot hold, whatever they are written as (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(plan: Plan, states: Mapping[str, str] | None = None) -> str:
    """The graph as an SVG document; ``states`` of nodes by their id, of a run, colour them and stand below them.

    Compensations hang on what they undo by a dashed line. Every text of the workflow is escaped. Raises
    ``GraphTooLargeError`` beyond ``MAX_DRAWN_NODES`` or ``MAX_DRAWN_EDGES``.
    """
    drawn, dashed = list(edges(plan)), _undoing(plan)
    if len(plan.nodes) > MAX_DRAWN_NODES or len(drawn) > MAX_DRAWN_EDGES:
        raise GraphTooLargeError(
            f"A drawing has at most {MAX_DRAWN_NODES} nodes and {MAX_DRAWN_EDGES} edges, and this graph has"
            f" {len(plan.nodes)} and {len(drawn)}. Ask for `format=json`."
        )
    texts = [_texts(node, (states or {}).get(node.id)) for node in plan.nodes]
    graph = graphlay.Graph()
    for node, text in zip(plan.nodes, texts, strict=True):
        graph.node(node.index, width=24 + _CHARACTER * max(14, *map(len, text)), height=_HEIGHT)
    for source, target in (*drawn, *dashed):
        graph.edge(source, target)
    effort = "balanced" if len(plan.nodes) <= _FEW else "fast"
    layout = graphlay.layout(graph, options={"direction": "topbottom", "effort": effort})
    low, high = layout.bounds["min"], layout.bounds["max"]
    x, y = low["x"] - _MARGIN, low["y"] - _MARGIN
    width, height = high["x"] - low["x"] + 2 * _MARGIN, high["y"] - low["y"] + 2 * _MARGIN
    name = svg_text(plan.workflow.name)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="{x:.1f} {y:.1f} {width:.1f} {height:.1f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" {size} {_FONT}>',
        f"<title>{name}</title>",
        _ARROW,
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#ffffff"/>',
        *_lines(layout.edges, len(drawn)),
    ]
    for node, text, box in zip(plan.nodes, texts, layout.nodes, strict=True):
        lines += _box(node, text, box, (states or {}).get(node.id))
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _undoing(plan: Plan) -> list[tuple[int, int]]:
    compensations = (plan.nodes[index] for index in plan.sections[COMPENSATE])
    return [(node.compensates, node.index) for node in compensations if node.compensates is not None]


def _texts(node: PlannedNode, state: str | None) -> tuple[str, str]:
    """Draw the texts of a box: the id, and below it the node type."""
    place = [] if node.section == MAIN else [PLAN_SECTIONS[node.section]]
    return _short(node.id), _short(" · ".join([*place, node.type, *([state] if state else [])]))


def _lines(routes: Sequence[Any], solid: int) -> Iterator[str]:
    for number, route in enumerate(routes):
        points = " ".join(f"{point['x']:.1f},{point['y']:.1f}" for point in route["points"])
        dashes = "" if number < solid else ' stroke-dasharray="4 4"'
        yield (
            f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="1.4"{dashes}'
            ' marker-end="url(#arrow)"/>'
        )


def _box(node: PlannedNode, text: tuple[str, str], box: Any, state: str | None) -> Iterator[str]:
    colour = COLOURS.get(state or "", _PLAIN)
    x, y = box["center"]["x"], box["center"]["y"]
    width, height = box["size"]["width"], box["size"]["height"]
    corner = 6 if node.definition.when is None else 20
    conditions = [] if node.definition.when is None else [f"when {node.definition.when}"]
    about = "\n".join([f"{node.id} ({node.type})", *conditions, *([state] if state else [])])
    yield f"<g><title>{svg_text(about)}</title>"
    yield (
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f' rx="{corner}" fill="{colour.fill}" stroke="{colour.stroke}" stroke-width="1.5"/>'
    )
    for line, dy, style in ((text[0], -5, f'fill="{INK}" font-weight="600"'), (text[1], 14, 'fill="#52606d"')):
        yield f'<text x="{x:.1f}" y="{y + dy:.1f}" text-anchor="middle" {style}>{svg_text(line)}</text>'
    yield "</g>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def svg_text(text: str) -> str:
    """A text of the workflow in XML: escaped, without what XML cannot hold."""
    return escape(_NOT_XML.sub("\ufffd", text), {'"': "&quot;"})
