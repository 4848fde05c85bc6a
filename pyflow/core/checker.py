"""Finds everything that is wrong with a workflow before anything runs.

v1 files: unknown dependencies and cycles, as ever. Version 2: also unknown keys and types, bad configs, templates and
expressions that do not compile, and references to what is not upstream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from pyflow.core.document import Document, Path, make_pointer
from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.graph import Graph
from pyflow.core.inputs import check_schema
from pyflow.core.models import NodeDef, OnError, RunIf, WorkflowDef
from pyflow.core.node import AnyNodeClass, NodeRegistry
from pyflow.core.safe_eval import UnsafeExpressionError, compile_expression
from pyflow.core.suspension import SuspendingNode
from pyflow.core.template import TemplateError, compile_template, is_template

MAX_NODES = 10_000
#: Names of version 2's scope that a node id may not take.
RESERVED_NAMES = frozenset(
    {
        "input",
        "trigger",
        "run",
        "secrets",
        "vars",
        "nodes",
        "item",
        "item_index",
        "item_key",
        "output",
        "true",
        "false",
        "null",
    }
)
_CONSTANTS = frozenset({"true", "false", "null", "none", "True", "False", "None"})
_TEMPLATE_GLOBALS = frozenset({"range", "dict"})
_SCOPE = frozenset({"input", "trigger", "run", "secrets", "vars", "nodes"}) | _CONSTANTS
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
SECTIONS = ("nodes", "on_failure", "finally")


def check_workflow(workflow: WorkflowDef, registry: NodeRegistry) -> list[Problem]:
    """Everything that is wrong with ``workflow``, in the order of the document; with positions if it has a source."""
    problems = [*_check_size(workflow), *check_graph(workflow.version, _raw_sections(workflow))]
    if workflow.version != 1:
        problems += _check_keys(workflow)
        problems += _check_names(workflow)
        problems += _check_nodes(workflow, registry)
        problems += _check_outputs(workflow)
        problems += _check_inputs(workflow)
    return locate(problems, workflow._document)


def locate(problems: Iterable[Problem], document: Document | None) -> list[Problem]:
    """The problems in document order, each once, with the line and column that its pointer has in ``document``."""
    unique = list(dict.fromkeys(problems))
    if document is None:
        return unique
    placed = []
    for problem in unique:
        if problem.line is None:
            line, column = document.position(problem.pointer)
            problem = replace(problem, line=line, column=column)
        placed.append(problem)
    return sorted(placed, key=lambda problem: (problem.line or 0, problem.column or 0))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The nearest of ``known``, if one is near enough to be a slip of the pen."""
    matches = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _check_size(workflow: WorkflowDef) -> Iterator[Problem]:
    count = sum(1 for _ in workflow.all_nodes())
    if workflow.version != 1 and count > MAX_NODES:
        yield Problem(
            "too_many_nodes", f"the workflow has {count:,} nodes; at most {MAX_NODES:,} are allowed", "/nodes"
        )


# --- the graph ---------------------------------------------------------------------------------------------------

_RawNode = tuple[Path, str, list[Any]]


def _raw_sections(workflow: WorkflowDef) -> list[list[_RawNode]]:
    sections = zip(SECTIONS, (workflow.nodes, workflow.on_failure, workflow.finally_), strict=True)
    return [[((name, i), node.id, list(node.depends_on)) for i, node in enumerate(nodes)] for name, nodes in sections]


