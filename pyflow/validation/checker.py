"""Finds everything that is wrong with a workflow before anything runs.

v1 files: unknown dependencies and cycles, as ever. Version 2: also unknown keys and types, bad configs, templates and
expressions that do not compile, and references to what is not upstream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from pydantic import BaseModel

from pyflow.core.document import Path, make_pointer
from pyflow.core.error_kinds import never_match
from pyflow.core.errors import Problem
from pyflow.core.node import NodeRegistry
from pyflow.core.problems import locate, suggest
from pyflow.core.suspension import SuspendingNode
from pyflow.core.traits import traits_of
from pyflow.core.wording import foreign_key
from pyflow.documents.graph import Graph
from pyflow.documents.models import OWN_PREFIX, CompensateDef, MatrixDef, NodeDef, OnError, RetryDef, RunIf, WorkflowDef
from pyflow.documents.node_keys import refusals
from pyflow.expressions.template import count_words, is_reference, is_template, template_strings
from pyflow.validation.config_check import check_config
from pyflow.validation.fan_out_check import check_items, members_of_item
from pyflow.validation.field_check import check_computed
from pyflow.validation.inputs import check_inputs, only_inputs
from pyflow.validation.lint.references import expressions as expressions_of
from pyflow.validation.lint.references import references
from pyflow.validation.triggers import check_triggers
from pyflow.validation.visibility import (
    ITEM_NAMES,
    RESERVED_NAMES,
    ROUND_NAMES,
    Sight,
    check_retry_condition,
    upstream_ids,
)

__all__ = [
    "MAX_EXPRESSIONS",
    "MAX_NODES",
    "MAX_PROBLEMS",
    "MAX_TEMPLATES",
    "MAX_TEMPLATE_WORDS",
    "RESERVED_NAMES",
    "SECTIONS",
    "check_count",
    "check_graph",
    "check_workflow",
    "locate",
    "suggest",
    "unknown_keys",
]

MAX_NODES = 10_000
#: Nobody reads more of them, and looking for them takes time.
MAX_PROBLEMS = 200
#: Different templates of one workflow that are more than a reference such as ``{{ a.b }}``: compiling one takes half a
#: millisecond.
MAX_TEMPLATES = 2_000
#: Words and signs in the tags of all different templates together: compiling 60,000 takes a second or two.
MAX_TEMPLATE_WORDS = 60_000
#: Different expressions of one workflow.
MAX_EXPRESSIONS = 4_000
#: Of a cycle, nodes that are named.
_SHOWN = 20
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
SECTIONS = ("nodes", "on_failure", "finally")


def check_workflow(workflow: WorkflowDef, registry: NodeRegistry, *, triggers: bool = True) -> list[Problem]:
    """Everything that is wrong with ``workflow``, in the order of the document; with positions if it has a source.

    At most ``MAX_PROBLEMS``, and then one that says so. ``triggers``: whether theirs count, which no run needs.
    """
    found = check_graph(workflow.version, _raw_sections(workflow))
    if workflow.version != 1:
        too_large = list(_check_size(workflow))
        if too_large:
            return locate(too_large, workflow._document)
        found = chain(
            found,
            _check_keys(workflow),
            _check_names(workflow),
            _check_nodes(workflow, registry),
            check_triggers(workflow) if triggers else (),
            _check_outputs(workflow),
            _check_input_fields(workflow),
            check_inputs(workflow),
        )
    problems = list(islice(found, MAX_PROBLEMS))
    if next(found, None) is not None:
        problems.append(Problem("too_many_problems", f"more than {MAX_PROBLEMS} problems; the others are not listed"))
    return locate(problems, workflow._document)


def _check_size(workflow: WorkflowDef) -> Iterator[Problem]:
    """Return problems of a workflow that is too large to be checked further."""
    yield from check_count(sum(1 for _ in workflow.all_nodes()))
    definition = workflow.model_dump(by_alias=True, exclude_none=True)
    templates = {text for _, text in template_strings(definition) if not is_reference(text)}
    if len(templates) > MAX_TEMPLATES:
        message = f"the workflow has {len(templates):,} different templates; at most {MAX_TEMPLATES:,} are allowed"
        yield Problem("too_many_templates", f"{message} besides references such as {{{{ a.b }}}}", "/nodes")
    words = sum(map(count_words, templates))
    if words > MAX_TEMPLATE_WORDS:
        message = (
            f"the templates of the workflow have {words:,} words and signs in their tags; at most"
            f" {MAX_TEMPLATE_WORDS:,} are allowed: data belongs into `vars` or the input"
        )
        yield Problem("too_many_templates", message, "/nodes")
    expressions = {text for _, text in expressions_of(definition)}
    if len(expressions) > MAX_EXPRESSIONS:
        message = (
            f"the workflow has {len(expressions):,} different expressions; at most {MAX_EXPRESSIONS:,} are allowed"
        )
        yield Problem("too_many_expressions", message, "/nodes")


def check_count(nodes: int) -> Iterator[Problem]:
    """Check that a workflow may have so many nodes."""
    if nodes > MAX_NODES:
        message = f"the workflow has {nodes:,} nodes; at most {MAX_NODES:,} are allowed"
        yield Problem("too_many_nodes", message, "/nodes")


# --- the graph ---------------------------------------------------------------------------------------------------

_RawNode = tuple[Path, str, list[Any]]


def _raw_sections(workflow: WorkflowDef) -> list[list[_RawNode]]:
    sections = zip(SECTIONS, (workflow.nodes, workflow.on_failure, workflow.finally_), strict=True)
    return [[((name, i), node.id, list(node.depends_on)) for i, node in enumerate(nodes)] for name, nodes in sections]


def check_graph(version: int, sections: list[list[_RawNode]]) -> Iterator[Problem]:
    """Unknown dependencies and cycles of each section, from ``(path, id, depends_on)`` of its nodes."""
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
                pointer = make_pointer((*path, "depends_on", at))
                yield Problem("unknown_dependency", message, pointer, suggestion=near)
            edges.append(known)
        loop = Graph(edges).cycle()
        if loop:
            names = [nodes[i][1] for i in loop]
            if len(names) > _SHOWN:
                names[_SHOWN:-1] = ["..."]
            yield Problem("cycle", f"Cycle detected: {' -> '.join(names)}", make_pointer(nodes[loop[0]][0]))


# --- version 2 ---------------------------------------------------------------------------------------------------


def unknown_keys(model: type[BaseModel], extra: Iterable[str], path: Path) -> Iterator[Problem]:
    """A problem for each key that ``model`` does not know, but for those of the author: ``x-…``."""
    known = {field.alias or name for name, field in model.model_fields.items()}
    for key in extra:
        if str(key).startswith(OWN_PREFIX):
            continue
        pointer = make_pointer((*path, key))
        yield Problem(
            "unknown_key", f"unknown key {key!r}", pointer, suggestion=foreign_key(key, known) or suggest(key, known)
        )


def _check_keys(workflow: WorkflowDef) -> Iterator[Problem]:
    def of(model: BaseModel, path: Path) -> Iterator[Problem]:
        return unknown_keys(type(model), model.model_extra or (), path)

    yield from of(workflow, ())
    yield from of(workflow.settings, ("settings",))
    if workflow.settings.concurrency is not None:
        yield from of(workflow.settings.concurrency, ("settings", "concurrency"))
    for i, trigger in enumerate(workflow.triggers):
        yield from of(trigger, ("triggers", i))
    if workflow.trigger is not None:
        yield from of(workflow.trigger, ("trigger",))
    for path, node in _located_nodes(workflow):
        yield from of(node, path)
        for key in ("retry", "cache", "concurrency", "compensate", "until"):
            part = getattr(node, key)
            if part is not None:
                yield from of(part, (*path, key))
        if isinstance(node.for_each, MatrixDef):
            yield from of(node.for_each, (*path, "for_each"))
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


def _check_nodes(workflow: WorkflowDef, registry: NodeRegistry) -> Iterator[Problem]:
    upstream = upstream_ids(workflow)
    everything = {node.id for node in workflow.all_nodes()}
    graph = frozenset(node.id for node in workflow.nodes)
    for path, node in _located_nodes(workflow):
        sight = Sight(f"node {node.id!r}", upstream[node.id], everything, workflow.vars)
        items = ITEM_NAMES if node.for_each is not None else frozenset()
        members = members_of_item(node.for_each)
        inner = replace(sight.with_names(items), members=members)
        yield from _check_policy(node, path, registry)
        yield from _check_node(node, path, registry, sight, inner)
        if node.compensate is not None:
            why = "does not run before compensations do"
            undoing = Sight(f"the compensation of {node.id!r}", graph, everything, workflow.vars, items, why, members)
            yield from _check_compensation(node.compensate, (*path, "compensate"), registry, undoing)


def _check_node(node: NodeDef, path: Path, registry: NodeRegistry, outer: Sight, inner: Sight) -> Iterator[Problem]:
    """``outer`` is what the node sees as a whole, ``inner`` what each of its items does."""
    if node.when is not None:
        yield from outer.check_expression(node.when, (*path, "when"))
    for at, _ in template_strings(node.default_output, (*path, "default_output")):
        message = "`default_output` is a plain value: templates are not rendered in it"
        yield Problem("not_rendered", message, make_pointer(at))
    yield from check_items(node, path, outer, inner)
    yield from _check_type(node.type, node.config, path, registry, inner)
    yield from inner.check_templates(node.item_key, (*path, "item_key"))
    for key in ("cache", "concurrency"):
        part = getattr(node, key)
        yield from inner.check_templates(None if part is None else part.key, (*path, key, "key"))
    if node.until is not None:
        yield from inner.with_names(ROUND_NAMES).check_expression(node.until.when, (*path, "until", "when"))
    cls = registry.get(node.type) if node.type in registry else None
    for key, message in refusals(node, cls, str(path[0])):
        yield Problem("key_without_effect", message, make_pointer((*path, key)))


def _check_compensation(undo: CompensateDef, path: Path, registry: NodeRegistry, sight: Sight) -> Iterator[Problem]:
    yield from _check_retry(undo.retry, undo.type, path, registry)
    yield from _check_type(undo.type, undo.config, path, registry, sight.with_names(frozenset({"output"})))
    if undo.type in registry and issubclass(registry.get(undo.type), SuspendingNode):
        message = f"a `{undo.type}` node cannot undo anything: nothing waits once a run is being undone"
        yield Problem("bad_compensation", message, make_pointer((*path, "type")))


def _check_type(
    node_type: str, config: dict[str, Any], path: Path, registry: NodeRegistry, sight: Sight
) -> Iterator[Problem]:
    cls = registry.get(node_type) if node_type in registry else None
    if cls is not None and traits_of(cls).computes_config:
        yield from check_computed(config, (*path, "config"), sight, reads_own=path[-1] != "compensate")
        return
    yield from sight.check_templates(config, (*path, "config"))
    if cls is None:
        near = None if node_type in registry.broken else suggest(node_type, registry.list_types())
        message = registry.why_unknown(node_type)
        yield Problem("unknown_node_type", message, make_pointer((*path, "type")), suggestion=near)
        return
    yield from check_config(cls, config, (*path, "config"))
    for key in getattr(cls, "expressions", ()):
        source = config.get(key)
        if isinstance(source, str) and not is_template(source):
            yield from sight.check_expression(source, (*path, "config", key))


def _check_policy(node: NodeDef, path: Path, registry: NodeRegistry) -> Iterator[Problem]:
    if node.on_error is OnError.RETRY:
        message = "version 2 retries wherever `retry` is given; say `on_error: skip` for what follows the last attempt"
        yield Problem("on_error_retry", message, make_pointer((*path, "on_error")))
    yield from _check_retry(node.retry, node.type, path, registry)
    if node.run_if in (RunIf.ANY_FAILED, RunIf.ANY_SUCCEEDED) and not node.depends_on:
        message = f"`run_if: {node.run_if}` needs `depends_on`"
        yield Problem("run_if_without_dependencies", message, make_pointer((*path, "run_if")))


def _check_retry(retry: RetryDef | None, node_type: str, path: Path, registry: NodeRegistry) -> Iterator[Problem]:
    if retry is None:
        return
    # The names of a plugin's errors are unknown here; so are those of the errors that a `fail` node raises.
    builtin = node_type in registry and registry.get(node_type).__module__.startswith("pyflow.nodes.")
    for key in ("retry_on", "non_retryable"):
        for at, message, near in never_match(getattr(retry, key) or (), own=not builtin or node_type == "fail"):
            yield Problem("unknown_error_kind", message, make_pointer((*path, "retry", key, at)), suggestion=near)
    if retry.when is not None:
        yield from check_retry_condition(retry.when, (*path, "retry", "when"))
    if retry.max_attempts is not None and retry.max_retries is not None:
        message = "`max_attempts` counts attempts, v1's `max_retries` retries: give one of them"
        yield Problem("retry_ambiguous", message, make_pointer((*path, "retry", "max_retries")))


def _check_input_fields(workflow: WorkflowDef) -> Iterator[Problem]:
    """References to fields of the input that no run can have, because ``inputs`` refuses all but its own."""
    declared = only_inputs(workflow.inputs or {})
    if declared is None:
        return
    for path, (name, member) in references(workflow):
        if name == "input" and member is not None and member not in declared:
            message = f"`inputs` declares no {member!r}, and refuses what it does not declare"
            yield Problem("unknown_name", message, make_pointer(path), suggestion=suggest(member, declared))


def _check_outputs(workflow: WorkflowDef) -> Iterator[Problem]:
    everything = {node.id for node in workflow.all_nodes()}
    graph = frozenset(node.id for node in workflow.nodes)
    sight = Sight("`outputs`", graph, everything, workflow.vars, why_not="is not one of `nodes`")
    yield from sight.check_templates(workflow.outputs, ("outputs",))
    slots = workflow.settings.concurrency
    if slots is not None:
        nothing: frozenset[str] = frozenset()
        before = Sight("`settings.concurrency`", nothing, everything, workflow.vars, why_not="has not run by then")
        yield from before.check_templates(slots.key, ("settings", "concurrency", "key"))
