"""Runs over HTTP."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from runs.api.serializers import (
    EventsShape,
    RunDetailShape,
    RunShape,
    SendSignal,
    SignalShape,
    StartRun,
    show_event,
    show_node,
    show_run,
)
from runs.models import NodeRun, RunEvent
from runs.services import cancel_run, find_run, signal_run, start_run
from tenants.access import Permission
from tenants.api.views import TenantView

EVENTS_SHOWN = 1000
FINISHED = {(409, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description="The run has ended")}
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name.")


class StartRunView(TenantView):
    """Runs of one workflow."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_start",
        summary="Start a run",
        parameters=[NAME],
        request=StartRun,
        responses={
            202: OpenApiResponse(
                RunShape, description="Accepted: it will be executed. `Location` is where it can be followed."
            )
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Start a run of the newest version. Once this is answered, nothing loses the run."""
        body = StartRun(data=request.data)
        body.is_valid(raise_exception=True)
        run = start_run(by=self.actor, workflow_name=name, input=body.validated_data["input"])
        location = reverse("run", kwargs={"run_id": run.pk}, request=request)
        return Response(show_run(run), status=202, headers={"Location": location})


class RunView(TenantView):
    """One run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    @extend_schema(operation_id="runs_read", summary="Read a run", responses=RunDetailShape)
    def get(self, request: Request, run_id: UUID) -> Response:
        """The run with its node runs and its first 1,000 events."""
        tenant_id = self.principal.tenant_id
        run = find_run(tenant_id=tenant_id, run_id=run_id)
        nodes = NodeRun.objects.for_tenant(tenant_id).filter(run=run)
        events = RunEvent.objects.for_tenant(tenant_id).filter(run=run).order_by("seq")[:EVENTS_SHOWN]
        body = show_run(run)
        body["nodes"] = [show_node(node) for node in nodes]
        body["events"] = [show_event(event) for event in events]
        return Response(body)


class SignalsView(TenantView):
    """Signals to one run."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_signal",
        summary="Send a signal to a run",
        request=SendSignal,
        responses={
            202: OpenApiResponse(SignalShape, description="Kept, whether or not a node waits for it already."),
            **FINISHED,
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Deliver a named payload. A decision on an approval is checked before it is accepted."""
        body = SendSignal(data=request.data)
        body.is_valid(raise_exception=True)
        signal = body.validated_data
        delivered = signal_run(
            by=self.actor,
            run_id=run_id,
            name=signal["name"],
            payload=signal["payload"],
            signal_id=signal.get("id"),
        )
        return Response({"delivered": delivered}, status=202)


class CancelView(TenantView):
    """The request to stop a run."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}

    @extend_schema(
        operation_id="runs_cancel",
        summary="Cancel a run",
        request=None,
        responses={202: OpenApiResponse(RunShape, description="The run stops as soon as it can."), **FINISHED},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Cooperative: running nodes are cancelled, completed ones compensated, then `finally` runs."""
        run = cancel_run(by=self.actor, run_id=run_id)
        return Response(show_run(run), status=202)


class EventsQuery(serializers.Serializer[dict[str, int]]):
    """Where to go on reading."""

    after = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=2**31 - 1, help_text="The `seq` of the last event you have."
    )
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1000)


class EventsView(TenantView):
    """The events of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    @extend_schema(
        operation_id="runs_events", summary="Read a run's events", parameters=[EventsQuery], responses=EventsShape
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """The events after `after`, in order. When they are empty and `state` is final, there will be no more."""
        query = EventsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        tenant_id = self.principal.tenant_id
        # The state is read before the events: a final state then means that no event is missing.
        run = find_run(tenant_id=tenant_id, run_id=run_id)
        rows = RunEvent.objects.for_tenant(tenant_id).filter(run=run, seq__gt=query.validated_data["after"])
        events = rows.order_by("seq")[: query.validated_data["limit"]]
        return Response({"results": [show_event(event) for event in events], "state": run.state})
