"""A definition, compiled: node classes looked up, templates and expressions parsed, the graph as arrays of integers.

Made once per definition and shared by all its runs.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from pyflow.core.checker import RESERVED_NAMES, check_workflow
from pyflow.core.errors import DefinitionError
from pyflow.core.graph import Graph
from pyflow.core.models import NodeDef, OnError, RunIf, WorkflowDef
from pyflow.core.node import BaseNodeV2, Invoker, NodeRegistry, invoker_for
from pyflow.core.retry import RetryPolicy
from pyflow.core.safe_eval import Expression, UnsafeExpressionError, compile_expression
from pyflow.core.template import TemplateError, Value, compile_value

__all__ = ["RESERVED_NAMES", "Plan", "PlannedNode", "compile_plan", "compile_stored"]

MAIN: Final = 0
ON_FAILURE: Final = 1
FINALLY: Final = 2


class PlannedNode:
    """One node, ready to run. ``broken`` is why it cannot: v1 finds that out while it runs, version 2 beforehand."""

    __slots__ = (
        "broken",
        "config",
        "definition",
        "id",
        "index",
        "invoke",
        "never",
        "on_error",
        "retry",
        "run_if",
        "section",
        "timeout",
        "tolerated",
        "total_timeout",
        "type",
        "wants_node_context",
        "when",
    )

    def __init__(self, index: int, section: int, definition: NodeDef, registry: NodeRegistry, version: int) -> None:
        self.index = index
        self.section = section
        self.definition = definition
        self.id = definition.id
        self.type = definition.type
        self.on_error = definition.on_error
        #: A failure is noted and does not fail the run.
        self.tolerated = definition.on_error in (OnError.SKIP, OnError.RETRY)
        self.timeout = definition.timeout
        self.total_timeout = definition.total_timeout
        self.run_if = RunIf.ALL_DONE if version == 1 else definition.run_if or RunIf.ALL_SUCCEEDED
        self.retry = self._retry(definition, version)
        self.broken: Exception | None = None
        self.invoke: Invoker | None = None
        self.wants_node_context = False
        self.config: Value | None = None
        self.when: Expression | None = None
        #: v1: a `when` that does not even compile never lets the node run.
        self.never = False
        try:
            cls = registry.get(definition.type)
            self.invoke = invoker_for(cls)
            self.wants_node_context = issubclass(cls, BaseNodeV2)
            self.config = compile_value(definition.config, typed=version != 1)
        except (KeyError, TemplateError) as error:
            self.broken = error
        if definition.when is not None:
            try:
                self.when = compile_expression(definition.when)
            except UnsafeExpressionError:
                self.never = True

    @staticmethod
    def _retry(definition: NodeDef, version: int) -> RetryPolicy | None:
        if version == 1:
            return RetryPolicy.v1(definition.retry) if definition.on_error is OnError.RETRY else None
        return RetryPolicy.v2(definition.retry) if definition.retry is not None else None


class Plan:
    """A compiled workflow: ``nodes`` by index, ``graph`` over them, ``sections`` (graph, on_failure, finally)."""

    __slots__ = ("by_id", "checksum", "graph", "nodes", "outputs", "sections", "version", "workflow")

    def __init__(self, workflow: WorkflowDef, registry: NodeRegistry) -> None:
        problems = check_workflow(workflow, registry)
        if problems:
            raise DefinitionError(problems)
        self.workflow = workflow
        self.version = workflow.version
        self.nodes: list[PlannedNode] = []
        self.sections: list[range] = []
        for section, definitions in enumerate((workflow.nodes, workflow.on_failure, workflow.finally_)):
            first = len(self.nodes)
            for definition in definitions:
                self.nodes.append(PlannedNode(len(self.nodes), section, definition, registry, workflow.version))
            self.sections.append(range(first, len(self.nodes)))
        self.by_id = {node.id: node.index for node in self.nodes}
        self.graph = Graph([[self.by_id[d] for d in node.definition.depends_on] for node in self.nodes])
        self.outputs = compile_value(workflow.outputs, typed=True) if workflow.outputs else None

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Node ids of indices."""
        return [self.nodes[index].id for index in indices]


def compile_plan(workflow: WorkflowDef, registry: NodeRegistry) -> Plan:
    """The plan of a definition, compiled once and kept with it until it or the registry changes.

    Raises ``DefinitionError`` with everything that is wrong.
    """
    kept = workflow._plan
    if kept is not None:
        plan, state_id, snapshot = kept
        if state_id == registry.state_id and snapshot == _snapshot(workflow):
            return plan  # type: ignore[no-any-return]
    plan = Plan(workflow, registry)
    # Models can be changed by their owner. Comparing with a deep copy costs less than a microsecond per node.
    workflow._plan = (plan, registry.state_id, copy.deepcopy(_snapshot(workflow)))
    return plan


def _snapshot(workflow: WorkflowDef) -> list[Any]:
    return [
        {key: value for key, value in workflow.__dict__.items() if key not in {"nodes", "on_failure", "finally_"}},
        *[node.__dict__ for node in workflow.all_nodes()],
    ]


class _PlanCache:
    """The plans of stored definitions by checksum, the least recently used ones forgotten first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> Plan | None:
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
            return plan

    def put(self, key: tuple[str, int], plan: Plan) -> None:
        with self._lock:
            self._plans[key] = plan
            if len(self._plans) > self._size:
                self._plans.popitem(last=False)


_stored = _PlanCache(512)


def compile_stored(checksum: str, document: str, registry: NodeRegistry) -> Plan:
    """The plan of a stored definition (canonical JSON), cached by its checksum across the runs of this process.

    Raises ``DefinitionError`` if it cannot run here (any more): a node type may have gone.
    """
    key = (checksum, registry.state_id)
    plan = _stored.get(key)
    if plan is None:
        plan = Plan(WorkflowDef.model_validate_json(document), registry)
        _stored.put(key, plan)
    return plan
