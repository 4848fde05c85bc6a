"""Explanations of runs over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pyflow.core.states import NodeState, RunState
from runs.api.serializers import ErrorShape, ProgressShape
from runs.api.shared import OfRun
from runs.explain.diagnosis import VERBS
from runs.explain.explanation import explain_run
from tenants.access import Permission

RUN_STATES = [state.value for state in RunState]
NODE_STATES = [state.value for state in NodeState]


class ReasonShape(serializers.Serializer[Any]):
    """One reason for the run's current state."""

    code = serializers.CharField(
        help_text="ended, cancelling, pausing, paused, queue, quota, queue_timeout, slot, waiting, running, lost, "
        "items (a fan-out succeeded although items failed or were skipped), "
        "unserved (no worker serves the queue that the run or tasks of its nodes wait in), presence_unknown (it "
        "is not known whether one does) or not_runnable."
    )
    detail = serializers.CharField(help_text="Human-readable description.")


class QueuePlaceShape(serializers.Serializer[Any]):
    """The place of a queued run. Tenants share workers fairly; within a tenant, higher priority comes first."""

    name = serializers.CharField(allow_blank=True, help_text="Name of the queue; empty for the default queue.")
    priority = serializers.IntegerField()
    ahead = serializers.IntegerField(help_text="Number of the tenant's queued runs ahead of it; at most 10,000.")
    running = serializers.IntegerField(help_text="Number of the tenant's runs being executed.")
    limit = serializers.IntegerField(allow_null=True, help_text="The quota `concurrent_runs`.")
    deadline = serializers.DateTimeField(allow_null=True, help_text="The run times out if it has not started by then.")


class LeaseShape(serializers.Serializer[Any]):
    """The lease of the worker that executes the run."""

    owner = serializers.CharField()
    epoch = serializers.IntegerField(help_text="Fencing token; it increases with each claim.")
    until = serializers.DateTimeField(allow_null=True)
    expired = serializers.BooleanField(help_text="If true, another worker takes over the run.")
    claims = serializers.IntegerField(help_text="Number of claims of the run.")
    losses = serializers.IntegerField(help_text="Number of consecutive workers lost while executing the run.")


class HolderShape(serializers.Serializer[Any]):
    """The run or node that holds a slot."""

    run_id = serializers.UUIDField()
    node_id = serializers.CharField(allow_blank=True, help_text="Empty if the run as a whole holds it.")
    since = serializers.DateTimeField()


class SlotPlaceShape(serializers.Serializer[Any]):
    """A slot of a concurrency key that the run or a node of it holds or waits for."""

    node_id = serializers.CharField(allow_blank=True, help_text="Empty if the run as a whole holds it.")
    key = serializers.CharField()
    limit = serializers.IntegerField()
    since = serializers.DateTimeField()
    ahead = serializers.IntegerField(
        allow_null=True, help_text="Number of waiters ahead of it; null if it holds a slot."
    )
    held = serializers.IntegerField(help_text="Number of slots in use.")
    holders = HolderShape(many=True, help_text="Holders of the slots that it waits for; at most 20.")


class ChildRunShape(serializers.Serializer[Any]):
    """A run that an attempt of a node has started."""

    run_id = serializers.UUIDField()
    workflow = serializers.CharField()
    state = serializers.ChoiceField(RUN_STATES)
    error = ErrorShape(allow_null=True)
    item = serializers.CharField(allow_null=True, help_text="Key of the fan-out item that started it.")
    attempt = serializers.IntegerField()


class TaskShape(serializers.Serializer[Any]):
    """Attempts of a node that are executed by workers of another queue."""

    queue = serializers.CharField(allow_blank=True)
    attempts = serializers.IntegerField(help_text="Number of attempts; fan-out items are grouped into one task.")
    owner = serializers.CharField(allow_blank=True, help_text="Empty until a worker has claimed the task.")
    epoch = serializers.IntegerField()
    until = serializers.DateTimeField(allow_null=True)


