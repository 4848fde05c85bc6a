"""A definition, compiled: node classes looked up, templates and expressions parsed, the graph as arrays of integers.

Made once per definition and shared by all its runs.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from graphlib import CycleError
from typing import Any, Final

from pyflow.core.errors import DefinitionError
from pyflow.core.node import BaseNodeV2, Invoker, NodeRegistry
from pyflow.core.suspension import SuspendingNode
from pyflow.core.traits import NodeTraits, traits_of
from pyflow.documents.graph import Graph
from pyflow.documents.models import MatrixDef, NodeDef, OnError, RunIf, Unset, WorkflowDef
from pyflow.execution.retry import RetryPolicy
from pyflow.execution.rounds import Until
from pyflow.expressions.evaluation import Expression, UnsafeExpressionError, compile_expression
from pyflow.expressions.fields import compile_fields
from pyflow.expressions.template import TemplateError, Value, compile_value, is_template
from pyflow.isolation.processes import invoker_with
from pyflow.validation.checker import RESERVED_NAMES, check_workflow

__all__ = ["RESERVED_NAMES", "Plan", "PlannedNode", "compile_plan", "compile_stored"]

MAIN: Final = 0
COMPENSATE: Final = 1
ON_FAILURE: Final = 2
FINALLY: Final = 3
PLAN_SECTIONS: Final = ("nodes", "compensate", "on_failure", "finally")


class KeyTemplate:
    """A rendered key with what belongs to it: a cache's ``ttl``, a concurrency key's ``limit`` and ``on_limit``."""

    __slots__ = ("key", "limit", "on_limit", "ttl")

    def __init__(self, key: str, *, ttl: float = 0.0, limit: int = 1, on_limit: str = "queue") -> None:
        self.key = compile_value(key, typed=True, where="key")
        self.ttl = ttl
        self.limit = limit
        self.on_limit = on_limit


class PlannedNode:
    """One node, ready to run. ``broken`` is why it cannot: v1 finds that out while it runs, version 2 beforehand."""

    __slots__ = (
        "_expressions",
        "broken",
        "cache",
        "child",
        "compensates",
        "concurrency",
        "config",
        "default",
        "definition",
        "for_each",
        "has_matrix",
        "heartbeat_timeout",
        "id",
        "index",
        "invoke",
        "item_key",
        "item_when",
        "max_output_size",
        "max_parallel",
        "never",
        "on_error",
        "plain",
        "remote",
        "retry",
        "run_if",
        "section",
        "sees_now",
        "suspending",
        "timeout",
        "tolerated",
        "total_timeout",
        "traits",
        "type",
        "until",
        "wait_limits",
        "wants_node_context",
        "wants_scope",
        "when",
    )

    def __init__(self, index: int, section: int, definition: NodeDef, registry: NodeRegistry, version: int) -> None:
        self.index = index
        self.section = section
        self.definition = definition
        self.id = definition.id
        self.type = definition.type
        self.on_error = definition.on_error
        #: Makes the output that others see where there is none; ``None``: they see none.
        self.default: Value | None = None
        if version != 1 and definition.default_output is not Unset.UNSET:
            self.default = compile_value(definition.default_output, typed=True)
        #: A failure is noted and does not fail the run.
        self.tolerated = definition.on_error in (OnError.SKIP, OnError.RETRY)
        self.run_if = RunIf.ALL_DONE if version == 1 else definition.run_if or RunIf.ALL_SUCCEEDED
        self.retry = self._retry(definition, version)
        #: The node whose effect this one undoes.
        self.compensates: int | None = None
        self.broken: Exception | None = None
        self.invoke: Invoker | None = None
        self.wants_node_context = False
        #: The node evaluates expressions by itself: it is handed the names of its item, not just those of the run.
        self.wants_scope = False
        #: The class of a node that waits without executing anything.
        self.suspending: type[SuspendingNode[Any]] | None = None
        self._expressions: list[str] = []
        self.traits = NodeTraits()
        #: The node runs another workflow.
        self.child = False
        #: Any worker of its queue may execute the node, on the platform. Set by the plan.
        self.remote = False
        self.config: Value | None = None
        self.when: Expression | None = None
        #: v1: a `when` that does not even compile never lets the node run.
        self.never = False
        self._limits(definition, version)
        self._compile(definition, registry, version)
        self.sees_now = version != 1 and self._looks_up("now")
        if definition.when is not None:
            try:
                self.when = compile_expression(definition.when, version=version)
            except UnsafeExpressionError:
                self.never = True

    def _looks_up(self, name: str) -> bool:
        """Return whether anything that is computed once the node has begun uses a name of its scope."""
        parts = [self.config, self.for_each, self.item_key, self.item_when, self.until]
        parts += [None if part is None else part.key for part in (self.cache, self.concurrency)]
        if any(part is not None and name in part.names for part in parts):
            return True
        # The node evaluates these itself; what a template will give is not known.
        return any(is_template(source) or name in source or "today" in source for source in self._expressions)

    def _limits(self, definition: NodeDef, version: int) -> None:
        own = definition if version != 1 else NodeDef(id=definition.id, type=definition.type)
        self.timeout = own.timeout
        self.total_timeout = own.total_timeout
        self.heartbeat_timeout = own.heartbeat_timeout
        self.max_parallel = own.max_parallel
        self.max_output_size = own.max_output_size
        cache, slots = own.cache, own.concurrency
        self.cache = None if cache is None else KeyTemplate(cache.key, ttl=cache.ttl)
        self.concurrency = None if slots is None else KeyTemplate(slots.key, limit=slots.limit, on_limit=slots.on_limit)
        #: The items are the combinations of a matrix.
        self.has_matrix = isinstance(own.for_each, MatrixDef)
        items = own.for_each.model_dump(by_alias=True) if isinstance(own.for_each, MatrixDef) else own.for_each
        self.for_each = None if items is None else compile_value(items, typed=True, where="for_each")
        self.item_when = None if own.item_when is None else compile_expression(own.item_when, version=2)
        self.item_key = None if own.item_key is None else compile_value(own.item_key, typed=True, where="item_key")
        self.until = None if own.until is None else Until(own.until)
        limits = (self.timeout, self.total_timeout, self.heartbeat_timeout, self.max_output_size, cache, slots)
        #: How long a node that waits may take from its start: it has one attempt.
        self.wait_limits = {"timeout": self.timeout, "total_timeout": self.total_timeout}
        #: No limit of any kind: the short way.
        self.plain = self.until is None and all(limit is None for limit in limits)

    def _compile(self, definition: NodeDef, registry: NodeRegistry, version: int) -> None:
        try:
            cls = registry.get(definition.type)
            self.traits = traits_of(cls)
            if issubclass(cls, SuspendingNode):
                self.suspending = cls
            else:
                own = definition if version != 1 else NodeDef(id=definition.id, type=definition.type)
                self.invoke = invoker_with(
                    cls,
                    own.isolation,
                    memory_limit=own.memory_limit,
                    cpu_limit=own.cpu_limit,
                    max_output=own.max_output_size,
                )
            self.child = bool(getattr(cls, "starts_run", False))
            self.plain = self.plain and not self.child
            own_context = version != 1 and getattr(cls, "wants_node_context", False)
            self.wants_node_context = issubclass(cls, BaseNodeV2) or own_context
            self.wants_scope = version != 1 and getattr(cls, "wants_scope", False)
            if self.wants_scope:
                found = [definition.config.get(key) for key in getattr(cls, "expressions", ())]
                self._expressions = [source for source in found if isinstance(source, str)]
            where = "config" if version != 1 else ""
            self.config = (
                compile_fields(definition.config, reads_own=self.section != COMPENSATE)
                if self.traits.computes_config
                else compile_value(definition.config, typed=version != 1, where=where)
            )
        except (KeyError, TemplateError, UnsafeExpressionError, CycleError) as error:
            self.broken = error

    @staticmethod
    def _retry(definition: NodeDef, version: int) -> RetryPolicy | None:
        if version == 1:
            return RetryPolicy.v1(definition.retry) if definition.on_error is OnError.RETRY else None
        return RetryPolicy.v2(definition.retry) if definition.retry is not None else None


def compensation_of(node: NodeDef) -> NodeDef:
    """The node that undoes ``node``; its id is ``<id>:compensate``, which no written node can have."""
    undo = node.compensate
    assert undo is not None  # noqa: S101 - the caller looked
    return NodeDef(
        id=f"{node.id}:compensate",
        type=undo.type,
        config=undo.config,
        retry=undo.retry,
        timeout=undo.timeout,
        total_timeout=undo.total_timeout,
        on_error=OnError.CONTINUE,
        run_if=RunIf.ALL_DONE,
    )


class Plan:
    """A compiled workflow: ``nodes`` by index, ``graph`` over them, and ``sections`` of indices.

    The sections are the graph, its compensations, ``on_failure`` and ``finally``.
    """

    __slots__ = ("by_id", "graph", "nodes", "outputs", "run_concurrency", "sections", "version", "workflow")

    def __init__(self, workflow: WorkflowDef, registry: NodeRegistry, *, triggers: bool = True) -> None:
        problems = check_workflow(workflow, registry, triggers=triggers)
        if problems:
            raise DefinitionError(problems)
        self.workflow = workflow
        self.version = workflow.version
        self.nodes: list[PlannedNode] = []
        self.sections: list[range] = []
        undone = [node for node in workflow.nodes if node.compensate is not None and workflow.version != 1]
        compensations = [compensation_of(node) for node in undone]
        for section, definitions in enumerate((workflow.nodes, compensations, workflow.on_failure, workflow.finally_)):
            first = len(self.nodes)
            for definition in definitions:
                self.nodes.append(PlannedNode(len(self.nodes), section, definition, registry, workflow.version))
            self.sections.append(range(first, len(self.nodes)))
        self.by_id = {node.id: node.index for node in self.nodes}
        for undoing, index in zip(undone, self.sections[COMPENSATE], strict=True):
            self.nodes[index].compensates = self.by_id[undoing.id]
        distribute = bool(workflow.settings.distribute)
        for index in self.sections[MAIN] if workflow.version != 1 else ():
            node = self.nodes[index]
            wanted = distribute or node.definition.queue is not None
            node.remote = wanted and node.invoke is not None and not node.child
        self.graph = Graph([[self.by_id[d] for d in node.definition.depends_on] for node in self.nodes])
        self.outputs = compile_value(workflow.outputs, typed=True, where="outputs") if workflow.outputs else None
        slots = workflow.settings.concurrency if workflow.version != 1 else None
        self.run_concurrency = (
            None if slots is None else KeyTemplate(slots.key, limit=slots.limit, on_limit=slots.on_limit)
        )

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


def compile_stored(checksum: str, document: Callable[[], str], registry: NodeRegistry) -> Plan:
    """The plan of a stored definition (canonical JSON), cached by its checksum across the runs of this process.

    The document is asked for only if there is no plan of it yet. Its triggers were checked when it was stored: runs of
    it start although the rules for triggers have become stricter since then.

    Raises ``DefinitionError`` if it cannot run here (any more): a node type may have gone.
    """
    key = (checksum, registry.state_id)
    plan = _stored.get(key)
    if plan is None:
        plan = Plan(WorkflowDef.model_validate_json(document()), registry, triggers=False)
        _stored.put(key, plan)
    return plan
