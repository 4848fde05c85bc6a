"""Admin pages of schedules: when they fire next, and what became of their slots."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pyflow.core.errors import PyFlowError
from tenants.access import Permission
from tenants.admin.access import acting
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge, pretty, table
from triggers.models.schedules import Schedule, ScheduleFire
from triggers.services.schedules.fires import fires_of
from triggers.services.schedules.previews import preview
from triggers.services.schedules.verbs import fire_now, pause_schedule

#: Slots to come, and slots that have passed, that the page of a schedule lists.
SHOWN = 10


@admin.register(Schedule)
class ScheduleAdmin(TenantOwnedAdmin[Schedule]):
    """Schedules, with their next slots. They are made by publishing a workflow."""

    read, write = Permission.WORKFLOWS_READ, Permission.RUNS_WRITE
    list_display = ("trigger_id", "workflow", "tenant", "shown_state", "next_at", "failures")
    list_filter = (TenantFilter, "declared", "pause_reason")
    list_select_related = ("workflow", "tenant")
    search_fields = ("trigger_id", "workflow__name")
    search_help_text = "Part of a trigger's id, or of a workflow's name."
    fields = (
        "trigger_id", "workflow", "tenant", "version_number", "shown_state", "problem", "failures", "next_at", "due_at",
        "shown_config", "coming", "passed",
    )  # fmt: skip
    actions = ("pause", "resume", "fire")

    @admin.display(description="State")
    def shown_state(self, schedule: Schedule) -> SafeString:
        """The state in its colour."""
        if not schedule.declared:
            return badge("inactive")
        return badge("active" if schedule.paused_at is None else "paused")

    @admin.display(description="Config")
    def shown_config(self, schedule: Schedule) -> SafeString:
        """The config of the trigger as JSON."""
        return pretty(schedule.config)

    @admin.display(description="Next slots")
    def coming(self, schedule: Schedule) -> SafeString:
        """The next slots with their notes, if its config can be used."""
        try:
            slots = preview(schedule, SHOWN).slots
        except PyFlowError as error:
            return format_html("{}", str(error))
        rows: list[list[object]] = [
            [slot.scheduled_for, slot.local.isoformat(), " ".join(note.message for note in slot.notes) or "–"]
            for slot in slots
        ]
        return table(["Slot", "Local time", "Notes"], rows)

    @admin.display(description="Last slots")
    def passed(self, schedule: Schedule) -> SafeString:
        """Return the results of the last slots."""
        fires = fires_of(schedule).order_by("-scheduled_for")[:SHOWN]
        rows: list[list[object]] = [
            [fire.scheduled_for, fire.state, fire.run_id or fire.reason, fire.run_state or fire.message or "–"]
            for fire in fires
        ]
        return table(["Slot", "State", "Run or reason", "Result"], rows)

    @admin.action(description="Pause the selected schedules", permissions=["write"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Let none of their slots fire."""
        self._each(request, queryset, "paused", lambda by, pk: pause_schedule(by=by, schedule_id=pk, paused=True))

    @admin.action(description="Resume the selected schedules", permissions=["write"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Let them go on."""
        self._each(request, queryset, "resumed", lambda by, pk: pause_schedule(by=by, schedule_id=pk, paused=False))

    @admin.action(description="Fire the selected schedules now", permissions=["write"])
    def fire(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Fire a slot of this moment of each."""
        self._each(request, queryset, "fired", lambda by, pk: fire_now(by=by, schedule_id=pk))

    def _each(self, request: HttpRequest, rows: QuerySet[Schedule], done: str, verb: Any) -> None:
        count = 0
        for schedule in rows.select_related("workflow"):
            try:
                verb(acting(request, schedule.tenant_id), schedule.pk)
                count += 1
            except PyFlowError as error:
                messages.error(request, f"{schedule.workflow.name}, {schedule.trigger_id}: {error}")
        if count:
            messages.success(request, f"{count} {'schedule was' if count == 1 else 'schedules were'} {done}.")


@admin.register(ScheduleFire)
class ScheduleFireAdmin(TenantOwnedAdmin[ScheduleFire]):
    """Slots that have passed: their runs, or why there are none."""

    read = Permission.RUNS_READ
    ordering: ClassVar[tuple[str, ...]] = ("-fired_at", "-id")
    list_display = ("id", "schedule", "tenant", "scheduled_for", "state", "reason", "run_state", "fired_at")
    list_filter = (TenantFilter, "state", "cause")
    list_select_related = ("schedule", "tenant")
    search_fields = ("schedule__trigger_id",)
    search_help_text = "Part of a trigger's id."
    fields = (
        "schedule", "tenant", "scheduled_for", "until", "count", "cause", "state", "reason", "message", "run_id",
        "run_state", "fired_at",
    )  # fmt: skip
