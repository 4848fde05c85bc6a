"""Shapes of runs in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from pyflow.core.states import NodeState, RunState
from runs.models import NodeRun, Run, RunEvent
from tenants.api.serializers import Strict


class StartRun(Strict):
    """What a run is started with."""

    input = serializers.DictField(
        required=False, default=dict, help_text="Checked against the workflow's `inputs`; `trigger` of a v1 workflow."
    )


class SendSignal(Strict):
    """A signal to a run. An approval waits for the signal `approval:<node id>`."""

    name = serializers.CharField(max_length=255)
    payload = serializers.JSONField(
        required=False, allow_null=True, default=None, help_text="For an approval: {approved, by?, comment?, data?}."
    )
    id = serializers.CharField(
        required=False, max_length=255, help_text="A second signal with the same id is not delivered again."
    )


class SignalShape(serializers.Serializer[Any]):
    """What became of a signal."""

    delivered = serializers.BooleanField(help_text="False: a signal with this id was delivered before.")


class ErrorShape(serializers.Serializer[Any]):
    """Why a run or a node failed."""

    code = serializers.CharField()
    message = serializers.CharField()
    type = serializers.CharField()
    node_id = serializers.CharField(allow_null=True)


class RunShape(serializers.Serializer[Any]):
    """A run."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField([state.value for state in RunState])
    input = serializers.DictField()
    outputs = serializers.JSONField(allow_null=True)
    error = ErrorShape(allow_null=True)
    compensation = serializers.CharField(allow_null=True, help_text="How undoing went: succeeded or failed.")
    wake_at = serializers.DateTimeField(allow_null=True, help_text="When a waiting run goes on, signals apart.")
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class NodeRunShape(serializers.Serializer[Any]):
    """A node of a run."""

    id = serializers.CharField()
    state = serializers.ChoiceField([state.value for state in NodeState])
    attempts = serializers.IntegerField()
    output = serializers.JSONField(allow_null=True)
    error = ErrorShape(allow_null=True)
    reason = serializers.CharField(allow_null=True, help_text="Why it was skipped.")
    wait = serializers.DictField(allow_null=True, help_text="What it waits for: {until, signal, details}.")
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class EventShape(serializers.Serializer[Any]):
    """A fact about a run; `seq` is 1, 2, 3… in the order of commits."""

    seq = serializers.IntegerField()
    type = serializers.CharField()
    at = serializers.DateTimeField()
    node_id = serializers.CharField(allow_null=True)
    data = serializers.DictField()  # type: ignore[assignment]


class RunDetailShape(RunShape):
    """A run with its nodes and events."""

    nodes = NodeRunShape(many=True)
    events = EventShape(many=True, help_text="The first 1,000; `/events` has all of them.")


class EventsShape(serializers.Serializer[Any]):
    """Events after a given one."""

    results = EventShape(many=True)
    state = serializers.ChoiceField([state.value for state in RunState], help_text="The run's state by now.")


def show_run(run: Run) -> dict[str, Any]:
    """``RunShape`` of a row; its workflow and version must be loaded."""
    return {
        "id": str(run.pk),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "state": run.state,
        "input": run.input,
        "outputs": run.outputs,
        "error": run.error,
        "compensation": run.compensation or None,
        "wake_at": run.wake_at,
        "parent": None if run.parent_id is None else str(run.parent_id),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def show_node(node: NodeRun) -> dict[str, Any]:
    """``NodeRunShape`` of a row."""
    return {
        "id": node.node_id,
        "state": node.state,
        "attempts": node.attempts,
        "output": node.output,
        "error": node.error,
        "reason": node.reason or None,
        "wait": node.wait,
        "started_at": node.started_at,
        "finished_at": node.finished_at,
    }


def show_event(event: RunEvent) -> dict[str, Any]:
    """``EventShape`` of a row."""
    return {
        "seq": event.seq,
        "type": event.type,
        "at": event.at,
        "node_id": event.node_id or None,
        "data": event.data,
    }
