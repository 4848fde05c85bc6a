"""Formats the answers of a server for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from pyflow.cli.console import out, table, to_json
from pyflow.core.messages import cut
from pyflow.core.result import headline

if TYPE_CHECKING:
    from pyflow_client import Approval, ErrorInfo, Event, Explanation, LogLine, Run, RunSummary

#: Characters of a value on a line.
_SHOWN = 200


def columns(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows below their heading; of no rows, the heading alone."""
    out("\n".join(table([heading, *rows], "")))


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def runs_table(runs: Iterable[RunSummary]) -> None:
    """A line a run."""
    rows = [(run.id, run.workflow, str(run.version), run.state, moment(run.created_at), _took(run)) for run in runs]
    columns(("ID", "WORKFLOW", "VERSION", "STATE", "CREATED", "TOOK"), rows)


def approvals_table(approvals: Iterable[Approval]) -> None:
    """A line an approval."""
    rows = [
        (item.run, item.workflow, item.signal, ", ".join(item.assignees), cut(to_json(item.message), _SHOWN))
        for item in approvals
    ]
    columns(("RUN", "WORKFLOW", "SIGNAL", "ASSIGNEES", "MESSAGE"), rows)


def run_line(run: RunSummary) -> str:
    """A run in a line."""
    asked = " (pausing)" if run.pause_requested_at is not None and run.state != "paused" else ""
    if run.cancel_requested_at is not None and run.finished_at is None:
        asked = " (stopping)"
    return f"{run.id}  {run.workflow}  {run.state}{asked}{_why(run)}"


def run_text(run: Run) -> Iterator[str]:
    """A run with its nodes, and what came of it."""
    yield run_line(run)
    yield f"  version {run.version}, created {moment(run.created_at)}{f', took {_took(run)}' if _took(run) else ''}"
    if run.nodes:
        rows = [
            (node.id, node.state, "" if node.attempts < 2 else f"{node.attempts} attempts", _note(node))
            for node in run.nodes
        ]
        yield from table(rows)
    if run.outputs is not None:
        yield f"  outputs: {to_json(run.outputs)}"


def event_line(event: Event) -> str:
    """An event in a line."""
    error = event.data.get("error")
    what = f" — {error['message']}" if isinstance(error, dict) and error.get("message") else ""
    return f"{event.at:%H:%M:%S}  {event.node_id or 'run'}: {event.type.rpartition('.')[2]}{what}"


def logged_line(event: Event) -> str:
    """An event of the log of a tenant in a line: what it is about, and what happened."""
    about = " ".join(filter(None, (event.workflow, event.run_id, event.node_id)))
    return f"{event.at:%H:%M:%S}  {event.type:<16}{about and f'  {about}'}"


def log_line(line: LogLine) -> str:
    """A line of a log; what follows in a text of several lines is indented."""
    item = "" if line.item is None else f"[{line.item}]"
    text = line.message.replace("\n", "\n    ")
    return f"{line.at:%H:%M:%S}  {line.level:<8}  {line.node_id or 'run'}{item}: {text}"


def explanation_text(explanation: Explanation) -> Iterator[str]:
    """An explanation of a run's current state."""
    yield f"{explanation.run}  {explanation.workflow}  {explanation.state}"
    yield from (f"  {reason.detail}" for reason in explanation.reasons)
    states = ", ".join(f"{count} {state}" for state, count in explanation.states.items())
    if states:
        yield f"Nodes: {states}"
    yield from table([(node.id, node.state, node.detail) for node in explanation.nodes]) if explanation.nodes else ()
    if explanation.more_nodes:
        yield f"  … and {explanation.more_nodes} more"
    if explanation.signals:
        yield f"Signals received early: {', '.join(explanation.signals)}"
    yield from _failure_text(explanation)
    yield f"Possible now: {', '.join(explanation.possible) or 'nothing'}"
    yield from (f"  not {verb.verb}: {verb.why_not}" for verb in explanation.verbs if not verb.possible)


def _failure_text(explanation: Explanation) -> Iterator[str]:
    failure = explanation.failure
    if failure is None:
        return
    error = f": {_headline(failure.error)}" if failure.error is not None else ""
    yield f"First failure: {failure.node_id or 'the run as a whole'}{error}"
    if failure.child is not None:
        yield f"  in the run {failure.child.run_id} of {failure.child.workflow}, which {failure.child.state}"
    for item in failure.consequences:
        yield f"  so {item.id} was {item.state} (after {', '.join(item.because)})"
    if failure.more_consequences:
        yield f"  … and {failure.more_consequences} more"


def _took(run: RunSummary) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return f"{(run.finished_at - run.started_at).total_seconds():.3g} s"


def _why(run: RunSummary) -> str:
    return "" if run.error is None else f"  {_headline(run.error)}"


def _note(node: object) -> str:
    error, reason, wait = (getattr(node, name) for name in ("error", "reason", "wait"))
    if error is not None:
        return cut(_headline(error), _SHOWN)
    if wait is not None:
        until = f"until {moment(wait.until)}" if wait.until is not None else ""
        return " or ".join(filter(None, (f"waits for {wait.signal}" if wait.signal else "", until)))
    return reason or ""


def _headline(error: ErrorInfo) -> str:
    return headline(error.code, error.type, error.message)
