"""Runs for operators: what ran, what came of it, what happened in it."""

from __future__ import annotations

import json

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runs.models import NodeItem, NodeRun, Run, RunEvent, RunSignal
from tenants.admin import ReadOnly


class _History(ReadOnly):
    """What happened stays."""

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


def pretty(value: object) -> SafeString:
    """JSON for reading, escaped."""
    return format_html(
        '<pre style="white-space: pre-wrap; max-width: 60ch; margin: 0">{}</pre>',
        json.dumps(value, indent=2, ensure_ascii=False),
    )


class NodeRunInline(_History, admin.TabularInline[NodeRun, Run]):
    """The nodes of a run."""

    model = NodeRun
    fields = ("node_id", "state", "attempts", "started_at", "finished_at", "shown_output", "shown_error", "reason")
    readonly_fields = fields
    can_delete = False
    extra = 0

    @admin.display(description="Output")
    def shown_output(self, node: NodeRun) -> SafeString:
        """The output as JSON."""
        return pretty(node.output)

    @admin.display(description="Error")
    def shown_error(self, node: NodeRun) -> str:
        """The error's message."""
        return str(node.error["message"]) if node.error else ""


class RunEventInline(_History, admin.TabularInline[RunEvent, Run]):
    """The events of a run."""

    model = RunEvent
    fields = ("seq", "time", "type", "node_id", "shown_data")
    readonly_fields = fields
    can_delete = False
    extra = 0

    @admin.display(description="At")
    def time(self, event: RunEvent) -> str:
        """The time with its milliseconds: what happens in a run happens quickly."""
        return event.at.isoformat(sep=" ", timespec="milliseconds")

    @admin.display(description="Data")
    def shown_data(self, event: RunEvent) -> SafeString:
        """The data as JSON."""
        return pretty(event.data)


@admin.register(Run)
class RunAdmin(_History, admin.ModelAdmin[Run]):
    """Runs, newest first."""

    list_display = ("id", "workflow", "state", "tenant", "created_at", "started_at", "finished_at")
    list_filter = ("state", "tenant", "workflow")
    list_select_related = ("workflow", "tenant")
    search_fields = ("id", "workflow__name")
    date_hierarchy = "created_at"
    show_full_result_count = False
    fields = (
        "id",
        "tenant",
        "workflow",
        "version",
        "state",
        "trigger",
        "started_by",
        "labels",
        "created_at",
        "started_at",
        "finished_at",
        "shown_input",
        "shown_outputs",
        "shown_error",
        "compensation",
        "wake_at",
        "parent",
        "cancel_requested_at",
        "owner",
        "lease_until",
        "claims",
    )
    readonly_fields = fields
    inlines = (NodeRunInline, RunEventInline)

    @admin.display(description="Input")
    def shown_input(self, run: Run) -> SafeString:
        """The input as JSON."""
        return pretty(run.input)

    @admin.display(description="Outputs")
    def shown_outputs(self, run: Run) -> SafeString:
        """The outputs as JSON."""
        return pretty(run.outputs)

    @admin.display(description="Error")
    def shown_error(self, run: Run) -> SafeString:
        """The error as JSON."""
        return pretty(run.error)


@admin.register(NodeItem)
class NodeItemAdmin(_History, admin.ModelAdmin[NodeItem]):
    """The items of fan-outs."""

    list_display = ("run", "node_id", "index", "key", "state", "attempts", "at")
    list_filter = ("state", "tenant")
    list_select_related = ("run",)
    search_fields = ("run__id", "node_id", "key")
    show_full_result_count = False


@admin.register(RunSignal)
class RunSignalAdmin(_History, admin.ModelAdmin[RunSignal]):
    """Signals, delivered and waiting."""

    list_display = ("run", "name", "consumed", "created_at")
    list_filter = ("consumed", "tenant")
    list_select_related = ("run",)
    search_fields = ("run__id", "name")
    show_full_result_count = False
