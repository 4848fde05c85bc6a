"""Shapes of runs in the API."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from plumbing.rest.serializers import Strict
from pyflow.core.events import EventType
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import WaitKind
from runs.models import EventRecord, NodeItem, NodeRun, Run, Trigger

#: As the filter of lists wants them.
LABEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,62}")
MOST_LABELS = 32


class StartRun(Strict):
    """The input and options of a new run."""

    input = serializers.DictField(
        required=False, default=dict, help_text="Checked against the workflow's `inputs`; `trigger` of a v1 workflow."
    )
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Version number. Default: the published version."
    )
    labels = serializers.DictField(
        child=serializers.CharField(max_length=255),
        required=False,
        default=dict,
        help_text="Labels in addition to those of the workflow.",
    )
    priority = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=9,
        help_text="From 1 (lowest) to 9 (highest). Default: the priority of the workflow.",
    )
    key = serializers.CharField(
        required=False,
        max_length=255,
        help_text="A workflow has at most one run per key: a second start with the same key returns the first run.",
    )

    def validate_labels(self, labels: dict[str, str]) -> dict[str, str]:
        """Names that can be filtered by."""
        wrong = [name for name in labels if not LABEL_NAME.fullmatch(name)]
        if wrong or len(labels) > MOST_LABELS:
            raise serializers.ValidationError(
                f"At most {MOST_LABELS} labels, each named by a letter and up to 62 letters, digits or ._/- after it."
            )
        return labels


class StartRuns(Strict):
    """Many runs of one workflow."""

    runs = serializers.ListField(
        child=serializers.JSONField(allow_null=True),  # read one by one: what is none keeps no other from being started
        min_length=1,
        max_length=1000,
        help_text="Each item is like the body of a single start.",
    )


class SendSignal(Strict):
    """A signal to a run. An approval waits for the signal `approval:<node id>`."""

    name = serializers.CharField(max_length=255)
    payload = serializers.JSONField(
        required=False,
        allow_null=True,
        default=None,
        help_text="For an approval: {approved, on_behalf_of?, comment?, data?}.",
    )
    id = serializers.CharField(
        required=False, max_length=255, help_text="A second signal with the same id is not delivered again."
    )


class SignalShape(serializers.Serializer[Any]):
    """The delivery of a signal."""

    delivered = serializers.BooleanField(help_text="False if a signal with this id was delivered before.")


class ErrorShape(serializers.Serializer[Any]):
    """The error of a run or a node."""

    code = serializers.CharField()
    message = serializers.CharField()
    type = serializers.CharField(help_text="Name of the exception class, such as `KeyError`.")
    node_id = serializers.CharField(allow_null=True)
    kind = serializers.CharField(
        required=False, help_text="What `retry_on` calls the error, such as `http_404`, `timeout` or `network`."
    )
    status = serializers.IntegerField(required=False, help_text="HTTP status of a failed answer.")
    body = serializers.JSONField(
        required=False,
        help_text="Body of a failed answer, with secrets masked: JSON, or text; at most 8,192 characters.",
    )
    traceback = serializers.CharField(
        required=False,
        help_text="Traceback through the node's code; only for unexpected exceptions of a node.",
    )


class StartedByShape(serializers.Serializer[Any]):
    """The key, user or system that started a run."""

    kind = serializers.CharField(help_text="key, user or system.")
    id = serializers.CharField()
    name = serializers.CharField()
    request_id = serializers.CharField(allow_blank=True)


class CalledByShape(serializers.Serializer[Any]):
    """The attempt of a node that started a child run."""

    node_id = serializers.CharField()
    item = serializers.CharField(allow_null=True, help_text="Key of the fan-out item.")
    attempt = serializers.IntegerField(help_text="Counted from 1; starts again at 1 after each retry of the parent.")
    retry = serializers.IntegerField(help_text="Number of retries of the parent before this attempt.")


class RunSummaryShape(serializers.Serializer[Any]):
    """A run without its input and outputs."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField([state.value for state in RunState])
    trigger = serializers.ChoiceField(
        [trigger.value for trigger in Trigger], help_text="The trigger that started the run."
    )
    started_by = StartedByShape(allow_null=True)
    labels = serializers.DictField(child=serializers.CharField())
    priority = serializers.IntegerField(help_text="From 1 (lowest) to 9 (highest).")
    key = serializers.CharField(allow_null=True)
    error = ErrorShape(allow_null=True)
    compensation = serializers.CharField(allow_null=True, help_text="Result of the compensation: succeeded or failed.")
    wake_at = serializers.DateTimeField(
        allow_null=True, help_text="Time at which a waiting run continues, unless a signal comes first."
    )
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]
    called_by = CalledByShape(allow_null=True, help_text="The node attempt of the parent run that started it.")
    source_run = serializers.UUIDField(allow_null=True, help_text="The run that this run repeats.")
    retries = serializers.IntegerField(help_text="Number of retries.")
    cancel_requested_at = serializers.DateTimeField(
        allow_null=True, help_text="Time of the cancel request. A waiting run is `queued` until a worker stops it."
    )
    pause_requested_at = serializers.DateTimeField(
        allow_null=True, help_text="Time of the pause request; no more nodes start after it."
    )
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class ReferenceShape(serializers.Serializer[Any]):
    """Reference to a value that is too large for this response."""

    sha256 = serializers.CharField(help_text="SHA-256 of the value as JSON.")
    size = serializers.IntegerField(help_text="Size of the value as JSON, in bytes.")


