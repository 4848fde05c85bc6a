"""Graphs as SVG: complete, escaped, and refused where they are beyond reading."""

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from pyflow.compare.drawing import COLOURS, mermaid
from pyflow.execution.plan import Plan, compile_plan
from pyflow.nodes import default_registry
from pyflow.validation.loader import parse_workflow
from workflows.errors import GraphTooLargeError
from workflows.graph_drawing import MAX_DRAWN_NODES, svg

SVG = "{http://www.w3.org/2000/svg}"


def plan_of(nodes: list[dict[str, Any]], **more: Any) -> Plan:
    document = {"version": 2, "name": "drawn", "nodes": nodes, **more}
    return compile_plan(parse_workflow(json.dumps(document), "json"), default_registry)


def node(id: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "log", "config": {"message": "x"}, "depends_on": list(depends_on), **more}


def drawn(plan: Plan, states: dict[str, str] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(svg(plan, states))


def test_every_node_and_every_edge_is_drawn():
    picture = drawn(plan_of([node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")]))
    assert [text.text for text in picture.iter(f"{SVG}text")][::2] == ["a", "b", "c", "d"]
    assert len(list(picture.iter(f"{SVG}polyline"))) == 4


def test_a_compensation_hangs_on_its_node_by_a_dashed_line():
    undo = {"type": "log", "config": {"message": "undo"}}
    picture = drawn(plan_of([node("a", compensate=undo)]))
    [line] = picture.iter(f"{SVG}polyline")
    assert line.get("stroke-dasharray")


def test_the_sections_after_the_graph_are_drawn_and_named():
    picture = drawn(plan_of([node("a")], on_failure=[node("page")], **{"finally": [node("tidy")]}))
    assert {"on_failure · log", "finally · log"} <= {text.text for text in picture.iter(f"{SVG}text")}


def test_states_are_colours_and_words():
    picture = drawn(plan_of([node("a"), node("b", "a")]), {"a": "failed", "b": "skipped"})
    boxes = [group.find(f"{SVG}rect") for group in picture.iter(f"{SVG}g")]
    assert [box.get("fill") for box in boxes if box is not None] == [COLOURS["failed"].fill, COLOURS["skipped"].fill]
    assert [text.text for text in picture.iter(f"{SVG}text")][1::2] == ["log · failed", "log · skipped"]


@pytest.mark.parametrize(
    "hostile", ["</text><script>alert(1)</script>", '" onload="alert(1)', "a\bb\x1b", "&lt;", "]]>"]
)
def test_no_text_of_a_workflow_is_markup(hostile: str):
    source = {"name": hostile, "trigger": {"type": "manual"}}
    nodes = [
        {"id": hostile, "type": "transform", "config": {"input": 1, "expression": "$"}, "when": f"'{hostile}' == 1"}
    ]
    plan = compile_plan(parse_workflow(json.dumps(source | {"nodes": nodes}), "json"), default_registry)
    picture = drawn(plan)
    assert {element.tag.removeprefix(SVG) for element in picture.iter()} <= {
        "svg", "title", "defs", "marker", "path", "rect", "polyline", "g", "text",
    }  # fmt: skip
    assert not any(name.startswith("on") for element in picture.iter() for name in element.attrib)


def test_a_graph_that_nobody_could_read_is_refused():
    nodes = [node(f"n{i}") for i in range(MAX_DRAWN_NODES + 1)]
    with pytest.raises(GraphTooLargeError, match="501"):
        svg(plan_of(nodes))


def test_mermaid_colours_what_has_a_state():
    lines = list(mermaid(plan_of([node("a"), node("b", "a")]), {"a": "failed", "b": "pending"}))
    assert "  class n0 failed" in lines
    assert not any("pending" in line for line in lines)
