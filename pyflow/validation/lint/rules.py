"""Warnings about valid workflows: what is probably a mistake, or will hurt one day. Nothing is run for them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, starmap

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.node import BaseNodeV2, NodeRegistry
from pyflow.core.problems import locate
from pyflow.core.suspension import SuspendingNode
from pyflow.core.traits import NodeTraits, traits_of
from pyflow.documents.graph import Graph
from pyflow.documents.models import NodeDef, RunIf, WorkflowDef
from pyflow.documents.node_keys import NodeKind, kind_of
from pyflow.expressions.template import is_template
from pyflow.validation.checker import SECTIONS
from pyflow.validation.config_check import doubts
from pyflow.validation.lint import fates, filters, missing, references, run_states, triggers
from pyflow.validation.lint.references import secrets_used

__all__ = ["lint_workflow", "secrets_used"]

_REPEATS_HARM = frozenset({"POST", "PATCH"})
_ITEM = frozenset({"item", "item_index", "item_key"})
#: Of each rule.
MAX_WARNINGS = 100


@dataclass(frozen=True, slots=True)
class _Subject:
    """The workflow with what more than one rule wants to know."""

    workflow: WorkflowDef
    registry: NodeRegistry
    #: Path and definition of every node, ``on_failure`` and ``finally`` included.
    nodes: list[tuple[Path, NodeDef]]
    #: Name, nodes and graph of each section.
    sections: list[tuple[str, list[NodeDef], Graph]]

    def traits(self, node: NodeDef) -> NodeTraits:
        """Return the traits of the node's type; the default ones if the type is unknown."""
        return traits_of(self.registry.get(node.type)) if node.type in self.registry else NodeTraits()

    def starts_run(self, node: NodeDef) -> bool:
        """Return whether the node starts a child run."""
        return node.type in self.registry and kind_of(self.registry.get(node.type)) is NodeKind.WORKFLOW

    def awaits_signal(self, node: NodeDef) -> bool:
        """Return whether the node can wait for a signal, and so for ever."""
        cls = self.registry.get(node.type) if node.type in self.registry else None
        if cls is None or not issubclass(cls, SuspendingNode):
            return False
        return cls.awaited_signal(node.id, node.config) is not None


def lint_workflow(workflow: WorkflowDef, registry: NodeRegistry) -> list[Problem]:
    """The warnings about a valid workflow in document order, with positions where it has a source.

    v1 workflows get those that are about what v1 knew. Each rule gives at most ``MAX_WARNINGS``.
    """
    parts = zip(SECTIONS, (workflow.nodes, workflow.on_failure, workflow.finally_), strict=True)
    sections = [(name, part, _graph(part)) for name, part in parts]
    placed: list[tuple[Path, NodeDef]] = [
        ((name, i), node) for name, part, _ in sections for i, node in enumerate(part)
    ]
    subject = _Subject(workflow, registry, placed, sections)
    rules = _RULES if workflow.version == 1 else (*_RULES, *_VERSION_2_RULES)
    warnings = (warning for rule in rules for warning in islice(rule(subject), MAX_WARNINGS))
    return locate(warnings, workflow._document)


# --- rules for every workflow ------------------------------------------------------------------------------------


