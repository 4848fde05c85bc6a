"""Streams over HTTP: the same addresses as the pages of events, asked for by ``Accept: text/event-stream``.

The views of the pages decide who may read, from where, and what is refused; only the answer is another one. They run in
a thread, as every view does, and are left before the first event is sent.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAcceptable
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from events import tickets
from events.streams.access import PrincipalAccess
from events.streams.rows import Place
from events.streams.sources import Source
from events.streams.sse import MEDIA_TYPE, EventStreamResponse, Plan
from plumbing.rest.renderers import OwnAnswer
from tenants.access import Permission, Principal
from tenants.api.authentication import BearerAuthentication
from tenants.api.views import TenantView
from tenants.errors import InvalidKeyError, InvalidTokenError

NOT_SERVED = (
    "This server answers requests one at a time and cannot keep streams open. Ask a server that runs the ASGI "
    "application, or read pages with `Accept: application/json`."
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    str,
    OpenApiParameter.HEADER,
    description="Of a stream: the `id` of the last event received. Comes before `after`.",
)
STREAM = {
    (200, MEDIA_TYPE): OpenApiResponse(
        OpenApiTypes.STR,
        description="Server-sent events. `data` is an event, `event` its type, `id` the cursor to resume from. "
        "Comments are heartbeats; `node.progress` and the last event, `end`, have no `id`.",
    )
}


class EventStreamRenderer(OwnAnswer):
    """Lets streams through ``Accept``."""

    media_type = MEDIA_TYPE
    format = "sse"


class TicketAuthentication(BaseAuthentication):
    """``Authorization: Ticket …``, for streams alone."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """The principal who asked for the ticket, which is used up; ``AuthenticationFailed`` for a bad one."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "ticket" or not wants_stream(request):
            return None
        run_id = request.parser_context["kwargs"].get("run_id")
        try:
            return tickets.redeem(text.strip(), run_id=run_id), None
        except (InvalidKeyError, InvalidTokenError) as error:
            raise AuthenticationFailed(str(error)) from None

    def authenticate_header(self, request: Request) -> str:
        """``WWW-Authenticate`` of a 401."""
        return 'Ticket realm="pyflow"'


class StreamingView(TenantView):
    """Base of the views of events, which answer with a stream, too."""

    authentication_classes = (BearerAuthentication, TicketAuthentication)

    def get_renderers(self) -> list[BaseRenderer]:
        """The usual ones; what is read can be streamed."""
        reads = self.request.method in SAFE_METHODS
        return [*super().get_renderers(), EventStreamRenderer()] if reads else super().get_renderers()


def wants_stream(request: Request) -> bool:
    """Return whether a stream was asked for."""
    return getattr(getattr(request, "accepted_renderer", None), "media_type", None) == MEDIA_TYPE


def query_of(request: Request) -> Any:
    """Return the query; ``after`` is what the client received last, if it says so."""
    received = request.headers.get("Last-Event-ID", "").strip()
    if not received:
        return request.query_params
    query = request.query_params.copy()
    query["after"] = received
    return query


def stream(request: Request, principal: Principal, source: Source, after: Place) -> EventStreamResponse:
    """Answer with a stream. Raises ``NotAcceptable`` in a server that cannot keep one open."""
    if not isinstance(request._request, ASGIRequest):
        raise NotAcceptable(NOT_SERVED, code="streams_not_served")
    by_grant = not principal.may(Permission.RUNS_READ)
    run_id: UUID | None = source.run_id if by_grant else None
    return EventStreamResponse(Plan(source, after, PrincipalAccess(principal, run_id, by_grant)))
