"""Warnings about valid workflows: what is probably a mistake, or will hurt one day. Nothing is run for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from pyflow.core import lint_fates
from pyflow.core.checker import SECTIONS, locate
from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.graph import Graph
from pyflow.core.models import NodeDef, RunIf, WorkflowDef
from pyflow.core.node import BaseNodeV2, NodeRegistry
from pyflow.core.safe_eval import UnsafeExpressionError, compile_expression
from pyflow.core.template import TemplateError, compile_template, is_template

__all__ = ["lint_workflow", "secrets_used"]

#: Node types whose only effect is their output.
_PURE = frozenset({"transform", "template", "condition"})
_REMOTE = frozenset({"http", "sql", "llm", "email"})
_ASKING = frozenset({"approval", "signal"})
_REPEATS_HARM = frozenset({"POST", "PATCH"})
_FAN_OUT_KEYS = ("item_key", "max_parallel", "tolerate_failures")
_SECRET = re.compile(r"""\bsecrets(?:\.([A-Za-z_]\w*)|\[\s*(?:'([^']*)'|"([^"]*)")\s*\])""", re.ASCII)
_PARSER = Environment(autoescape=False)  # noqa: S701 - parses, never renders


@dataclass(frozen=True, slots=True)
class _Subject:
    """The workflow with what more than one rule wants to know."""

    workflow: WorkflowDef
    registry: NodeRegistry
    #: Path and definition of every node, ``on_failure`` and ``finally`` included.
    nodes: list[tuple[Path, NodeDef]]
    graph: Graph


def lint_workflow(workflow: WorkflowDef, registry: NodeRegistry) -> list[Problem]:
    """The warnings about a valid workflow in document order, with positions where it has a source.

    v1 workflows get those that are about what v1 knew.
    """
    index = {node.id: i for i, node in enumerate(workflow.nodes)}
    graph = Graph([[index[name] for name in node.depends_on] for node in workflow.nodes])
    sections = zip(SECTIONS, (workflow.nodes, workflow.on_failure, workflow.finally_), strict=True)
    placed: list[tuple[Path, NodeDef]] = [((name, i), node) for name, part in sections for i, node in enumerate(part)]
    subject = _Subject(workflow, registry, placed, graph)
    rules = _RULES if workflow.version == 1 else (*_RULES, *_VERSION_2_RULES)
    return locate((warning for rule in rules for warning in rule(subject)), workflow._document)


def secrets_used(workflow: WorkflowDef) -> list[str]:
    """The names of the secrets that the workflow refers to, sorted; ``*`` for a name that is computed."""
    found: set[str] = set()
    definition = workflow.model_dump(by_alias=True, exclude_none=True)
    for text in _strings(definition):
        if "secrets" in text:
            found.update(next(filter(None, match.groups())) for match in _SECRET.finditer(text) if any(match.groups()))
            if is_template(text) and _computes_secret(text):
                found.add("*")
    return sorted(found)


def _computes_secret(text: str) -> bool:
    try:
        tree = _PARSER.parse(text)
    except TemplateSyntaxError:
        return False
    return any(
        isinstance(item.node, nodes.Name) and item.node.name == "secrets" and not isinstance(item.arg, nodes.Const)
        for item in tree.find_all(nodes.Getitem)
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


# --- rules for every workflow ------------------------------------------------------------------------------------


def _constant_when(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        verdict = lint_fates.constant(node.when)
        if verdict is not None:
            what = "always" if verdict else "never"
            yield _warning("constant_when", f"`when` is constant: {node.id!r} {what} runs", (*path, "when"))


def _redundant_dependency(subject: _Subject) -> Iterator[Problem]:
    """A dependency that another one implies, ends and outcomes alike."""
    workflow, graph = subject.workflow, subject.graph
    implied = [0] * graph.size
    for i in graph.order():
        node = workflow.nodes[i]
        awaits_all = workflow.version == 1 or node.run_if is RunIf.ALL_DONE
        needs_all = workflow.version != 1 and node.run_if in (None, RunIf.ALL_SUCCEEDED)
        for at, j in enumerate(graph.dependencies[i]):
            others = [k for k in graph.dependencies[i] if k != j and implied[k] >> j & 1]
            if others and (awaits_all or needs_all):
                first, second = workflow.nodes[j].id, workflow.nodes[others[0]].id
                message = f"{node.id!r} depends on {second!r}, which depends on {first!r} already"
                yield _warning("redundant_dependency", message, ("nodes", i, "depends_on", at))
        if awaits_all or needs_all:
            for j in graph.dependencies[i]:
                implied[i] |= implied[j] | 1 << j


def _unused_output(subject: _Subject) -> Iterator[Problem]:
    workflow = subject.workflow
    used = _names_used(workflow)
    if "nodes" in used or _has_foreign_readers(subject):
        return  # anything may be looked up there
    for i, node in enumerate(workflow.nodes):
        is_result = not workflow.outputs and not subject.graph.dependents[i]
        # What waits for others (`run_if`) has its use without an output.
        if node.type not in _PURE or node.id in used or is_result or node.run_if is not None or node.compensate:
            continue
        message = f"nobody uses the output of {node.id!r}, and a {node.type!r} node has no other effect"
        yield _warning("unused_output", message, ("nodes", i))


def _has_foreign_readers(subject: _Subject) -> bool:
    """Whether a class that is not ours is handed the whole context."""
    for _, node in subject.nodes:
        cls = subject.registry.get(node.type) if node.type in subject.registry else None
        if cls is None or not (issubclass(cls, BaseNodeV2) or cls.__module__.startswith("pyflow.nodes.")):
            return True
    return False


def _names_used(workflow: WorkflowDef) -> set[str]:
    """Every name in a template or expression, wherever it stands."""
    used: set[str] = set()
    for text in _strings(workflow.model_dump(by_alias=True, exclude_none=True)):
        if is_template(text):
            try:
                used |= compile_template(text, typed=True).names
            except TemplateError:
                continue
    for node in workflow.all_nodes():
        for expression in (node.when, node.config.get("if") if node.type == "condition" else None):
            if isinstance(expression, str):
                try:
                    used |= compile_expression(expression).names
                except UnsafeExpressionError:
                    continue
    return used


# --- rules for version 2 -----------------------------------------------------------------------------------------


def _unreachable(subject: _Subject) -> Iterator[Problem]:
    for i, reason in lint_fates.unreachable(subject.workflow.nodes, subject.graph, subject.registry):
        node = subject.workflow.nodes[i]
        key: Path = ("run_if",) if node.run_if is not None else ("depends_on",)
        yield _warning("unreachable", f"{node.id!r} never runs: {reason}", ("nodes", i, *key))


def _missing_timeout(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        limited = node.timeout is not None or node.total_timeout is not None or "timeout" in node.config
        if node.type in _REMOTE and not limited:
            message = f"{node.id!r} talks to another machine without a `timeout` of its own"
            yield _warning("missing_timeout", message, path)
        if node.type in _ASKING and not limited:
            message = f"{node.id!r} may wait for ever: give it a `timeout`, and say what that means with `on_timeout`"
            yield _warning("endless_wait", message, path)


def _unsafe_retry(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        method = node.config.get("method", "GET")
        retries = node.retry is not None and node.retry.max_attempts != 1 and node.retry.max_retries != 0
        if node.type != "http" or not retries or not isinstance(method, str) or method.upper() not in _REPEATS_HARM:
            continue
        headers = node.config.get("headers")
        named = isinstance(headers, dict) and any(str(name).lower() == "idempotency-key" for name in headers)
        if not named and not isinstance(headers, str):
            message = (
                f"{node.id!r} repeats a {method.upper()}: its effect may happen twice, unless the service honours the"
                " `Idempotency-Key` header that is sent along. If it does, name that header"
            )
            yield _warning("retry_not_idempotent", message, (*path, "retry"))


def _fan_out(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        if node.for_each is None:
            for key in _FAN_OUT_KEYS:
                if getattr(node, key) is not None:
                    yield _warning("no_fan_out", f"`{key}` has no effect without `for_each`", (*path, key))
        elif node.max_parallel is None and node.type in _REMOTE | {"alert"}:
            message = (
                f"{node.id!r} sends up to 50 requests at a time: say with `max_parallel` what the service can take"
            )
            yield _warning("unlimited_fan_out", message, (*path, "for_each"))


def _idle_limits(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        for key in ("memory_limit", "cpu_limit"):
            if getattr(node, key) is not None and node.isolation != "process":
                message = f"`{key}` has no effect without `isolation: process`"
                yield _warning("no_isolation", message, (*path, key))


def _recursion(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        if node.type == "workflow" and node.config.get("workflow") == subject.workflow.name:
            message = f"{node.id!r} runs the workflow that it is in, which will be refused"
            yield _warning("recursive_workflow", message, (*path, "config", "workflow"))


def _warning(code: str, message: str, path: Path) -> Problem:
    return Problem(code, message, make_pointer(path))


_Rule = Callable[[_Subject], Iterator[Problem]]
_RULES: tuple[_Rule, ...] = (_constant_when, _redundant_dependency, _unused_output)
_VERSION_2_RULES: tuple[_Rule, ...] = (
    _unreachable,
    _missing_timeout,
    _unsafe_retry,
    _fan_out,
    _idle_limits,
    _recursion,
)