def _constant_when(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        verdict = fates.constant(node.when, subject.workflow.version)
        if verdict is not None:
            what = "always" if verdict else "never"
            yield _warning("constant_when", f"`when` is constant: {node.id!r} {what} runs", (*path, "when"))


def _constant_until(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        verdict = None if node.until is None else fates.constant(node.until.when)
        if verdict is not None:
            what = "is executed once" if verdict else "never succeeds"
            message = f"`until.when` is constant: {node.id!r} {what}. It may use `output` and `round`"
            yield _warning("constant_until", message, (*path, "until", "when"))


def _redundant_dependency(subject: _Subject) -> Iterator[Problem]:
    """A dependency that another one implies, ends and outcomes alike."""
    for section, part, graph in subject.sections:
        implied = [0] * graph.size
        for i in graph.order():
            node = part[i]
            awaits_all = subject.workflow.version == 1 or node.run_if is RunIf.ALL_DONE
            needs_all = subject.workflow.version != 1 and node.run_if in (None, RunIf.ALL_SUCCEEDED)
            if not awaits_all and not needs_all:
                continue
            dependencies = graph.dependencies[i]
            beyond = functools.reduce(operator.or_, (implied[j] for j in dependencies), 0)
            for j in dependencies:
                if beyond >> j & 1:
                    first = part[j].id
                    second = part[next(k for k in dependencies if implied[k] >> j & 1)].id
                    message = f"{node.id!r} depends on {second!r}, which depends on {first!r} already"
                    at: Path = (section, i, "depends_on", node.depends_on.index(first))
                    yield _warning("redundant_dependency", message, at)
                implied[i] |= 1 << j
            implied[i] |= beyond


def _repeated_dependency(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        seen: set[str] = set()
        for at, name in enumerate(node.depends_on):
            if name in seen:
                message = f"{node.id!r} names {name!r} twice"
                yield _warning("repeated_dependency", message, (*path, "depends_on", at))
            seen.add(name)


def _unused_output(subject: _Subject) -> Iterator[Problem]:
    workflow = subject.workflow
    used = references.names_used(workflow)
    if "nodes" in used or _has_foreign_readers(subject):
        return  # anything may be looked up there
    for section, part, graph in subject.sections:
        for i, node in enumerate(part):
            is_result = section == "nodes" and not workflow.outputs and not graph.dependents[i]
            # What waits for others (`run_if`) has its use without an output.
            if (
                not subject.traits(node).is_pure
                or node.id in used
                or is_result
                or node.run_if is not None
                or node.compensate
            ):
                continue
            message = f"nobody uses the output of {node.id!r}, and a {node.type!r} node has no other effect"
            yield _warning("unused_output", message, (section, i))


def _has_foreign_readers(subject: _Subject) -> bool:
    """Return whether a class that is not ours is handed the whole context."""
    for _, node in subject.nodes:
        cls = subject.registry.get(node.type) if node.type in subject.registry else None
        if cls is None or not (issubclass(cls, BaseNodeV2) or cls.__module__.startswith("pyflow.nodes.")):
            return True
    return False


# --- rules for version 2 -----------------------------------------------------------------------------------------


def _unreachable(subject: _Subject) -> Iterator[Problem]:
    for section, part, graph in subject.sections:
        for i, reason in fates.unreachable(part, graph, subject.registry):
            node = part[i]
            key: Path = ("run_if",) if node.run_if is not None else ("depends_on",)
            yield _warning("unreachable", f"{node.id!r} never runs: {reason}", (section, i, *key))


def _references(subject: _Subject) -> Iterator[Problem]:
    workflow = subject.workflow
    yield from starmap(_warning, references.undeclared_input(workflow))
    yield from starmap(_warning, references.unrendered(workflow))
    yield from starmap(_warning, references.no_error_yet(workflow))
    yield from starmap(
        _warning, run_states.no_state(workflow, {node.id for _, node in subject.nodes if subject.starts_run(node)})
    )
    for rule in (filters.wrong_arguments, filters.comments, filters.steady_moments):
        yield from starmap(_warning, rule(workflow))
    used = references.names_used(workflow)
    for path, node in subject.nodes:
        yield from starmap(_warning, references.unsteady_keys(path, node))
        if subject.traits(node).renders_config:
            yield from starmap(
                _warning, references.masked_outputs(path, node, used, computes=subject.traits(node).computes_config)
            )


def _missing_outputs(subject: _Subject) -> Iterator[Problem]:
    graph = next(graph for section, _, graph in subject.sections if section == "nodes")
    yield from starmap(_warning, missing.missing_outputs(subject.workflow, graph))


def _doubtful_config(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        if node.type in subject.registry:
            for at, message in doubts(subject.registry.get(node.type), node.config):
                text = f"{message}; as it is, that hangs on a template of {node.id!r} giving nothing"
                yield _warning("doubtful_config", text, (*path, "config", *at))


def _missing_timeout(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        limited = node.timeout is not None or node.total_timeout is not None or "timeout" in node.config
        traits = subject.traits(node)
        if traits.calls_service and not traits.limits_time and not limited:
            message = f"{node.id!r} talks to another machine without a `timeout` of its own"
            yield _warning("missing_timeout", message, path)
        if subject.awaits_signal(node) and not limited:
            message = f"{node.id!r} may wait for ever: give it a `timeout`, and say what that means with `on_timeout`"
            yield _warning("endless_wait", message, path)


def _unsafe_retry(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        method = node.config.get("method", "GET")
        retries = node.retry is not None and node.retry.max_attempts != 1 and node.retry.max_retries != 0
        if not subject.traits(node).has_method or not retries:
            continue
        if not isinstance(method, str) or method.upper() not in _REPEATS_HARM:
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
        if node.for_each is not None and node.item_key is not None and not is_template(node.item_key):
            message = f"all items of {node.id!r} have the same `item_key`; it is a template such as `{{{{ item.id }}}}`"
            yield _warning("same_item_key", message, (*path, "item_key"))
        limited = node.max_parallel is not None or _is_limited(node)
        if node.for_each is not None and not limited and subject.traits(node).calls_service:
            message = (
                f"{node.id!r} sends up to 50 requests at a time: say with `max_parallel` what the service can take"
            )
            yield _warning("unlimited_fan_out", message, (*path, "for_each"))


def _is_limited(node: NodeDef) -> bool:
    """Return whether the node's `concurrency` limits its items together: they have one key, whatever the item."""
    return node.concurrency is not None and _ITEM.isdisjoint(
        reference.name for reference in references.in_template(node.concurrency.key)
    )


def _recursion(subject: _Subject) -> Iterator[Problem]:
    for path, node in subject.nodes:
        if subject.starts_run(node) and node.config.get("workflow") == subject.workflow.name:
            message = f"{node.id!r} runs the workflow that it is in, which will be refused"
            yield _warning("recursive_workflow", message, (*path, "config", "workflow"))


def _graph(nodes: list[NodeDef]) -> Graph:
    index = {node.id: i for i, node in enumerate(nodes)}
    return Graph([[index[name] for name in node.depends_on] for node in nodes])


def _warning(code: str, message: str, path: Path) -> Problem:
    return Problem(code, message, make_pointer(path))


def _triggers(subject: _Subject) -> Iterator[Problem]:
    yield from triggers.overlapping_crons(subject.workflow)
    yield from triggers.open_webhooks(subject.workflow)
    yield from triggers.own_events(subject.workflow)


_Rule = Callable[[_Subject], Iterator[Problem]]
_RULES: tuple[_Rule, ...] = (_constant_when, _redundant_dependency, _repeated_dependency, _unused_output)
_VERSION_2_RULES: tuple[_Rule, ...] = (
    _unreachable,
    _missing_timeout,
    _unsafe_retry,
    _constant_until,
    _fan_out,
    _recursion,
    _references,
    _missing_outputs,
    _doubtful_config,
    _triggers,
)
