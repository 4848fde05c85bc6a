"""Inbound webhooks for operators: where they are, what was refused, and the last deliveries."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.safestring import SafeString

from tenants.access import Permission
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge, pretty, table
from triggers.models import HookDelivery, InboundHook
from triggers.services.hooks.rows import deliveries_of

#: Deliveries that are listed on the page of a webhook.
MOST_DELIVERIES = 25


@admin.register(InboundHook)
class InboundHookAdmin(TenantOwnedAdmin[InboundHook]):
    """Webhooks of published versions; they change with the documents of workflows."""

    read = Permission.WORKFLOWS_READ
    list_display = ("path", "workflow", "tenant", "scheme", "refused", "refused_at", "created_at")
    list_filter = (TenantFilter,)
    list_select_related = ("workflow", "tenant")
    search_fields = ("path", "workflow__name", "tenant__slug")
    ordering: ClassVar = ("path", "id")
    fields = (
        *("tenant", "workflow", "version", "trigger", "address", "scheme", "shown_config"),
        *("refused", "refused_at", "created_at", "last_deliveries"),
    )

    @admin.display(description="Scheme")
    def scheme(self, hook: InboundHook) -> str:
        """Return the verification of senders."""
        return hook.declaration().verify.scheme.value

    @admin.display(description="Config")
    def shown_config(self, hook: InboundHook) -> SafeString:
        """The config of the trigger."""
        return pretty(hook.config)

    @admin.display(description="Last deliveries")
    def last_deliveries(self, hook: InboundHook) -> SafeString:
        """The newest requests and their results."""
        rows = deliveries_of(hook)[:MOST_DELIVERIES]
        cells = [
            [
                row.received_at,
                badge(row.outcome),
                row.delivery_id or "–",
                row.run_id or "–",
                (row.error or {}).get("code", "–"),
            ]
            for row in rows
        ]
        return table(["Received", "Outcome", "Delivery", "Run", "Error"], cells)


@admin.register(HookDelivery)
class HookDeliveryAdmin(TenantOwnedAdmin[HookDelivery]):
    """Authentic requests to inbound webhooks."""

    read = Permission.RUNS_READ
    list_display = ("received_at", "hook", "tenant", "shown_outcome", "delivery_id", "size", "run_id")
    list_filter = (TenantFilter, "outcome")
    list_select_related = ("hook", "tenant")
    search_fields = ("delivery_id", "hook__path")
    ordering: ClassVar = ("-received_at", "-id")
    fields = (
        *("tenant", "hook", "received_at", "shown_outcome", "delivery_id", "run_id", "shown_error"),
        *("method", "content_type", "size", "excerpt"),
    )

    @admin.display(description="Outcome", ordering="outcome")
    def shown_outcome(self, delivery: HookDelivery) -> SafeString:
        """In its colour."""
        return badge(delivery.outcome)

    @admin.display(description="Error")
    def shown_error(self, delivery: HookDelivery) -> SafeString:
        """Return the reason why it started no run."""
        return pretty(delivery.error)
