"""Comparisons of a state with a word that is no state, which are never true; for ``pyflow.validation.lint.rules``."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import Any

import jinja2
from jinja2 import nodes

from pyflow.core.problems import suggest
from pyflow.core.states import NodeState, RunState
from pyflow.documents.models import WorkflowDef
from pyflow.validation.lint.references import Finding, expressions, templates

#: What is looked up, as names: ``run.state`` is ``("run", "state")``.
Looked = tuple[str, ...]
_STATES = frozenset(map(str, RunState))
_NODE_STATES = frozenset(map(str, NodeState))
#: Words of other systems, and of people.
_MEANT = dict.fromkeys(("success", "successful", "done", "completed", "complete", "ok"), "succeeded") | dict.fromkeys(
    ("failure", "error", "errored", "upstream_failed"), "failed"
)
_PARSER = jinja2.Environment(autoescape=False)  # noqa: S701 - parses, never renders


def no_state(workflow: WorkflowDef, callers: Collection[str]) -> Iterator[Finding]:
    """Find comparisons of ``run.state``, ``nodes.x.state`` or the state of a child run with a word that is none.

    ``callers``: the ids of the nodes that start child runs.
    """
    children = {node.id for node in workflow.all_nodes() if node.id in callers and node.for_each is None}
    definition = workflow.model_dump(by_alias=True, exclude_none=True)
    found = [(path, text, _in_expression) for path, text in expressions(definition)]
    found += [(path, text, _in_template) for path, text in templates(definition)]
    for path, text, comparisons in found:
        if "state" not in text:
            continue
        for looked, word in comparisons(text):
            is_node = looked[0] == "nodes" and looked[2:] == ("state",)
            child = (looked[1], *looked[3:]) if looked[0] == "nodes" and looked[2:3] == ("output",) else looked
            is_run = looked == ("run", "state") or (child[1:] == ("state",) and child[0] in children)
            known = _NODE_STATES if is_node else _STATES
            if (is_node or is_run) and word not in known:
                near = _MEANT.get(word.lower()) or suggest(word.lower(), known)
                hint = f" (did you mean {near!r}?)" if near else f": {', '.join(sorted(known))}"
                yield "unknown_state", f"`{'.'.join(looked)}` is never {word!r}, which is no state{hint}", path


def _in_expression(text: str) -> Iterator[tuple[Looked, str]]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for compare in ast.walk(tree):
        if isinstance(compare, ast.Compare):
            sides = [compare.left, *compare.comparators]
            for operator, left, right in zip(compare.ops, sides, sides[1:], strict=False):
                if isinstance(operator, ast.Eq | ast.NotEq):
                    yield from _pairs(_looked_up(left), _words(right))
                    yield from _pairs(_looked_up(right), _words(left))
                elif isinstance(operator, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple | ast.Set):
                    yield from _pairs(_looked_up(left), _words(right))


def _looked_up(node: ast.AST) -> Looked:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=of, attr=name) | ast.Subscript(value=of, slice=ast.Constant(value=str(name))):
            return (*around, name) if (around := _looked_up(of)) else ()
    return ()


def _words(node: ast.AST) -> list[str]:
    parts = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _in_template(text: str) -> Iterator[tuple[Looked, str]]:
    try:
        tree = _PARSER.parse(text)
    except (jinja2.TemplateError, RecursionError):
        return
    for compare in tree.find_all(nodes.Compare):
        sides: list[nodes.Node] = [compare.expr, *(operand.expr for operand in compare.ops)]
        for operand, left, right in zip(compare.ops, sides, sides[1:], strict=False):
            if operand.op in {"eq", "ne"}:
                yield from _pairs(_looked_up_in(left), _words_in(right))
                yield from _pairs(_looked_up_in(right), _words_in(left))
            elif operand.op in {"in", "notin"} and isinstance(right, nodes.List | nodes.Tuple):
                yield from _pairs(_looked_up_in(left), _words_in(right))


def _looked_up_in(node: nodes.Node) -> Looked:
    match node:
        case nodes.Name(name=name):
            return (name,)
        case nodes.Getattr(node=of, attr=name) | nodes.Getitem(node=of, arg=nodes.Const(value=str(name))):
            return (*around, name) if (around := _looked_up_in(of)) else ()
    return ()


def _words_in(node: nodes.Node) -> list[str]:
    parts: list[Any] = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    return [part.value for part in parts if isinstance(part, nodes.Const) and isinstance(part.value, str)]


def _pairs(looked: Looked, words: list[str]) -> Iterator[tuple[Looked, str]]:
    if len(looked) > 1:
        yield from ((looked, word) for word in words)