def check_graph(version: int, sections: list[list[_RawNode]]) -> list[Problem]:
    """Unknown dependencies and cycles of each section, from ``(path, id, depends_on)`` of its nodes."""
    problems: list[Problem] = []
    for nodes in sections:
        index = {node_id: i for i, (_, node_id, _) in enumerate(nodes)}
        edges: list[list[int]] = []
        for path, node_id, depends_on in nodes:
            known: list[int] = []
            for at, dependency in enumerate(depends_on):
                if isinstance(dependency, str) and dependency in index:
                    known.append(index[dependency])
                    continue
                near = suggest(str(dependency), index) if version != 1 else None
                message = f"Node {node_id!r} depends on {dependency!r}, which does not exist"
                problems.append(
                    Problem("unknown_dependency", message, make_pointer((*path, "depends_on", at)), suggestion=near)
                )
            edges.append(known)
        loop = Graph(edges).cycle()
        if loop:
            names = " -> ".join(nodes[i][1] for i in loop)
            problems.append(Problem("cycle", f"Cycle detected: {names}", make_pointer(nodes[loop[0]][0])))
    return problems


# --- version 2 ---------------------------------------------------------------------------------------------------


def unknown_keys(model: type[BaseModel], extra: Iterable[str], path: Path) -> Iterator[Problem]:
    """A problem for each key that ``model`` does not know."""
    known = {field.alias or name for name, field in model.model_fields.items()}
    for key in extra:
        pointer = make_pointer((*path, key))
        yield Problem("unknown_key", f"unknown key {key!r}", pointer, suggestion=suggest(key, known))


def _check_keys(workflow: WorkflowDef) -> Iterator[Problem]:
    def of(model: BaseModel, path: Path) -> Iterator[Problem]:
        return unknown_keys(type(model), model.model_extra or (), path)

    yield from of(workflow, ())
    yield from of(workflow.settings, ("settings",))
    for i, trigger in enumerate(workflow.triggers):
        yield from of(trigger, ("triggers", i))
    if workflow.trigger is not None:
        yield from of(workflow.trigger, ("trigger",))
    for path, node in _located_nodes(workflow):
        yield from of(node, path)
        for key in ("retry", "cache", "concurrency", "compensate"):
            part = getattr(node, key)
            if part is not None:
                yield from of(part, (*path, key))
        if node.compensate is not None and node.compensate.retry is not None:
            yield from of(node.compensate.retry, (*path, "compensate", "retry"))


def _located_nodes(workflow: WorkflowDef) -> Iterator[tuple[Path, NodeDef]]:
    for name, nodes in zip(SECTIONS, (workflow.nodes, workflow.on_failure, workflow.finally_), strict=True):
        for i, node in enumerate(nodes):
            yield (name, i), node


def _check_names(workflow: WorkflowDef) -> Iterator[Problem]:
    if not _NAME.fullmatch(workflow.name):
        yield Problem("bad_name", f"{workflow.name!r} is no name: letters, digits, '.', '_', '-', at most 128", "/name")
    for path, node in _located_nodes(workflow):
        if not _ID.fullmatch(node.id):
            yield Problem(
                "bad_node_id",
                f"{node.id!r} is no node id: a letter or '_', then letters, digits, '_', '-', at most 128",
                make_pointer((*path, "id")),
            )
        elif node.id in RESERVED_NAMES:
            yield Problem(
                "reserved_node_id", f"the node id {node.id!r} is a reserved name", make_pointer((*path, "id"))
            )


