"""The only route of ``benchmarks.floor``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from runs.models import EventRecord, Run


class FloorView(APIView):
    """Stores a queued run and its first event."""

    def get(self, _: Request) -> Response:
        """Whether it is up."""
        return Response({})

    def post(self, request: Request) -> Response:
        """202 with the id and the state of the run."""
        tenant: dict[str, Any] = {"tenant_id": settings.FLOOR_TENANT}
        with transaction.atomic():
            run = Run.objects.create(
                workflow_id=settings.FLOOR_WORKFLOW,
                version_id=settings.FLOOR_VERSION,
                input=request.data["input"],
                event_seq=1,
                **tenant,
            )
            EventRecord.objects.create(run=run, seq=1, type="run.queued", at=run.created_at, position=1, **tenant)
        return Response({"id": str(run.pk), "state": run.state}, status=202)


urlpatterns = [path("runs", FloorView.as_view())]
