"""The admin page of one run: its graph, its timeline, its nodes and its events, each bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet, TextField
from django.db.models.functions import Cast, Substr
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from pyflow.core.errors import PyFlowError
from pyflow.core.states import TERMINAL_RUN_STATES
from pyflow.execution.plan import MAIN
from runs.admin import timeline
from runs.models import EventRecord, NodeRun, Run
from runs.storage.values import Reference
from workflows.graph_drawing import svg
from workflows.services import plan_of

#: How much of a run is on its page; the lists of nodes and events have all of it.
MOST_NODES = 300
MOST_EVENTS = 300
#: Characters of a node's output and of an event's data.
MOST_JSON = 2_000


@dataclass(frozen=True, slots=True)
class Node:
    """A row of the table of nodes."""

    row: NodeRun
    type: str
    config: str
    took: str
    output: str
    error: str
    progress: str


@dataclass(frozen=True, slots=True)
class RunPage:
    """Data of the template."""

    run: Run
    is_live: bool
    took: str
    waited: str
    graph: SafeString
    graph_problem: str
    timeline: SafeString
    nodes: list[Node]
    more_nodes: bool
    events: list[tuple[EventRecord, str]]
    more_events: bool
    children: list[Run]


def page_of(run: Run) -> RunPage:
    """All of a run that its page shows, in a number of queries that does not depend on it."""
    now = timezone.now()
    rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run)
    shown = list(_with_beginning(rows, "output").order_by(F("started_at").asc(nulls_last=True), "id")[: MOST_NODES + 1])
    events = EventRecord.objects.for_tenant(run.tenant_id).filter(run=run)
    newest = list(_with_beginning(events, "data").order_by("-seq")[: MOST_EVENTS + 1])
    plan, problem = None, ""
    try:
        plan = plan_of(run.version)
        drawing = svg(plan, dict(rows.values_list("node_id", "state")))
    except PyFlowError as error:  # too large to be drawn, or of a node type that is not installed any more
        drawing, problem = "", str(error)
    definitions = {} if plan is None else {node.id: node.definition for node in plan.nodes}
    bars = [
        timeline.Bar(node.node_id, node.state, node.started_at, node.finished_at) for node in shown if node.started_at
    ]
    return RunPage(
        run=run,
        is_live=run.state not in TERMINAL_RUN_STATES,
        took=_between(run.started_at, run.finished_at, now),
        waited=_between(run.created_at, run.started_at, now),
        graph=mark_safe(drawing),  # noqa: S308 - made here; every text in it is escaped
        graph_problem=problem,
        timeline=mark_safe(timeline.svg(bars, now=now)),  # noqa: S308 - as above
        nodes=[_node(node, definitions.get(node.node_id), now) for node in shown[:MOST_NODES]],
        more_nodes=len(shown) > MOST_NODES,
        events=[(event, _readable(event.beginning)) for event in reversed(newest[:MOST_EVENTS])],
        more_events=len(newest) > MOST_EVENTS,
        children=list(
            Run.objects.for_tenant(run.tenant_id).with_names().filter(parent=run).order_by("id")[:MOST_NODES]
        ),
    )


def main_nodes(run: Run) -> list[str]:
    """The nodes that a rerun can begin at, in their order; none if the version cannot run here any more."""
    try:
        plan = plan_of(run.version)
    except PyFlowError:
        return []
    return plan.ids(plan.sections[MAIN])


def _with_beginning(rows: QuerySet[Any], column: str) -> QuerySet[Any]:
    """The rows without a column of JSON that may be long, but with its ``beginning``."""
    shortened: QuerySet[Any] = rows.defer(column).annotate(
        beginning=Substr(Cast(column, TextField()), 1, MOST_JSON + 1)
    )
    return shortened


def _node(row: Any, definition: Any, now: datetime) -> Node:
    return Node(
        row=row,
        type="" if definition is None else definition.type,
        config="" if definition is None or not definition.config else _indented(definition.config),
        took=_between(row.started_at, row.finished_at, now),
        output=_output(row),
        error="" if row.error is None else _error(row.error),
        progress="" if row.progress is None else f"{row.progress['fraction']:.0%} {row.progress['message']}".strip(),
    )


def _error(error: dict[str, Any]) -> str:
    """The error as JSON, its traceback as text: in JSON its lines would be one."""
    rest = {key: value for key, value in error.items() if key != "traceback"}
    return "\n\n".join(filter(None, (_indented(rest), error.get("traceback"))))


def apart(reference: Any) -> str:
    """Return the text that stands for a value that is too large for its row."""
    found = Reference.of(reference)
    return (
        ""
        if found is None
        else f"{found.size:,} bytes of JSON, stored separately (SHA-256 {found.sha256}); read it with the API"
    )


def _output(row: Any) -> str:
    if row.output_ref is not None:
        return apart(row.output_ref)
    return "" if row.beginning in (None, "null") else _readable(row.beginning)


def _readable(beginning: str | None) -> str:
    """Indented JSON, or as much as there is of it."""
    if beginning is None or len(beginning) > MOST_JSON:
        return f"{(beginning or '')[:MOST_JSON]} …"
    return _indented(json.loads(beginning))


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _between(start: datetime | None, end: datetime | None, now: datetime) -> str:
    return "" if start is None else timeline.duration(max(0.0, ((end or now) - start).total_seconds()))