def _reference(where: str, what: str) -> ReferenceShape:
    return ReferenceShape(
        allow_null=True,
        help_text=f"Present if the value is stored separately because of its size: {what}, and `{where}` returns it.",
    )


class RunShape(RunSummaryShape):
    """A run."""

    input = serializers.DictField()
    input_ref = _reference("/input", "`input` is empty")
    outputs = serializers.JSONField()
    outputs_ref = _reference("/outputs", "`outputs` is null")


class RunsShape(serializers.Serializer[Any]):
    """A page of runs."""

    results = RunSummaryShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ProgressItemShape(serializers.Serializer[Any]):
    """An item of a fan-out."""

    index = serializers.IntegerField()
    key = serializers.CharField()


class ProgressShape(serializers.Serializer[Any]):
    """Progress reported by a node."""

    fraction = serializers.FloatField(min_value=0, max_value=1)
    message = serializers.CharField(help_text="Secrets in it are masked.")
    at = serializers.DateTimeField()
    item = ProgressItemShape(allow_null=True, help_text="The fan-out item that reported it.")


class NodeRunShape(serializers.Serializer[Any]):
    """A node of a run."""

    id = serializers.CharField()
    state = serializers.ChoiceField([state.value for state in NodeState])
    attempts = serializers.IntegerField()
    round = serializers.IntegerField(help_text="Round of `until`, from 1; 1 without.")
    output = serializers.JSONField()
    output_ref = _reference("/output", "`output` is null")
    error = ErrorShape(allow_null=True)
    reason = serializers.CharField(allow_null=True, help_text="Reason why the node was skipped.")
    wait = serializers.DictField(allow_null=True, help_text="What the node waits for: {until, signal, details}.")
    progress = ProgressShape(
        allow_null=True,
        help_text="The last progress report of the attempt, at most about one second old. Kept if the node fails; null "
        "once it has succeeded.",
    )
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class AttemptShape(serializers.Serializer[Any]):
    """One attempt of a node."""

    attempt = serializers.IntegerField()
    round = serializers.IntegerField(help_text="Round of `until`; 1 without.")
    state = serializers.CharField(help_text="running, succeeded, failed, …")
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.DictField(allow_null=True)


class NodeRunDetailShape(NodeRunShape):
    """A node of a run with its attempts."""

    type = serializers.CharField()
    history = AttemptShape(many=True, help_text="Attempts of the node, without those of fan-out items.")
    items = serializers.IntegerField(help_text="Number of recorded fan-out items; `/items` lists them.")


class NodeRunsShape(serializers.Serializer[Any]):
    """A page of the nodes of a run."""

    results = NodeRunShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ItemShape(serializers.Serializer[Any]):
    """One item of a fan-out."""

    index = serializers.IntegerField()
    key = serializers.CharField()
    state = serializers.ChoiceField([state.value for state in NodeState])
    attempts = serializers.IntegerField()
    round = serializers.IntegerField(help_text="Round of `until`, from 1; 1 without.")
    output = serializers.JSONField()
    output_ref = _reference("/output", "`output` is null")
    error = ErrorShape(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True, help_text="Start time of the first attempt.")
    wake_at = serializers.DateTimeField(allow_null=True, help_text="Time at which the next attempt or round is due.")
    wait = serializers.DictField(allow_null=True, help_text="What the item waits for: {until, signal, details}.")
    at = serializers.DateTimeField(help_text="Time of the last change of state.")


class ItemsShape(serializers.Serializer[Any]):
    """A page of items."""

    results = ItemShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class BatchItemShape(serializers.Serializer[Any]):
    """The result of one start: a run, or a problem document."""

    status = serializers.IntegerField(
        help_text="202: accepted. 200: a run with this `key` already existed. Other: refused."
    )
    run = RunSummaryShape(required=False)
    problem = serializers.DictField(
        required=False, help_text="A problem document; its pointers are relative to the item."
    )


class BatchShape(serializers.Serializer[Any]):
    """The result of each start, in the order of the request."""

    results = BatchItemShape(many=True)
    accepted = serializers.IntegerField(help_text="Number of new runs.")