class _Names(Protocol):
    """A set of names that may be computed."""

    def __contains__(self, name: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the templates of one place may use: ``visible`` ids, and ``extra`` names such as ``item``."""

    who: str
    visible: _Names
    everything: _Names
    extra: frozenset[str] = frozenset()


_ITEM_NAMES = frozenset({"item", "item_index", "item_key"})


def _check_nodes(workflow: WorkflowDef, registry: NodeRegistry) -> Iterator[Problem]:
    upstream = _upstream_ids(workflow)
    everything = {node.id for node in workflow.all_nodes()}
    for path, node in _located_nodes(workflow):
        scope = _Scope(f"node {node.id!r}", upstream[node.id], everything)
        inner = replace(scope, extra=_ITEM_NAMES) if node.for_each is not None else scope
        yield from _check_policy(node, path)
        yield from _check_type(node.type, node.config, path, registry)
        if node.when is not None:
            yield from _check_expression(node.when, (*path, "when"), scope)
        for key in getattr(registry.get(node.type), "expressions", ()) if node.type in registry else ():
            source = node.config.get(key)
            if isinstance(source, str) and not is_template(source):
                yield from _check_expression(source, (*path, "config", key), inner)
        yield from _check_templates(node.for_each, (*path, "for_each"), scope)
        yield from _check_templates(node.config, (*path, "config"), inner)
        yield from _check_templates(node.item_key, (*path, "item_key"), inner)
        for key in ("cache", "concurrency"):
            part = getattr(node, key)
            yield from _check_templates(None if part is None else part.key, (*path, key, "key"), inner)
        if node.for_each is not None:
            yield from _check_fan_out(node, path, registry)
        if node.compensate is not None:
            undo, at = node.compensate, (*path, "compensate")
            yield from _check_type(undo.type, undo.config, at, registry)
            seen = _Scope(f"the compensation of {node.id!r}", everything, everything, inner.extra | {"output"})
            yield from _check_templates(undo.config, (*at, "config"), seen)


def _check_type(node_type: str, config: dict[str, Any], path: Path, registry: NodeRegistry) -> Iterator[Problem]:
    if node_type in registry:
        yield from _check_config(registry.get(node_type), config, (*path, "config"))
        return
    near = suggest(node_type, registry.list_types())
    message = f"Unknown node type: {node_type}"
    yield Problem("unknown_node_type", message, make_pointer((*path, "type")), suggestion=near)


def _check_fan_out(node: NodeDef, path: Path, registry: NodeRegistry) -> Iterator[Problem]:
    if isinstance(node.for_each, str) and not is_template(node.for_each):
        message = "`for_each` is a list, a mapping, or a template that gives one"
        yield Problem("bad_items", message, make_pointer((*path, "for_each")))
    if node.type in registry and issubclass(registry.get(node.type), SuspendingNode):
        message = f"a `{node.type}` node cannot be fanned out; put it into a workflow and fan out `workflow` nodes"
        yield Problem("bad_fan_out", message, make_pointer((*path, "for_each")))


class _Upstream:
    """The ids whose results a node may use: a set as bits, because 10,000 nodes in a chain have 50 million of them."""

    __slots__ = ("_bits", "_earlier", "_index")

    def __init__(self, bits: int, index: dict[str, int], earlier: frozenset[str]) -> None:
        self._bits = bits
        self._index = index
        self._earlier = earlier

    def __contains__(self, name: object) -> bool:
        at = self._index.get(str(name))
        return name in self._earlier or (at is not None and bool(self._bits >> at & 1))

    def __iter__(self) -> Iterator[str]:
        yield from self._earlier
        yield from (name for name, at in self._index.items() if self._bits >> at & 1)


def _upstream_ids(workflow: WorkflowDef) -> dict[str, _Upstream]:
    visible: dict[str, _Upstream] = {}
    earlier: frozenset[str] = frozenset()
    for nodes in (workflow.nodes, workflow.on_failure, workflow.finally_):
        index = {node.id: i for i, node in enumerate(nodes)}
        graph = Graph([[index[d] for d in node.depends_on if d in index] for node in nodes])
        reach = [0] * graph.size
        for i in graph.order():
            for dependency in graph.dependencies[i]:
                reach[i] |= reach[dependency] | (1 << dependency)
        for i, node in enumerate(nodes):
            visible[node.id] = _Upstream(reach[i], index, earlier)
        earlier |= index.keys()
    return visible


def _check_policy(node: NodeDef, path: Path) -> Iterator[Problem]:
    if node.on_error is OnError.RETRY:
        message = "version 2 retries wherever `retry` is given; say `on_error: skip` for what follows the last attempt"
        yield Problem("on_error_retry", message, make_pointer((*path, "on_error")))
    if node.retry is not None and node.retry.max_attempts is not None and node.retry.max_retries is not None:
        message = "`max_attempts` counts attempts, v1's `max_retries` retries: give one of them"
        yield Problem("retry_ambiguous", message, make_pointer((*path, "retry", "max_retries")))
    if node.run_if in (RunIf.ANY_FAILED, RunIf.ANY_SUCCEEDED) and not node.depends_on:
        message = f"`run_if: {node.run_if}` needs `depends_on`"
        yield Problem("run_if_without_dependencies", message, make_pointer((*path, "run_if")))


def _check_config(cls: AnyNodeClass, config: dict[str, Any], path: Path) -> Iterator[Problem]:
    model = getattr(cls, "Config", None) or getattr(cls, "config_model", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return  # v1 classes may use these names for something else
    known = {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)
    if model.model_config.get("extra") != "allow":
        for key in config:
            if key not in known:
                near = suggest(key, known)
                yield Problem("unknown_key", f"unknown key {key!r}", make_pointer((*path, key)), suggestion=near)
    try:
        model.model_validate(config)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            at = _existing(config, detail["loc"])
            missing = detail["type"] == "missing"
            if detail["type"] == "extra_forbidden" or (not missing and _holds_template(config, at)):
                continue
            message = detail["msg"]
            if missing:
                message = f"{detail['loc'][-1]!r} is required"
            yield Problem("bad_config", message, make_pointer((*path, *at)))


def _existing(value: Any, loc: tuple[int | str, ...]) -> Path:
    """The part of a pydantic location that is in the document (unions add steps of their own)."""
    path: list[str | int] = []
    for step in loc:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]  # type: ignore[index]
            path.append(step)
    return tuple(path)


def _holds_template(value: Any, path: Path) -> bool:
    for step in path:
        value = value[step]
    return any(True for _ in _template_strings(value, ()))


def _template_strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if is_template(value):
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _template_strings(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _template_strings(item, (*path, i))


def _check_expression(source: str, path: Path, scope: _Scope) -> Iterator[Problem]:
    try:
        names = compile_expression(source).names
    except UnsafeExpressionError as error:
        yield Problem(error.code, str(error), make_pointer(path))
        return
    yield from _check_references(names, path, scope)


def _check_templates(value: Any, path: Path, scope: _Scope) -> Iterator[Problem]:
    for at, text in _template_strings(value, path):
        try:
            names = compile_template(text, typed=True).names
        except TemplateError as error:
            yield Problem(error.code, str(error), make_pointer(at))
            continue
        yield from _check_references(names - _TEMPLATE_GLOBALS, at, scope)


def _check_references(names: Iterable[str], path: Path, scope: _Scope) -> Iterator[Problem]:
    for name in sorted(names):
        if name in scope.visible or name in _SCOPE or name in scope.extra:
            continue
        if name in scope.everything:
            message = f"{scope.who} uses {name!r}, which is not upstream of it; add it to `depends_on`"
            yield Problem("not_upstream", message, make_pointer(path))
            continue
        known = {*scope.visible, *scope.extra, *(_SCOPE - _CONSTANTS)}
        message = f"{scope.who} uses {name!r}, which does not exist"
        yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(name, known))


def _check_inputs(workflow: WorkflowDef) -> Iterator[Problem]:
    try:
        if workflow.inputs is not None:
            check_schema(workflow.inputs)
    except DefinitionError as error:
        yield from error.problems


def _check_outputs(workflow: WorkflowDef) -> Iterator[Problem]:
    ids = frozenset(node.id for node in workflow.nodes)
    yield from _check_templates(workflow.outputs, ("outputs",), _Scope("`outputs`", ids, ids))
    slots = workflow.settings.concurrency
    if slots is not None:
        nothing: frozenset[str] = frozenset()
        scope = _Scope("`settings.concurrency`", nothing, ids)
        yield from _check_templates(slots.key, ("settings", "concurrency", "key"), scope)
