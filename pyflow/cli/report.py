"""Formats runs and dry runs as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyflow.cli.console import to_json
from pyflow.core.errors import NodeError
from pyflow.core.result import ErrorInfo, NodeRun, RunResult, told_items
from pyflow.core.states import NodeState, RunState

if TYPE_CHECKING:
    from pyflow.execution.dry_run import DryRun

_HEADS = {
    RunState.SUCCEEDED: "Completed",
    RunState.FAILED: "Failed",
    RunState.TIMED_OUT: "Timed out",
    RunState.CANCELLED: "Cancelled",
}


def run_lines(result: RunResult, version: int, *, verbose: bool) -> list[str]:
    """v1's lines: a head with the run id, then one line a node. Version 2 adds its outputs and says how it ended."""
    # v1 called a run completed whatever became of its nodes.
    ended = RunState.SUCCEEDED if version == 1 and result.state is RunState.FAILED else result.state
    lines = [f"{_HEADS[ended]}. Run ID: {result.run_id}"]
    redact = result.context.redactor.redact
    for run in result.nodes.values():
        lines.append(redact(f"  {run.id}: {_verdict(run, version, verbose=verbose)}"))
        if verbose and run.state is NodeState.SUCCEEDED:
            lines.append(f"    {to_json(redact(run.output))}")
        if verbose and run.error is not None and run.error.traceback is not None:
            lines += (f"    {line}" for line in run.error.traceback.split("\n"))
    if result.outputs is not None:
        lines += ["Outputs:", *(f"  {name}: {to_json(value)}" for name, value in result.outputs.items())]
    return lines


def _verdict(run: NodeRun, version: int, *, verbose: bool) -> str:
    if run.state is NodeState.SUCCEEDED:
        told = told_items(item.state for item in (run.items or {}).values())
        return f"OK — {told}" if told else "OK"
    if run.state is NodeState.CANCELLED:
        return "CANCELLED"
    if run.error is not None and run.state is not NodeState.SKIPPED:
        # v1 has no codes, and shows what a node said on purpose or not.
        message = (run.error.message if version == 1 else error_text(run.error)).replace("\n", "\n    ")
        return f"ERROR — {message}"
    return f"SKIPPED ({run.reason})" if verbose and run.reason else "SKIPPED"


def error_text(error: ErrorInfo) -> str:
    """Return the text of an error; with its class, if the node did not raise it on purpose."""
    return error.headline if error.code == NodeError.code else error.message


def dry_run_lines(report: DryRun) -> Iterator[str]:
    """A dry run for people."""
    yield f"Dry run: {report.workflow} ({len(report.nodes)} nodes; nothing was run)"
    yield f"Order: {', '.join(report.order) or '-'}"
    yield "Levels:"
    for number, level in enumerate(report.levels, start=1):
        yield f"  {number}: {', '.join(level)}"
    yield f"Critical path: {' -> '.join(report.critical_path) or '-'}"
    if report.skipped:
        yield "Would be skipped:"
        yield from (f"  {node_id}: {reason}" for node_id, reason in report.skipped.items())
    if report.input_problems:
        yield "Input:"
        yield from (f"  {problem.pointer or '/'}: {problem.message}" for problem in report.input_problems)
    if report.unresolved:
        yield "Unresolved references:"
        yield from (f"  {ref.node_id} {ref.pointer}: {ref.source} ({ref.reason})" for ref in report.unresolved)
    yield "Nodes:"
    for node in report.nodes:
        after = f" after {', '.join(node.depends_on)}" if node.depends_on else ""
        section = "" if node.section == "nodes" else f" [{node.section}]"
        yield f"  {node.id} ({node.type}){section}{after}"
        yield from (f"    {key}: {to_json(value)}" for key, value in node.config.items())
