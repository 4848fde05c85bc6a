"""Dry runs: order, levels, skips, configs and broken references of a run, without executing anything."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyflow.core.context import BUILT_IN_NAMES
from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import InputError, Problem, PyFlowError
from pyflow.core.node import NodeRegistry
from pyflow.core.ports import SecretSource
from pyflow.core.states import NodeState
from pyflow.documents.graph import Graph
from pyflow.documents.models import WorkflowDef
from pyflow.execution.plan import MAIN, ON_FAILURE, PLAN_SECTIONS, Plan, PlannedNode, compile_plan
from pyflow.execution.scheduler import Scheduler
from pyflow.expressions.fields import leaves
from pyflow.expressions.template import TemplateError, compile_template, is_template
from pyflow.expressions.values import LITERALS
from pyflow.validation.inputs import accept_input

__all__ = ["DryRun", "NodePreview", "UnresolvedReference", "dry_run"]

#: Names that templates always have.
_GLOBALS = frozenset({"range", "dict", "true", "false", "none", "null", "True", "False", "None"})
_BUILT_IN = frozenset(BUILT_IN_NAMES)
_SECRET = re.compile(r"\bsecrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*['\"]([^'\"]+)['\"]\s*\])", re.ASCII)


@dataclass(frozen=True, slots=True)
class UnresolvedReference:
    """A template or ``when`` that would find nothing: where (node and JSON Pointer into it), its text, and why."""

    node_id: str
    pointer: str
    source: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """``{node_id, pointer, source, reason}``."""
        return {"node_id": self.node_id, "pointer": self.pointer, "source": self.source, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class NodePreview:
    """One node before a run: ``config`` with every template rendered that depends on nothing but the input.

    ``section`` is ``nodes``, ``on_failure`` or ``finally``; ``pending`` holds the pointers of the templates that
    are left as they are, because they need results, secrets or the run itself. ``until``: how it repeats, if it does.
    """

    id: str
    type: str
    section: str
    depends_on: tuple[str, ...]
    config: Any
    pending: tuple[str, ...]
    until: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data; ``until`` only of a node that has it."""
        repeats = {} if self.until is None else {"until": self.until}
        return repeats | {
            "id": self.id,
            "type": self.type,
            "section": self.section,
            "depends_on": list(self.depends_on),
            "config": self.config,
            "pending": list(self.pending),
        }


@dataclass(slots=True)
class DryRun:
    """The result of a dry run, in which every node that starts succeeds.

    ``order``: a possible order of the graph. ``levels``: what could run at the same time. ``critical_path``: the
    longest chain of nodes. ``skipped``: reasons by node id. ``unresolved``: references to what will not be there.
    ``input_problems``: how the input does not fit the workflow's ``inputs``.
    """

    workflow: str
    version: int
    order: list[str]
    levels: list[list[str]]
    critical_path: list[str]
    nodes: list[NodePreview] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unresolved: list[UnresolvedReference] = field(default_factory=list)
    input_problems: list[Problem] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Return whether no mistakes are known."""
        return not self.unresolved and not self.input_problems

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data (JSON if the input is)."""
        return {
            "workflow": self.workflow,
            "version": self.version,
            "order": self.order,
            "levels": self.levels,
            "critical_path": self.critical_path,
            "skipped": self.skipped,
            "unresolved": [reference.as_dict() for reference in self.unresolved],
            "input_problems": [problem.as_dict() for problem in self.input_problems],
            "nodes": [node.as_dict() for node in self.nodes],
        }


def dry_run(
    workflow: WorkflowDef,
    registry: NodeRegistry,
    *,
    input: Mapping[str, Any] | None = None,
    initial_context: Mapping[str, Any] | None = None,
    secrets: SecretSource | None = None,
) -> DryRun:
    """Plan a run and run nothing.

    ``input`` and ``initial_context`` as for ``WorkflowEngine.execute``; an input that does not fit is reported, not
    raised. With ``secrets``, names that it does not have are reported; values are never shown. Raises
    ``DefinitionError`` for a workflow that cannot run.
    """
    plan = compile_plan(workflow, registry)
    main = plan.sections[MAIN]
    graph = Graph(plan.graph.dependencies[: len(main)])
    report = DryRun(
        workflow=workflow.name,
        version=plan.version,
        order=plan.ids(graph.order()),
        levels=[plan.ids(level) for level in graph.levels()],
        critical_path=plan.ids(graph.longest_path()),
    )
    known = _known_names(workflow, input, initial_context, report)
    preview = _Preview(plan, known, secrets, report)
    unwanted = {node.index: reason for node in plan.nodes if (reason := preview.look_at(node)) is not None}
    _simulate(plan, unwanted, report.skipped)
    return report


def _known_names(
    workflow: WorkflowDef,
    input: Mapping[str, Any] | None,
    initial_context: Mapping[str, Any] | None,
    report: DryRun,
) -> dict[str, Any]:
    known: dict[str, Any] = dict(initial_context or {})
    if workflow.version == 1:
        return known | {"__workflow__": workflow.name} | ({"input": dict(input)} if input is not None else {})
    given = known.get("input", {}) if input is None else input
    try:
        accepted = accept_input(workflow, given)
    except InputError as error:
        report.input_problems = list(error.problems)
        accepted = dict(given) if isinstance(given, Mapping) else {}
    return {"trigger": {}, **known, "input": accepted, "vars": workflow.vars, **LITERALS}


