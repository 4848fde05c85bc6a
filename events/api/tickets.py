"""Tickets for streams over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from events.tickets import SECONDS, issue
from plumbing.rest.serializers import Strict, validated
from runs.services.find import find_run, workflow_of_run
from tenants.access import Permission
from tenants.api.views import TenantView
from workflows.models import Workflow


class TicketFor(Strict):
    """The stream that a ticket is asked for."""

    run = serializers.UUIDField(
        required=False,
        allow_null=True,
        default=None,
        help_text="The run whose events are to be followed. Without it, the ticket is for the tenant's log.",
    )


class TicketShape(serializers.Serializer[Any]):
    """A ticket."""

    ticket = serializers.CharField(help_text="Opens one stream, once.")
    expires_at = serializers.DateTimeField()
    expires_in = serializers.IntegerField(help_text="Lifetime in seconds.")
    run = serializers.UUIDField(allow_null=True)


class TicketsView(TenantView):
    """Tickets for streams."""

    permissions: ClassVar = {"POST": Permission.RUNS_READ}
    keeps_answers: ClassVar = False

    def shared_object(self) -> Workflow | None:
        """The run's workflow may have been shared with who asks."""
        run_id = self._run_id(self.request)
        return None if run_id is None else workflow_of_run(tenant_id=self.principal.tenant_id, run_id=run_id)

    @extend_schema(
        operation_id="auth_tickets",
        summary="Get a ticket for a stream",
        tags=["auth"],
        request=TicketFor,
        responses={201: TicketShape},
    )
    def post(self, request: Request) -> Response:
        """Issue a ticket that opens one stream of events within 30 seconds, as the caller of this request.

        A browser sends it as the WebSocket subprotocol `ticket.<ticket>` beside `pyflow.v1`, or, with `fetch` and
        `Accept: text/event-stream`, as `Authorization: Ticket <ticket>`.
        """
        run_id = self._run_id(request)
        if run_id is not None:
            find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        ticket = issue(self.principal, run_id=run_id)
        body = {"ticket": ticket.text, "expires_at": ticket.expires_at, "expires_in": SECONDS, "run": run_id}
        return Response(body, status=201, headers={"Cache-Control": "no-store"})

    def _run_id(self, request: Request) -> UUID | None:
        run_id: UUID | None = validated(TicketFor, request.data)["run"]
        return run_id
