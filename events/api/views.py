"""The log of a tenant over HTTP."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from events.api.custom import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    CloudEvent,
    CloudEventParser,
    CloudEventsParser,
    NewEvent,
    ReceivedShape,
    events_of,
)
from events.api.serializers import NOW, EventLogShape, EventTypesShape, LogQuery, filter_of
from events.api.streams import LAST_EVENT_ID, STREAM, StreamingView, query_of, stream, wants_stream
from events.cursor import Cursor
from events.reading import end_of_log, read
from events.streams.sources import LogSource, RunSource
from events.types import KINDS, VERSION
from plumbing.rest.formats import JSONParser, YAMLParser
from plumbing.rest.serializers import validated
from runs.api.serializers import EventsShape, show_event
from runs.api.views import EventsQuery, EventsView
from runs.services.custom_events import append_events
from runs.services.find import find_run
from runs.storage import log
from tenants.access import Permission
from tenants.api.views import TenantView

REFUSED = {
    (status, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description=description)
    for status, description in (
        (400, "The cursor is not one of this log"),
        (410, "Events after the cursor were removed. `oldest` is the cursor to continue from."),
    )
}


class LogView(StreamingView):
    """The log of the tenant."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ, "POST": Permission.RUNS_WRITE}
    parser_classes = (JSONParser, YAMLParser, CloudEventParser, CloudEventsParser)
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="events_list",
        summary="Read the log of events",
        parameters=[LogQuery, LAST_EVENT_ID],
        responses={
            (200, "application/json"): EventLogShape,
            (200, "application/yaml"): EventLogShape,
            **STREAM,
            **REFUSED,
        },
    )
    def get(self, request: Request) -> Response | StreamingHttpResponse:
        """List events of workflows, runs, nodes and triggers after a cursor, in order, each once and without a gap.

        An event appears once no event can be added before it: usually at once, at the latest when the transactions
        that were open when it was committed have ended.

        With `Accept: text/event-stream` the answer goes on: further events are sent as they happen (`limit` does not
        apply), for five minutes. Then connect again with `Last-Event-ID`.
        """
        if wants_stream(request):
            return self._stream(request)
        query = validated(LogQuery, request.query_params)
        tenant_id, after = self.principal.tenant_id, query.get("after")
        page = read(tenant_id, after=_cursor(after, tenant_id), wanted=filter_of(query), limit=query["limit"])
        return Response(
            {
                "results": [show_event(event) for event in page.events],
                "next": page.next.encode(tenant_id),
                "has_more": page.has_more,
            }
        )

    @extend_schema(
        operation_id="events_create",
        summary="Send custom events",
        request={
            "application/json": NewEvent,
            "application/yaml": NewEvent,
            CLOUD_EVENT: CloudEvent,
            CLOUD_EVENTS: CloudEvent(many=True),
        },
        responses={
            202: ReceivedShape,
            (413, "application/problem+json"): OpenApiResponse(
                OpenApiTypes.OBJECT, description="The data of an event is too large"
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Append events of an application to the log: event triggers, streams and webhooks get them as all others.

        The body is one event, a CloudEvent 1.0 in its JSON format, or a batch of these. An event that is sent again
        with the same `source` and `id` is not appended again; the answer has the first one.
        """
        given = events_of(str(request.content_type).partition(";")[0].strip().lower(), request.data)
        records = append_events(tenant_id=self.principal.tenant_id, events=given)
        return Response({"results": [show_event(record) for record in records]}, status=202)

    def _stream(self, request: Request) -> StreamingHttpResponse:
        query, tenant_id = validated(LogQuery, query_of(request)), self.principal.tenant_id
        after = _cursor(query.get("after"), tenant_id)
        if after is None:
            after = Cursor.end_of(log.removed_to(tenant_id))
        read(tenant_id, after=after, limit=1)  # refused here, rather than on a stream that has begun
        return stream(request, self.principal, LogSource(tenant_id, filter_of(query)), after)


def _cursor(text: str | None, tenant_id: UUID) -> Cursor | None:
    if text is None:
        return None
    return end_of_log() if text == NOW else Cursor.decode(text, tenant_id)


class RunEventsView(StreamingView, EventsView):
    """The events of one run."""

    @extend_schema(
        operation_id="runs_events",
        summary="Read a run's events",
        parameters=[EventsQuery, LAST_EVENT_ID],
        responses={(200, "application/json"): EventsShape, (200, "application/yaml"): EventsShape, **STREAM},
    )
    def get(self, request: Request, run_id: UUID) -> Response | StreamingHttpResponse:  # type: ignore[override] # wider
        """List events after `after`, in order. The list is complete when it is empty and `state` is final.

        With `Accept: text/event-stream` the answer goes on: further events are sent as they happen, until the run has
        ended, and for five minutes at most. Then connect again with `Last-Event-ID`.
        """
        if not wants_stream(request):
            return super().get(request, run_id)
        after = validated(EventsQuery, query_of(request))["after"]
        find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        return stream(request, self.principal, RunSource(self.principal.tenant_id, run_id), after)


class EventTypesView(TenantView):
    """The types of events."""

    permissions: ClassVar = {"GET": None}

    @extend_schema(operation_id="event_types_list", summary="List event types", responses=EventTypesShape)
    def get(self, request: Request) -> Response:
        """List the types of events with the JSON Schema of each."""
        kinds = (
            {
                "type": kind.type.value,
                "version": VERSION,
                "description": kind.description,
                "stored": kind.stored,
                "schema": kind.schema(),
            }
            for kind in KINDS
        )
        return Response({"results": list(kinds)})
