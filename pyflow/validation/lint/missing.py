"""Finds reads of outputs that may not be there: of nodes that can be skipped, or fail and are tolerated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pyflow.core.document import Path
from pyflow.documents.graph import Graph
from pyflow.documents.models import NodeDef, OnError, RunIf, Unset, WorkflowDef
from pyflow.validation.lint import fates
from pyflow.validation.lint.references import Finding, expressions, in_expression, in_template, templates

#: Who asks for what may be missing, one way or another, knows that it may be.
_ASKS = re.compile(r"\bnodes\b|\bdefault\(|\|\s*default\b|\|\s*d\(|\bis\s+(?:not\s+)?(?:defined|undefined)\b")
#: Parts of a node that run after the graph, or see other names.
_ELSEWHERE = frozenset({"compensate", "retry"})
#: Such nodes start although one of their dependencies has failed.
_AFTER_FAILURES = frozenset({RunIf.ALL_DONE, RunIf.ANY_FAILED, RunIf.ANY_SUCCEEDED})


def missing_outputs(workflow: WorkflowDef, graph: Graph) -> Iterator[Finding]:
    """Find places in the graph and in ``outputs`` that read a node's output by its id although there may be none."""
    nodes = workflow.nodes
    index = {node.id: i for i, node in enumerate(nodes)}
    absent, needed = _absent(nodes, graph), _needed(nodes, graph)
    for path, name in _reads(workflow):
        i = index.get(name)
        if i is None or nodes[i].default_output is not Unset.UNSET:
            continue
        if path[0] == "outputs":
            why = absent[i]
        else:
            reader = int(path[1])
            is_sure = bool(needed[reader] >> i & 1)
            why = None if is_sure else absent[i]
            if why is None and not is_sure and nodes[reader].run_if in _AFTER_FAILURES:
                why = f"{name!r} may fail, and `run_if: {nodes[reader].run_if}` lets this node run all the same"
        if why is not None:
            message = (
                f"there may be no output of {name!r}: {why}. Read `nodes[{name!r}].output`, which is null then, or give"
                f" {name!r} a `default_output`"
            )
            yield "may_be_missing", message, path


def _reads(workflow: WorkflowDef) -> Iterator[tuple[Path, str]]:
    """The names that are read in the graph and in ``outputs``, but for those of who asks whether they are there."""
    definition = workflow.model_dump(by_alias=True, exclude_none=True, include={"nodes", "outputs"})
    for found, references in ((templates(definition), in_template), (expressions(definition), in_expression)):
        for path, text in found:
            if not _ELSEWHERE.intersection(path) and not _ASKS.search(text):
                yield from ((path, each.name) for each in references(text))


def _absent(nodes: Sequence[NodeDef], graph: Graph) -> list[str | None]:
    """Return, for each node, why a run can succeed in which it has no output; ``None`` if it cannot."""
    why: list[str | None] = [None] * graph.size
    for i in graph.order():
        node, before = nodes[i], [j for j in graph.dependencies[i] if why[j] is not None]
        run_if = node.run_if or RunIf.ALL_SUCCEEDED
        if node.when is not None and fates.constant(node.when) is not True:
            why[i] = "its `when` may be false"
        elif node.on_error is OnError.SKIP:
            why[i] = "its failure is tolerated (`on_error: skip`)"
        elif run_if is RunIf.ANY_FAILED:
            why[i] = "it runs only after a failure (`run_if: any_failed`)"
        elif run_if is RunIf.ALL_SUCCEEDED and before:
            why[i] = f"it is skipped with {nodes[before[0]].id!r}"
        elif run_if is RunIf.ANY_SUCCEEDED and len(before) == len(graph.dependencies[i]):
            why[i] = "all of its dependencies may be missing"
        elif run_if is RunIf.NONE_FAILED and any(nodes[j].on_error is OnError.SKIP for j in before):
            why[i] = "a dependency may fail, which is tolerated"
    return why


def _needed(nodes: Sequence[NodeDef], graph: Graph) -> list[int]:
    """Return, for each node, those without whose output it does not run, as bits."""
    needed = [0] * graph.size
    for i in graph.order():
        dependencies = graph.dependencies[i]
        if nodes[i].run_if in (None, RunIf.ALL_SUCCEEDED):
            for j in dependencies:
                needed[i] |= needed[j] | 1 << j
        elif nodes[i].run_if is RunIf.ANY_SUCCEEDED and len(dependencies) == 1:
            needed[i] |= needed[dependencies[0]] | 1 << dependencies[0]
    return needed
