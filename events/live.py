"""Streams for pages of the admin, which know their user by the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.http import require_GET

from events.reading import EVERYTHING, end_of_log
from events.streams.access import NOT_ALLOWED
from events.streams.rows import End, Place
from events.streams.sources import LogSource, RunSource, Source
from events.streams.sse import EventStreamResponse, Plan
from runs.models import Run
from tenants.access import Permission
from tenants.admin.access import may
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class SessionAccess:
    """The access of a user of the admin to a tenant: by Django's permission, and by the role in the tenant."""

    user_id: str
    tenant_id: UUID
    ends_at: datetime | None = None
    #: Sessions and permissions of Django change without the tenant's ``auth_version``.
    is_fleeting: bool = True

    def refusal(self) -> End | None:
        """Look the user up."""
        request = HttpRequest()
        user = User.objects.filter(pk=self.user_id, is_active=True, is_staff=True).first()
        if user is None or not user.has_perm("runs.view_run"):
            return NOT_ALLOWED
        request.user = user
        return None if may(request, Permission.RUNS_READ, self.tenant_id) else NOT_ALLOWED


@require_GET
def run_stream(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Stream the events of a run after those that its page shows."""
    tenant_id = Run.objects.across_tenants().filter(pk=run_id).values_list("tenant_id", flat=True).first()
    text = request.headers.get("Last-Event-ID") or request.GET.get("after", "0")
    after = int(text) if text.isascii() and text.isdigit() else 0
    return _stream(request, tenant_id, lambda found: (RunSource(found, run_id), after))


@require_GET
def tenant_stream(request: HttpRequest, tenant_id: UUID) -> HttpResponseBase:
    """Stream what happens in a tenant from now on: its page is read anew when anything does."""
    found = Tenant.objects.filter(pk=tenant_id).values_list("pk", flat=True).first()
    return _stream(request, found, lambda found: (LogSource(found, EVERYTHING), end_of_log()))


def _stream(
    request: HttpRequest, tenant_id: UUID | None, plan: Callable[[UUID], tuple[Source, Place]]
) -> HttpResponseBase:
    if not request.user.is_authenticated:
        raise PermissionDenied
    if tenant_id is None:
        raise Http404
    access = SessionAccess(str(request.user.pk), tenant_id)
    if access.refusal() is not None:
        raise Http404
    if not isinstance(request, ASGIRequest):
        return HttpResponse("This server cannot keep streams open.", status=501, content_type="text/plain")
    source, after = plan(tenant_id)
    return EventStreamResponse(Plan(source, after, access))
