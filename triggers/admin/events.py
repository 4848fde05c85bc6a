"""Event triggers for operators: how far each has read, and what it could not start."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from tenants.access import Permission
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge, pretty, table
from triggers.models import EventTrigger, Expectation, FailureState, TriggerFailure
from triggers.services.events.advance import retry_failure
from triggers.services.events.rows import failures_of, find_event_trigger, lock_failure

#: Failures that are listed on the page of a trigger.
MOST_FAILURES = 25


@admin.register(EventTrigger)
class EventTriggerAdmin(TenantOwnedAdmin[EventTrigger]):
    """Event triggers of published versions; they change with the documents of workflows."""

    read = Permission.WORKFLOWS_READ
    list_display = ("trigger", "workflow", "tenant", "types", "fired_at", "created_at")
    list_filter = (TenantFilter,)
    list_select_related = ("workflow", "tenant")
    search_fields = ("trigger", "workflow__name", "tenant__slug")
    fields = (
        *("tenant", "workflow", "version", "trigger", "shown_config", "position", "fired_at", "created_at"),
        *("last_failures", "expected"),
    )

    @admin.display(description="Events")
    def types(self, row: EventTrigger) -> str:
        """The types of events."""
        return ", ".join(row.declaration().on)

    @admin.display(description="Config")
    def shown_config(self, row: EventTrigger) -> SafeString:
        """The config of the trigger."""
        return pretty(row.config)

    @admin.display(description="Last failures")
    def last_failures(self, row: EventTrigger) -> SafeString:
        """The newest events that no run could be started for."""
        failures = failures_of(row)[:MOST_FAILURES]
        cells = [
            [item.created_at, badge(item.state), item.attempts, item.error.get("message", "")] for item in failures
        ]
        return table(["Since", "State", "Attempts", "Error"], cells)

    @admin.display(description="Expected events")
    def expected(self, row: EventTrigger) -> SafeString:
        """Return the pending expectations, the next first."""
        rows = Expectation.objects.for_tenant(row.tenant_id).filter(trigger=row).order_by("due_at")
        return table(["Since", "Until"], [[item.armed_at, item.due_at] for item in rows[:MOST_FAILURES]])


@admin.register(TriggerFailure)
class TriggerFailureAdmin(TenantOwnedAdmin[TriggerFailure]):
    """Events that no run could be started for."""

    read, write = Permission.RUNS_READ, Permission.RUNS_WRITE
    list_display = ("slot", "trigger", "tenant", "shown_state", "attempts", "due_at", "updated_at")
    list_filter = (TenantFilter, "state")
    list_select_related = ("trigger", "tenant")
    search_fields = ("slot", "trigger__trigger")
    ordering: ClassVar = ("-created_at", "-id")
    fields = (
        *("tenant", "trigger", "slot", "shown_state", "attempts", "due_at", "shown_error", "run_id"),
        *("created_at", "updated_at", "shown_facts"),
    )
    actions = ("retry",)

    @admin.display(description="State", ordering="state")
    def shown_state(self, failure: TriggerFailure) -> SafeString:
        """In its colour."""
        return badge(failure.state)

    @admin.display(description="Error")
    def shown_error(self, failure: TriggerFailure) -> SafeString:
        """Of the last attempt."""
        return pretty(failure.error)

    @admin.display(description="Event")
    def shown_facts(self, failure: TriggerFailure) -> SafeString:
        """The names that templates saw."""
        return pretty(failure.facts)

    @admin.action(description="Try again now", permissions=["write"])
    def retry(self, request: HttpRequest, queryset: QuerySet[TriggerFailure]) -> None:
        """Try each of the chosen ones that is not resolved, in a transaction of its own."""
        resolved = tried = 0
        for failure in queryset.exclude(state=FailureState.RESOLVED):
            with transaction.atomic():
                row = find_event_trigger(tenant_id=failure.tenant_id, trigger_id=failure.trigger_id)
                done = retry_failure(lock_failure(row=row, failure_id=failure.pk))
            tried += 1
            resolved += done.state == FailureState.RESOLVED
        self.message_user(request, f"{resolved} of {tried} events are resolved.", messages.SUCCESS)
