"""The log of a run over HTTP: as pages, or as text."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.renderers import TextRenderer
from plumbing.rest.serializers import validated
from pyflow.core.states import RunState
from pyflow.execution.run_log import LEVELS
from runs.api.shared import OfRun
from runs.models import RunLog
from runs.services.find import find_run
from tenants.access import Permission

NUMBERS = {name: number for number, name in LEVELS.items()}


class LogLineShape(serializers.Serializer[Any]):
    """A line that a node logged."""

    seq = serializers.IntegerField(help_text="1, 2, 3… without gaps.")
    at = serializers.DateTimeField()
    level = serializers.ChoiceField(list(NUMBERS))
    node_id = serializers.CharField(
        allow_null=True, help_text="Null for the line that marks the truncation of the log."
    )
    attempt = serializers.IntegerField(allow_null=True)
    item = serializers.IntegerField(allow_null=True, help_text="The index of the item of a fan-out.")
    message = serializers.CharField(help_text="May have several lines of text. Secrets are masked.")


class LogShape(serializers.Serializer[Any]):
    """A page of a run's log."""

    results = LogLineShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    state = serializers.ChoiceField([state.value for state in RunState], help_text="The current state of the run.")


class LogQuery(PageQuery):
    """Query parameters of the log."""

    node = serializers.CharField(required=False, max_length=255, help_text="Only lines of this node.")
    level = serializers.ChoiceField(list(NUMBERS), required=False, help_text="Minimum level.")
    after = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=2**31 - 1, help_text="The `seq` of the last line received."
    )


class LogsView(OfRun):
    """The log of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}
    reads_query = frozenset({"GET"})
    renderer_classes = (*APIView.renderer_classes, TextRenderer)

    @extend_schema(
        operation_id="runs_logs",
        summary="Read a run's log",
        parameters=[LogQuery],
        responses={
            (200, "application/json"): LogShape,
            (200, "application/yaml"): LogShape,
            (200, "text/plain"): OpenApiResponse(str, description="A line each; `Link` has the next page."),
        },
    )
    def get(self, request: Request, run_id: UUID) -> Response | HttpResponse:
        """List lines that nodes wrote to their loggers, and lines of `log` nodes, in order.

        Lines are stored with the run's next event or shortly afterwards; those of a node that is executed
        by a worker of another queue come with its end. When there are none after the last one and `state` is final,
        there will be no more.
        """
        query = validated(LogQuery, request.query_params)
        # The state is read before the lines: a final state then means that no line is missing.
        run = find_run(tenant_id=self.principal.tenant_id, run_id=run_id)
        rows = RunLog.objects.for_tenant(run.tenant_id).filter(run=run, seq__gt=query["after"])
        if "node" in query:
            rows = rows.filter(node_id=query["node"])
        if "level" in query:
            rows = rows.filter(level__gte=NUMBERS[query["level"]])
        page = paginate(request, rows, query, tenant_id=run.tenant_id, order=("seq",))
        response = page.response(show_line, state=run.state)
        if request.accepted_renderer.format != "text":
            return response
        links = {name: value for name, value in response.headers.items() if name == "Link"}
        text = "".join(f"{as_text(row)}\n" for row in page.rows)
        return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=links)


def show_line(row: RunLog) -> dict[str, Any]:
    """``LogLineShape`` of a row."""
    return {
        "seq": row.seq,
        "at": row.at,
        "level": LEVELS[row.level],
        "node_id": row.node_id or None,
        "attempt": row.attempt or None,
        "item": row.item,
        "message": row.message,
    }


def as_text(row: RunLog) -> str:
    """A row for people: ``2026-11-26T08:35:59.123+00:00 WARNING fetch[3] (attempt 2): the text``."""
    place = row.node_id + ("" if row.item is None else f"[{row.item}]")
    attempt = f" (attempt {row.attempt})" if row.attempt > 1 else ""
    head = f"{row.at.isoformat(timespec='milliseconds')} {LEVELS[row.level].upper()}"
    return f"{head} {place}{attempt}: {row.message}" if place else f"{head} {row.message}"
