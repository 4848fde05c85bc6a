"""Why a run is where it is, over HTTP."""

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
    """One thing that keeps the run where it is."""

    code = serializers.CharField(
        help_text="ended, cancelling, pausing, paused, queue, quota, queue_timeout, slot, waiting, running, lost, "
        "unserved (no worker serves the queue that the run or tasks of its nodes wait in), presence_unknown (that "
        "cannot be told) or not_runnable."
    )
    detail = serializers.CharField(help_text="For people.")


class QueuePlaceShape(serializers.Serializer[Any]):
    """The place of a queued run. Tenants take turns; among those of one the most urgent comes first."""

    name = serializers.CharField(allow_blank=True, help_text="Whose workers execute it; empty: the default queue.")
    priority = serializers.IntegerField()
    ahead = serializers.IntegerField(help_text="How many of the tenant's queued runs come first; 10,000 at most.")
    running = serializers.IntegerField(help_text="How many of the tenant's runs are executed now.")
    limit = serializers.IntegerField(allow_null=True, help_text="The quota `concurrent_runs`.")
    deadline = serializers.DateTimeField(allow_null=True, help_text="Not started by then, it times out.")


class LeaseShape(serializers.Serializer[Any]):
    """Who executes the run."""

    owner = serializers.CharField()
    epoch = serializers.IntegerField(help_text="The fencing token: each claim has a greater one.")
    until = serializers.DateTimeField(allow_null=True)
    expired = serializers.BooleanField(help_text="Then another worker takes the run over.")
    claims = serializers.IntegerField(help_text="How often the run was claimed.")
    losses = serializers.IntegerField(help_text="How many workers in a row were lost with it.")


class HolderShape(serializers.Serializer[Any]):
    """Who holds a slot."""

    run_id = serializers.UUIDField()
    node_id = serializers.CharField(allow_blank=True, help_text="Empty: the run as a whole.")
    since = serializers.DateTimeField()


class SlotPlaceShape(serializers.Serializer[Any]):
    """A slot of a concurrency key that the run or a node of it holds or waits for."""

    node_id = serializers.CharField(allow_blank=True, help_text="Empty: the run as a whole.")
    key = serializers.CharField()
    limit = serializers.IntegerField()
    since = serializers.DateTimeField()
    ahead = serializers.IntegerField(allow_null=True, help_text="How many get one first; null: it holds one.")
    held = serializers.IntegerField(help_text="How many are held.")
    holders = HolderShape(many=True, help_text="The first 20 who hold one that it waits for.")


class ChildRunShape(serializers.Serializer[Any]):
    """A run that an attempt of a node has started."""

    run_id = serializers.UUIDField()
    workflow = serializers.CharField()
    state = serializers.ChoiceField(RUN_STATES)
    error = ErrorShape(allow_null=True)
    item = serializers.CharField(allow_null=True, help_text="The key of the item that it is for, of a fan-out.")
    attempt = serializers.IntegerField()


class TaskShape(serializers.Serializer[Any]):
    """Attempts of a node that any worker of a queue executes."""

    queue = serializers.CharField(allow_blank=True)
    attempts = serializers.IntegerField(help_text="How many it is of: items of a fan-out go together.")
    owner = serializers.CharField(allow_blank=True, help_text="Empty: no worker has claimed it yet.")
    epoch = serializers.IntegerField()
    until = serializers.DateTimeField(allow_null=True)


class NodeReasonShape(serializers.Serializer[Any]):
    """Why a node is where it is."""

    id = serializers.CharField()
    state = serializers.ChoiceField(NODE_STATES)
    code = serializers.CharField(
        help_text="dependencies, ready, section, slot, timer, signal, approval, child_run, retry, task, running, lost, "
        "interrupted, not_reached, pending, or the state in which it has ended."
    )
    detail = serializers.CharField(help_text="For people.")
    waits_for = serializers.ListField(child=serializers.CharField(), help_text="Nodes; 20 at most.")
    until = serializers.DateTimeField(allow_null=True, help_text="Its timer, its deadline or its next attempt.")
    signal = serializers.CharField(allow_null=True)
    attempts = serializers.IntegerField()
    error = ErrorShape(allow_null=True, help_text="Of its last attempt.")
    children = ChildRunShape(many=True, help_text="Those that it waits for, then the last 20 that it started.")
    tasks = TaskShape(many=True)
    items = serializers.DictField(child=serializers.IntegerField(), help_text="Of a fan-out: how many in each state.")
    progress = ProgressShape(allow_null=True, help_text="What its attempt reported last.")


class ConsequenceShape(serializers.Serializer[Any]):
    """A node that did not succeed because of others."""

    id = serializers.CharField()
    state = serializers.ChoiceField(NODE_STATES)
    because = serializers.ListField(child=serializers.CharField())


class FailureShape(serializers.Serializer[Any]):
    """What went wrong first, and what came of it."""

    node_id = serializers.CharField(allow_null=True, help_text="null: the run as a whole.")
    at = serializers.DateTimeField(allow_null=True)
    error = ErrorShape(allow_null=True)
    child = ChildRunShape(allow_null=True, help_text="The run in which it went wrong: explain that one.")
    consequences = ConsequenceShape(many=True, help_text="In the order of the graph; 100 at most.")
    more_consequences = serializers.IntegerField()


class VerbShape(serializers.Serializer[Any]):
    """Whether something can be asked of the run now."""

    verb = serializers.ChoiceField(VERBS)
    possible = serializers.BooleanField()
    why_not = serializers.CharField(allow_null=True)


class ExplanationShape(serializers.Serializer[Any]):
    """Why a run is where it is."""

    run = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField(RUN_STATES)
    reasons = ReasonShape(many=True)
    queue = QueuePlaceShape(allow_null=True, help_text="Of a queued run.")
    lease = LeaseShape(allow_null=True, help_text="Of a running run.")
    slots = SlotPlaceShape(many=True)
    signals = serializers.ListField(child=serializers.CharField(), help_text="Came early and are kept; the first 50.")
    states = serializers.DictField(child=serializers.IntegerField(), help_text="How many nodes are in each state.")
    nodes = NodeReasonShape(many=True, help_text="Those that have not succeeded; 200 at most, those under way first.")
    more_nodes = serializers.IntegerField()
    failure = FailureShape(allow_null=True)
    verbs = VerbShape(many=True)


class ExplainView(OfRun):
    """Why one run is where it is."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    @extend_schema(operation_id="runs_explain", summary="Explain a run", responses=ExplanationShape)
    def get(self, request: Request, run_id: UUID) -> Response:
        """What the run and each of its nodes wait for, what went wrong first, and what can be asked of it now."""
        return Response(asdict(explain_run(tenant_id=self.principal.tenant_id, run_id=run_id)))