def _simulate(plan: Plan, unwanted: Mapping[int, str], skipped: dict[str, str]) -> None:
    """Let the real scheduler run through the plan: what follows from a skip is its business."""
    scheduler = Scheduler(plan)
    ready = deque(scheduler.start())
    while True:
        for index, _, reason in scheduler.skips:
            skipped[plan.nodes[index].id] = reason
        scheduler.skips = []
        if not ready:
            break
        index = ready.popleft()
        state = NodeState.SUCCEEDED
        if index in unwanted:
            state = NodeState.SKIPPED
            skipped[plan.nodes[index].id] = unwanted[index]
        ready.extend(scheduler.finish(index, state))
    for index in plan.sections[ON_FAILURE]:
        skipped[plan.nodes[index].id] = "runs only if the run fails"


class _Preview:
    """Looks at one node after the other; puts what it finds into the report."""

    def __init__(self, plan: Plan, known: Mapping[str, Any], secrets: SecretSource | None, report: DryRun) -> None:
        self._plan = plan
        self._known = known
        self._secrets = secrets
        self._report = report
        self._typed = plan.version != 1
        self._pending: list[str] = []

    def look_at(self, node: PlannedNode) -> str | None:
        """Note the node; return why its ``when`` certainly keeps it from running, or ``None``."""
        self._pending = []
        computes = node.traits.computes_config and node.config is not None
        config = (self._compute if computes else self._render)(node, node.definition.config, ("config",))
        until = node.definition.until
        self._report.nodes.append(
            NodePreview(
                id=node.id,
                type=node.type,
                section=PLAN_SECTIONS[node.section],
                depends_on=tuple(node.definition.depends_on),
                config=config,
                pending=tuple(self._pending),
                until=None if until is None else until.model_dump(mode="json", exclude_none=True),
            )
        )
        return self._why_unwanted(node)

    def _why_unwanted(self, node: PlannedNode) -> str | None:
        if node.never:
            return "when is not an expression"
        if node.when is None:
            return None
        for reason in self._missing(node, node.when.names):
            self._unresolved(node, ("when",), node.when.source, reason)
        unknown = sorted(node.when.names - self._known.keys() - _BUILT_IN - self._plan.by_id.keys())
        if unknown and not self._typed:
            return f"when cannot be evaluated: nothing provides {unknown[0]!r}"
        if not node.when.names <= self._known.keys():
            return None
        try:
            return None if node.when.evaluate(self._known) else "when is false"
        except PyFlowError as error:
            self._unresolved(node, ("when",), node.when.source, str(error))
            return None if self._typed else f"when cannot be evaluated: {error}"

    def _render(self, node: PlannedNode, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._render_text(node, value, path) if is_template(value) else value
        if isinstance(value, dict):
            return {key: self._render(node, item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._render(node, item, (*path, i)) for i, item in enumerate(value)]
        return value

    def _compute(self, node: PlannedNode, fields: Any, path: Path) -> Any:
        """Return the fields of a node that computes them, once all that they look up is known."""
        assert node.config is not None  # noqa: S101 - the caller looked
        if node.config.names <= self._known.keys():
            try:
                return node.config.render(self._known)
            except PyFlowError as error:
                self._unresolved(node, path, "", str(error))
                return fields
        for at, source in leaves(fields, path):
            self._pending.append(make_pointer(at))
            for reason in self._missing_secrets(source, node.config.names):
                self._unresolved(node, at, source, reason)
        return fields

    def _render_text(self, node: PlannedNode, source: str, path: Path) -> Any:
        try:
            template = compile_template(source, typed=self._typed)
            names = template.names - _GLOBALS
            if names <= self._known.keys():
                return template.render(self._known)
        except TemplateError as error:
            self._unresolved(node, path, source, str(error))
            return source
        self._pending.append(make_pointer(path))
        for reason in (*self._missing(node, names), *self._missing_secrets(source, names)):
            self._unresolved(node, path, source, reason)
        return source

    def _missing(self, node: PlannedNode, names: frozenset[str]) -> Iterator[str]:
        """Names that nothing provides. Version 2 refuses such a definition, so only v1 files have them."""
        unsure = [] if self._typed else sorted(names - self._known.keys() - _GLOBALS - _BUILT_IN)
        upstream = self._plan.graph.upstream(node.index) if unsure else set()
        for name in unsure:
            at = self._plan.by_id.get(name)
            if at is None:
                yield f"nothing provides {name!r}"
            elif at not in upstream:
                yield f"{name!r} is not upstream, so it may not have finished"

    def _missing_secrets(self, source: str, names: frozenset[str]) -> Iterator[str]:
        if not self._typed or self._secrets is None or "secrets" not in names:
            return
        for attribute, key in _SECRET.findall(source):
            name = attribute or key
            try:
                self._secrets.get(name)
            except KeyError:
                yield f"secret not found: {name}"

    def _unresolved(self, node: PlannedNode, path: Path, source: str, reason: str) -> None:
        self._report.unresolved.append(UnresolvedReference(node.id, make_pointer(path), source, reason))
