"""The corpus `yaml_json` as documents: what a case writes out, builds or describes, and what it has to say about it."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from pyflow.core.document import Document
from pyflow.core.errors import PyFlowError
from pyflow.documents.reading import read_json, read_yaml
from tests.support import corpora

#: What a node of a case has besides what the case is about, so that nothing else is wrong with it.
NODE = {"type": "log", "config": {"message": "x"}}
HEAD = {"version": 2, "name": "flow"}


def source(case: corpora.Case) -> str:
    """Return the text that is read: of a case that describes a graph, the workflow with that graph."""
    if corpora.is_text(case):
        return corpora.text(case)
    given = case["input"]
    if not isinstance(given, dict) or given.get("gen") not in _EDGES or given.keys() - {"gen", "nodes", "edges"}:
        return str(corpora.unread(case, f"the input {json.dumps(given)[:200]}"))
    count = given["nodes"]
    before: dict[int, list[int]] = {}
    for start, end in _EDGES[given["gen"]](count, given.get("edges", 0)):
        before.setdefault(end, []).append(start)
    nodes = [{"id": f"n{i}", "depends_on": [f"n{j}" for j in before.get(i, [])]} for i in range(count)]
    return workflow({"nodes": nodes})


def workflow(definition: Any) -> str:
    """Return a definition as a workflow's document, in JSON, which is YAML as well."""
    if isinstance(definition, dict):
        nodes = definition.get("nodes")
        if isinstance(nodes, list):
            nodes = [NODE | node if isinstance(node, dict) else node for node in nodes]
        definition = HEAD | definition | {"nodes": nodes}
    return json.dumps(definition, separators=(",", ":"))


def definition(case: corpora.Case) -> str | None:
    """Return the workflow that a case has inside of its document as a document of its own; `None` if there is none."""
    data = _read(corpora.text(case), case.get("format", ""))
    return workflow(data["definition"]) if isinstance(data, dict) and "definition" in data else None


@cache
def _read(text: str, form: str) -> Any:
    reader = read_json if form == "json" else read_yaml
    try:
        document: Document = reader(text)
    except PyFlowError:
        return None
    return document.data


def _forward(count: int, edges: int) -> list[tuple[int, int]]:
    """So many edges without a cycle: to the next node, then to the one after that, and so on."""
    found = [(i, i + step) for step in range(1, count) for i in range(count - step)] if edges >= count else []
    return found[:edges] or [(i, i + 1) for i in range(min(edges, count - 1))]


_EDGES: dict[str, Callable[[int, int], list[tuple[int, int]]]] = {
    "dag": _forward,
    "chain": lambda count, _: [(i, i + 1) for i in range(count - 1)],
    "cycle": lambda count, _: [(i, (i + 1) % count) for i in range(count)],
}