class EventShape(serializers.Serializer[Any]):
    """An event: one shape in pages, streams and webhooks. `GET /api/v1/events/types` has the schemas."""

    id = serializers.UUIDField()
    seq = serializers.IntegerField(help_text="1, 2, 3… within a run, in the order of commits; 0 outside of runs.")
    type = serializers.CharField()
    at = serializers.DateTimeField()
    tenant = serializers.UUIDField()
    workflow = serializers.CharField(allow_null=True, help_text="Its name.")
    version = serializers.IntegerField(allow_null=True)
    run_id = serializers.UUIDField(allow_null=True)
    node_id = serializers.CharField(allow_null=True)
    data = serializers.DictField()  # type: ignore[assignment]
    origin = serializers.DictField(required=False, help_text="Of a custom event: `{id, source, subject, time?}`.")


class RunDetailShape(RunShape):
    """A run with its nodes and events."""

    nodes = NodeRunShape(many=True)
    events = EventShape(many=True, help_text="The first 1,000 events; `/events` lists all.")


class EventsShape(serializers.Serializer[Any]):
    """A page of events."""

    results = EventShape(many=True)
    state = serializers.ChoiceField([state.value for state in RunState], help_text="The current state of the run.")


_CALLED_BY = ("node_id", "item", "attempt", "retry")


def show_summary(run: Run) -> dict[str, Any]:
    """``RunSummaryShape`` of a row; its workflow and version must be loaded."""
    return {
        "id": str(run.pk),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "state": run.state,
        "trigger": run.trigger,
        "started_by": run.started_by,
        "labels": run.labels,
        "priority": run.priority,
        "key": run.dedupe_key,
        "error": run.error,
        "compensation": run.compensation or None,
        "wake_at": run.wake_at,
        "parent": None if run.parent_id is None else str(run.parent_id),
        "called_by": None if run.called_by is None else {name: run.called_by[name] for name in _CALLED_BY},
        "source_run": None if run.source_run_id is None else str(run.source_run_id),
        "retries": run.retries,
        "cancel_requested_at": run.cancel_requested_at,
        "pause_requested_at": run.pause_requested_at,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def show_run(run: Run) -> dict[str, Any]:
    """``RunShape`` of a row."""
    values = ("input_ref", "outputs_ref", "input", "outputs")
    return show_summary(run) | {name: getattr(run, name) for name in values}


def show_item(item: NodeItem) -> dict[str, Any]:
    """``ItemShape`` of a row."""
    return {
        "index": item.index,
        "key": item.key,
        "state": item.state,
        "attempts": item.attempts,
        "round": item.round,
        "output": item.output,
        "output_ref": item.output_ref,
        "error": item.error,
        "started_at": item.started_at,
        "wake_at": item.wake_at,
        "wait": item.wait,
        "at": item.at,
    }


def show_attempts(events: Iterable[EventRecord]) -> list[dict[str, Any]]:
    """Return ``AttemptShape`` data of each attempt in a node's events, in their order."""
    attempts: list[dict[str, Any]] = []
    by_number: dict[int, dict[str, Any]] = {}
    for event in events:
        number = event.data.get("attempt")
        if number is None or event.data.get("item") is not None:
            continue
        attempt = by_number.get(number)
        # After a retry of the run, attempts are counted from 1 again.
        if attempt is None or (attempt["finished_at"] is not None and event.type == EventType.NODE_STARTED):
            attempt = {"attempt": number, "round": event.data.get("round", 1), "state": "running", "started_at": None}
            attempt |= {"finished_at": None, "error": None}
            by_number[number] = attempt
            attempts.append(attempt)
        if event.type == EventType.NODE_STARTED:
            attempt["started_at"] = attempt["started_at"] or event.at
        elif event.type in _ENDS_OF_ATTEMPTS or _ends_round(event):
            attempt |= {"finished_at": event.at, "error": event.data.get("error")}
            attempt["state"] = event.data.get("state") or _ENDS_OF_ATTEMPTS.get(event.type, "succeeded")
    return attempts


def _ends_round(event: EventRecord) -> bool:
    """Return whether an attempt succeeded, and the node waits for its next round."""
    details = event.data.get("details") or {}
    return event.type == EventType.NODE_WAITING and details.get("kind") == WaitKind.ROUND


_ENDS_OF_ATTEMPTS = {
    str(EventType.NODE_SUCCEEDED): "succeeded",
    str(EventType.NODE_FAILED): "failed",
    str(EventType.NODE_RETRYING): "failed",
}


def show_node(node: NodeRun) -> dict[str, Any]:
    """``NodeRunShape`` of a row."""
    return {
        "id": node.node_id,
        "state": node.state,
        "attempts": node.attempts,
        "round": node.round,
        "output": node.output,
        "output_ref": node.output_ref,
        "error": node.error,
        "reason": node.reason or None,
        "wait": node.wait,
        "progress": node.progress,
        "started_at": node.started_at,
        "finished_at": node.finished_at,
    }


def show_event(event: EventRecord) -> dict[str, Any]:
    """Return ``EventShape`` data of an event, whose run (if it has one) was read with its names."""
    return event.as_dict()
