"""Computes how the nodes of a graph can end, as far as that is known before a run; for ``lint.rules``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from pyflow.core.errors import PyFlowError
from pyflow.core.node import NodeRegistry
from pyflow.core.traits import traits_of
from pyflow.documents.graph import Graph
from pyflow.documents.models import NodeDef, RunIf
from pyflow.expressions.evaluation import compile_expression
from pyflow.expressions.template import compile_value

OK: Final = 1
FAILED: Final = 2
SKIPPED: Final = 4
#: What loops, or makes much of little.
_LONG = (ast.Call, ast.comprehension, ast.Mult, ast.Pow)


@lru_cache(maxsize=4096)
def constant(when: str | None, version: int = 2) -> bool | None:
    """The value of a ``when`` that depends on nothing; ``None`` for any other, and for one that fails.

    Nor for one that takes its time to find out: nothing is run for a warning.
    """
    if when is None:
        return None
    try:
        expression = compile_expression(when, version=version)
        if expression.names or any(isinstance(part, _LONG) for part in ast.walk(ast.parse(when.strip(), mode="eval"))):
            return None
        return bool(expression.evaluate({}))
    except PyFlowError:
        return None


def unreachable(nodes: Sequence[NodeDef], graph: Graph, registry: NodeRegistry) -> Iterator[tuple[int, str]]:
    """The nodes that no run can start, with the reason; not those that only follow from another one of them."""
    fates = [0] * graph.size
    never: set[int] = set()
    for i in graph.order():
        node = nodes[i]
        before = [fates[j] for j in graph.dependencies[i]]
        reason = _why_never(node.run_if or RunIf.ALL_SUCCEEDED, before)
        if reason is not None:
            fates[i] = SKIPPED
            if not never.intersection(graph.dependencies[i]):
                yield i, reason
            never.add(i)
        elif constant(node.when) is False:
            fates[i] = SKIPPED
        else:
            # Anything may be skipped: the run may be stopped or cancelled before it starts.
            fates[i] = SKIPPED | _outcomes(node, registry)


def _outcomes(node: NodeDef, registry: NodeRegistry) -> int:
    """Return the ways in which a node that starts can end."""
    always = traits_of(registry.get(node.type)).always if node.type in registry else None
    plain = all(part is None for part in (node.for_each, node.cache, node.concurrency, node.until))
    if always == "fails" and plain:
        return FAILED
    if always == "succeeds" and plain and _is_bare(node):
        return OK
    return OK | FAILED


def _is_bare(node: NodeDef) -> bool:
    """Return whether nothing is rendered, evaluated or limited."""
    limits = (node.timeout, node.total_timeout, node.heartbeat_timeout, node.max_output_size, node.isolation)
    evaluated = node.when is not None and constant(node.when) is None
    return all(limit is None for limit in limits) and not evaluated and compile_value(node.config, typed=True).constant


def _why_never(run_if: RunIf, before: Sequence[int]) -> str | None:
    if run_if is RunIf.ALL_SUCCEEDED and any(not fate & OK for fate in before):
        return "one of its dependencies never succeeds (`run_if` is `all_succeeded` unless something else is said)"
    if run_if is RunIf.NONE_FAILED and any(fate == FAILED for fate in before):
        return "one of its dependencies always fails (`run_if: none_failed`)"
    if run_if is RunIf.ANY_FAILED and not any(fate & FAILED for fate in before):
        return "none of its dependencies can fail (`run_if: any_failed`)"
    if run_if is RunIf.ANY_SUCCEEDED and before and not any(fate & OK for fate in before):
        return "none of its dependencies ever succeeds (`run_if: any_succeeded`)"
    return None