class ItemReasonShape(serializers.Serializer[Any]):
    """Explanation of the wait of one item of a fan-out."""

    index = serializers.IntegerField()
    key = serializers.CharField()
    code = serializers.CharField(help_text="timer, signal, approval, round or retry.")
    detail = serializers.CharField(help_text="Human-readable description.")
    until = serializers.DateTimeField(allow_null=True)
    signal = serializers.CharField(allow_null=True)


class NodeReasonShape(serializers.Serializer[Any]):
    """An explanation of a node's current state."""

    id = serializers.CharField()
    state = serializers.ChoiceField(NODE_STATES)
    code = serializers.CharField(
        help_text="dependencies, ready, section, slot, timer, signal, approval, child_run, round, items, retry, task, "
        "running, lost, interrupted, not_reached, pending, or the state in which it has ended."
    )
    detail = serializers.CharField(help_text="Human-readable description.")
    waits_for = serializers.ListField(child=serializers.CharField(), help_text="Nodes; 20 at most.")
    until = serializers.DateTimeField(allow_null=True, help_text="Its timer, its deadline or its next attempt.")
    signal = serializers.CharField(allow_null=True)
    attempts = serializers.IntegerField()
    error = ErrorShape(allow_null=True, help_text="Error of the last attempt.")
    children = ChildRunShape(many=True, help_text="Child runs: those it waits for, then the last 20 that it started.")
    tasks = TaskShape(many=True)
    items = serializers.DictField(child=serializers.IntegerField(), help_text="Number of fan-out items in each state.")
    waiting_items = ItemReasonShape(many=True, help_text="Items that wait; the first 20.")
    progress = ProgressShape(allow_null=True, help_text="The last progress report of its attempt.")


class ConsequenceShape(serializers.Serializer[Any]):
    """A node that did not succeed because another node failed."""

    id = serializers.CharField()
    state = serializers.ChoiceField(NODE_STATES)
    because = serializers.ListField(child=serializers.CharField())


class FailureShape(serializers.Serializer[Any]):
    """The first failure and its consequences."""

    node_id = serializers.CharField(allow_null=True, help_text="null if the run as a whole failed.")
    at = serializers.DateTimeField(allow_null=True)
    error = ErrorShape(allow_null=True)
    child = ChildRunShape(allow_null=True, help_text="The child run that failed; request its explanation for details.")
    consequences = ConsequenceShape(many=True, help_text="In the order of the graph; at most 100.")
    more_consequences = serializers.IntegerField()


class VerbShape(serializers.Serializer[Any]):
    """An action, whether it is possible in the run's current state and, if not, the reason."""

    verb = serializers.ChoiceField(VERBS)
    possible = serializers.BooleanField()
    why_not = serializers.CharField(allow_null=True)


class ExplanationShape(serializers.Serializer[Any]):
    """An explanation of a run's current state."""

    run = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField(RUN_STATES)
    reasons = ReasonShape(many=True)
    queue = QueuePlaceShape(allow_null=True, help_text="Place in the queue; only for a queued run.")
    lease = LeaseShape(allow_null=True, help_text="Lease of the worker; only for a running run.")
    slots = SlotPlaceShape(many=True)
    signals = serializers.ListField(
        child=serializers.CharField(), help_text="Signals received before a node waits for them; the first 50."
    )
    states = serializers.DictField(child=serializers.IntegerField(), help_text="Number of nodes in each state.")
    nodes = NodeReasonShape(many=True, help_text="Nodes that have not succeeded, active ones first; at most 200.")
    more_nodes = serializers.IntegerField()
    failure = FailureShape(allow_null=True)
    verbs = VerbShape(many=True)


class ExplainView(OfRun):
    """The explanation of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    @extend_schema(operation_id="runs_explain", summary="Explain a run", responses=ExplanationShape)
    def get(self, request: Request, run_id: UUID) -> Response:
        """Explain what the run and each node wait for, the first failure, and the actions that are possible now."""
        return Response(asdict(explain_run(tenant_id=self.principal.tenant_id, run_id=run_id)))
