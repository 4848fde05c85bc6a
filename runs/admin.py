"""Runs for operators: what ran, what came of it, what happened in it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runs.models import NodeItem, NodeRun, Run, RunEvent, RunSignal, matching
from runs.screens import apart, page_of
from runs.timeline import duration
from tenants.access import Permission
from tenants.admin.base import RowT, TenantFilter, TenantOwnedAdmin, badge, pretty

#: Seconds between two looks at a run that goes on.
LIVE_SECONDS = 5


def value(inline: Any, reference: Any) -> SafeString:
    """A value as JSON; of one that is stored apart, what there is of it and where it can be read."""
    return pretty(inline) if reference is None else format_html("{}", apart(reference))


class OfRuns(TenantOwnedAdmin[RowT]):
    """What happened stays: nothing of it is added, changed or deleted."""

    read, write = Permission.RUNS_READ, Permission.RUNS_WRITE

    @admin.display(description="State", ordering="state")
    def shown_state(self, row: Any) -> SafeString:
        """The state in its colour."""
        return badge(row.state)

    @admin.display(description="Output")
    def shown_output(self, row: Any) -> SafeString:
        """The output as JSON."""
        return value(row.output, row.output_ref)

    @admin.display(description="Error")
    def shown_error(self, row: Any) -> SafeString:
        """The error as JSON."""
        return pretty(row.error)


class OfOneRun(OfRuns[RowT]):
    """Rows below a run, found by its id."""

    search_fields = ("node_id",)
    search_help_text = "The id of a run, or a whole id of a node."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RowT], search_term: str
    ) -> tuple[QuerySet[RowT], bool]:
        """What an index finds: these tables are the largest."""
        try:
            return queryset.filter(run=UUID(search_term)), False
        except ValueError:
            field = str(self.get_search_fields(request)[0])
            return queryset.filter(**{field: search_term.replace("\0", "")}) if search_term else queryset, False


@admin.register(Run)
class RunAdmin(OfRuns[Run]):
    """Runs, newest first."""

    list_display = ("id", "workflow", "shown_state", "tenant", "trigger", "created_at", "took")
    list_filter = ("state", TenantFilter, "trigger", ("created_at", admin.DateFieldListFilter))
    list_select_related = ("workflow", "tenant")
    search_fields = ("workflow__name",)
    search_help_text = "The id of a run, or a part of a workflow's name."
    change_form_template = "runs/admin/run.html"
    fields = ("id", "state")

    @admin.display(description="Took")
    def took(self, run: Run) -> str:
        """From its start to its end; nothing while it goes on."""
        if run.started_at is None or run.finished_at is None:
            return "–"
        return duration((run.finished_at - run.started_at).total_seconds())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """Without documents, inputs and outputs where a list is made of them."""
        rows = super().get_queryset(request)
        if request.resolver_match is not None and str(request.resolver_match.url_name).endswith("_changelist"):
            return rows.defer("input", "outputs", "error", "lineage", "secrets_used")
        return rows.select_related("workflow", "version", "tenant")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        """By id, or by a part of the workflow's name."""
        term = search_term.replace("\0", "").strip()
        return (queryset.filter(matching(term)) if term else queryset), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of a run; one that goes on is looked at again by the browser, without a script."""
        run = self.get_object(request, object_id)
        if run is not None and self.has_view_permission(request, run):
            page = page_of(run)
            live = page.is_live and request.GET.get("live") != "off"
            extra_context = {
                **(extra_context or {}),
                "page": page,
                "shown": {
                    "input": value(run.input, run.input_ref),
                    "outputs": value(run.outputs, run.outputs_ref),
                    "error": pretty(run.error),
                },
                "refresh": LIVE_SECONDS if live else 0,
                "title": f"Run of {run.workflow.name}",
            }
        return super().change_view(request, object_id, form_url, extra_context)


@admin.register(NodeRun)
class NodeRunAdmin(OfOneRun[NodeRun]):
    """The nodes of runs."""

    list_display = ("node_id", "run_id", "shown_state", "tenant", "attempts", "started_at", "finished_at")
    list_filter = ("state", TenantFilter)
    list_select_related = ("tenant",)
    fields = (
        "run",
        "node_id",
        "tenant",
        "state",
        "attempts",
        "reason",
        "tolerated",
        "started_at",
        "finished_at",
        "wake_at",
        "wait",
        "shown_output",
        "shown_error",
    )


@admin.register(RunEvent)
class RunEventAdmin(OfOneRun[RunEvent]):
    """What happened in runs."""

    list_display = ("seq", "run_id", "time", "type", "node_id", "tenant")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    fields = ("run", "tenant", "seq", "time", "type", "node_id", "shown_data")

    @admin.display(description="At")
    def time(self, event: RunEvent) -> str:
        """The time with its milliseconds: what happens in a run happens quickly."""
        return event.at.isoformat(sep=" ", timespec="milliseconds")

    @admin.display(description="Data")
    def shown_data(self, event: RunEvent) -> SafeString:
        """The data as JSON."""
        return pretty(event.data)


@admin.register(NodeItem)
class NodeItemAdmin(OfOneRun[NodeItem]):
    """The items of fan-outs."""

    list_display = ("run_id", "node_id", "index", "key", "shown_state", "attempts", "at")
    list_filter = ("state", TenantFilter)
    search_fields = ("key",)
    search_help_text = "The id of a run, or a whole key of an item."
    fields = ("run", "node_id", "index", "key", "tenant", "state", "attempts", "at", "shown_output", "shown_error")


@admin.register(RunSignal)
class RunSignalAdmin(OfOneRun[RunSignal]):
    """Signals, delivered and waiting."""

    list_display = ("run_id", "name", "consumed", "created_at")
    list_filter = ("consumed", TenantFilter)
    search_fields = ("name",)
    search_help_text = "The id of a run, or a whole name of a signal."
    fields = ("run", "tenant", "name", "dedupe_id", "consumed", "created_at", "shown_payload")

    @admin.display(description="Payload")
    def shown_payload(self, signal: RunSignal) -> SafeString:
        """The payload as JSON."""
        return pretty(signal.payload)
