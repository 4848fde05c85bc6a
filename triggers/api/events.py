"""Event triggers over HTTP: which there are, and the events that they could not start a run for."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import ETAG, etag, is_known
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView
from triggers.models import EventTrigger, FailureState, TriggerFailure
from triggers.services.events.advance import retry_failure
from triggers.services.events.rows import event_triggers_of, failures_of, find_event_trigger, lock_failure


class EventTriggersQuery(PageQuery):
    """Query parameters of the list of event triggers."""

    workflow = serializers.CharField(required=False, max_length=128, help_text="Name of the workflow that is started.")


class EventTriggerShape(serializers.Serializer[Any]):
    """An event trigger."""

    id = serializers.UUIDField()
    workflow = serializers.CharField(help_text="Name of the workflow that it starts.")
    version = serializers.IntegerField(help_text="Number of the version that declares it.")
    trigger = serializers.CharField(help_text="Id of the trigger in the document.")
    on = serializers.ListField(child=serializers.CharField(), help_text="Types of events.")
    from_workflows = serializers.ListField(
        child=serializers.CharField(), help_text="Only events of these workflows; none: of any."
    )
    within = serializers.FloatField(
        allow_null=True, help_text="Seconds within which the event is expected, if the trigger fires without it."
    )
    open_failures = serializers.IntegerField(help_text="Failures that are not resolved.")
    fired_at = serializers.DateTimeField(allow_null=True, help_text="When it last started a run.")
    created_at = serializers.DateTimeField()


class EventTriggerListShape(serializers.Serializer[Any]):
    """A page of event triggers, the oldest first."""

    results = EventTriggerShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class FailuresQuery(PageQuery):
    """Query parameters of the failures of an event trigger."""

    state = serializers.ChoiceField(FailureState.values, required=False)


class FailureErrorShape(serializers.Serializer[Any]):
    """The failure to start a run for an event."""

    code = serializers.CharField()
    message = serializers.CharField()


class TriggerFailureShape(serializers.Serializer[Any]):
    """An event that an event trigger could not start a run for."""

    id = serializers.UUIDField()
    event = serializers.DictField(allow_null=True, help_text="The event, as in the log.")
    error = FailureErrorShape(help_text="Of the last attempt.")
    attempts = serializers.IntegerField()
    state = serializers.ChoiceField(FailureState.values)
    due_at = serializers.DateTimeField(allow_null=True, help_text="When it is tried again.")
    run_id = serializers.UUIDField(allow_null=True, help_text="The run that an attempt started.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class TriggerFailuresShape(serializers.Serializer[Any]):
    """A page of failures, the newest first."""

    results = TriggerFailureShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class EventTriggersView(TenantView):
    """The event triggers of the tenant."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="event_triggers_list",
        summary="List event triggers",
        parameters=[EventTriggersQuery],
        responses=EventTriggerListShape,
    )
    def get(self, request: Request) -> Response:
        """List the event triggers of published versions."""
        query = validated(EventTriggersQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = event_triggers_of(tenant_id)
        if "workflow" in query:
            rows = rows.filter(workflow__name=query["workflow"])
        page = paginate(request, rows, query, tenant_id=tenant_id, order=("created_at", "id"))
        return page.response(show_event_trigger)


class EventTriggerView(TenantView):
    """One event trigger."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="event_triggers_read",
        summary="Read an event trigger",
        parameters=[ETAG],
        responses={200: EventTriggerShape, 304: OpenApiResponse(description="Nothing changed")},
    )
    def get(self, request: Request, trigger_id: UUID) -> Response:
        """Read an event trigger, with the number of failures that are not resolved."""
        shown = show_event_trigger(find_event_trigger(tenant_id=self.principal.tenant_id, trigger_id=trigger_id))
        tag = etag(*shown.values())
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        return Response(shown, headers={"ETag": tag})


class TriggerFailuresView(TenantView):
    """The failures of an event trigger."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="trigger_failures_list",
        summary="List failures of an event trigger",
        parameters=[FailuresQuery],
        responses=TriggerFailuresShape,
    )
    def get(self, request: Request, trigger_id: UUID) -> Response:
        """List the events that no run could be started for. They are tried again by themselves, up to 7 times."""
        query = validated(FailuresQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = failures_of(find_event_trigger(tenant_id=tenant_id, trigger_id=trigger_id))
        if "state" in query:
            rows = rows.filter(state=query["state"])
        order = ("-created_at", "-id")
        return paginate(request, rows, query, tenant_id=tenant_id, order=order).response(show_failure)


class RetryFailureView(TenantView):
    """Another attempt to start a run for an event."""

    permissions: ClassVar = {"POST": Permission.RUNS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})

    @extend_schema(
        operation_id="trigger_failures_retry",
        summary="Try a failed event again",
        request=None,
        responses={
            200: TriggerFailureShape,
            (409, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description="It is resolved"),
        },
    )
    def post(self, request: Request, trigger_id: UUID, failure_id: UUID) -> Response:
        """Try now, with the trigger as it is published now. The answer has the result, and the next error if any."""
        row = find_event_trigger(tenant_id=self.principal.tenant_id, trigger_id=trigger_id)
        return Response(show_failure(retry_failure(lock_failure(row=row, failure_id=failure_id))))


def show_event_trigger(row: Any) -> dict[str, Any]:
    """``EventTriggerShape`` of a row of ``event_triggers_of``."""
    trigger: EventTrigger = row
    config = trigger.declaration()
    return {
        "id": str(trigger.pk),
        "workflow": trigger.workflow.name,
        "version": trigger.version,
        "trigger": trigger.trigger,
        "on": list(config.on),
        "from_workflows": list(config.workflow),
        "within": None if config.expect is None else config.expect.within,
        "open_failures": row.open_failures,
        "fired_at": trigger.fired_at,
        "created_at": trigger.created_at,
    }


def show_failure(failure: TriggerFailure) -> dict[str, Any]:
    """``TriggerFailureShape`` of a row."""
    return {
        "id": str(failure.pk),
        "event": failure.facts.get("event"),
        "error": failure.error,
        "attempts": failure.attempts,
        "state": failure.state,
        "due_at": failure.due_at,
        "run_id": None if failure.run_id is None else str(failure.run_id),
        "created_at": failure.created_at,
        "updated_at": failure.updated_at,
    }
