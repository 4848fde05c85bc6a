"""Webhooks for operators: endpoints with dead deliveries, and what each delivery came to."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from events.models import Delivery, DeliveryAttempt, DeliveryState, WebhookEndpoint
from events.webhooks.deliveries import redeliver, redeliver_range
from events.webhooks.endpoints import find_endpoint, pause_endpoint, resume_endpoint
from tenants.access import Permission
from tenants.admin.access import acting
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge, table

#: How many attempts of a delivery are listed.
MOST_ATTEMPTS = 50


class DeadFilter(admin.SimpleListFilter):
    """Endpoints by whether deliveries to them have failed for good."""

    title = "dead deliveries"
    parameter_name = "dead"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one choice."""
        return [("yes", "has dead deliveries")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The endpoints that have some."""
        return queryset.filter(dead__gt=0) if self.value() == "yes" else queryset


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(TenantOwnedAdmin[WebhookEndpoint]):
    """Endpoints, and how many deliveries to each have failed for good."""

    read, write = Permission.WEBHOOKS_READ, Permission.WEBHOOKS_WRITE
    list_display = ("url", "tenant", "shown_state", "dead_deliveries", "failing_since", "created_at")
    list_filter = (TenantFilter, "state", DeadFilter)
    list_select_related = ("tenant",)
    search_fields = ("url", "description", "tenant__slug")
    actions = ("pause", "resume", "redeliver_dead")
    fields = (
        "tenant", "url", "description", "types", "workflows", "labels", "state", "disabled_reason", "failing_since",
        "missed_at", "created_at", "updated_at",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        """The endpoints with their dead deliveries."""
        dead = Delivery.objects.across_tenants().filter(endpoint=OuterRef("pk"), state=DeliveryState.EXHAUSTED.value)
        count = dead.order_by().values("endpoint").annotate(count=Count("pk")).values("count")
        rows = super().get_queryset(request)
        return rows.annotate(dead=Coalesce(Subquery(count, output_field=IntegerField()), 0))

    @admin.display(description="State", ordering="state")
    def shown_state(self, endpoint: WebhookEndpoint) -> SafeString:
        """The state, and why it is disabled."""
        reason = f" ({endpoint.disabled_reason})" if endpoint.disabled_reason else ""
        return format_html("{}{}", badge(endpoint.state), reason)

    @admin.display(description="Dead deliveries", ordering="dead")
    def dead_deliveries(self, endpoint: Any) -> int:
        """Return the number of deliveries whose last attempt failed."""
        return int(endpoint.dead)

    @admin.action(description="Pause", permissions=["write"])
    @transaction.atomic
    def pause(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Send them nothing."""
        for row in queryset:
            pause_endpoint(by=acting(request, row.tenant_id), endpoint=self._locked(row))

    @admin.action(description="Resume", permissions=["write"])
    @transaction.atomic
    def resume(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Send them what is pending, and what has happened meanwhile."""
        for row in queryset:
            resume_endpoint(by=acting(request, row.tenant_id), endpoint=self._locked(row))

    @admin.action(description="Send dead deliveries again", permissions=["write"])
    @transaction.atomic
    def redeliver_dead(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Send what has failed for good again."""
        sent = 0
        for row in queryset:
            by, states = acting(request, row.tenant_id), [DeliveryState.EXHAUSTED]
            endpoint = self._locked(row)
            sent += redeliver_range(by=by, endpoint=endpoint, since=None, until=None, states=states)[0]
        self.message_user(request, f"{sent:,} deliveries are sent again.")

    @staticmethod
    def _locked(row: WebhookEndpoint) -> WebhookEndpoint:
        return find_endpoint(tenant_id=row.tenant_id, webhook_id=row.pk, lock=True)


@admin.register(Delivery)
class DeliveryAdmin(TenantOwnedAdmin[Delivery]):
    """Deliveries, and the attempts of each."""

    read, write = Permission.WEBHOOKS_READ, Permission.WEBHOOKS_WRITE
    list_display = (
        "event_type",
        "tenant",
        "endpoint",
        "shown_state",
        "attempts",
        "last_status",
        "last_error",
        "due_at",
    )
    list_filter = (TenantFilter, "state")
    list_select_related = ("tenant", "endpoint")
    search_fields: ClassVar = ("=id", "=event_id", "=run_id")
    actions = ("redeliver",)
    fields = (
        "tenant", "endpoint", "event_type", "event_at", "event_id", "run_id", "shown_state", "attempts", "due_at",
        "created_at", "finished_at", "body", "log",
    )  # fmt: skip

    @admin.display(description="State", ordering="state")
    def shown_state(self, delivery: Delivery) -> SafeString:
        """The state in its colour."""
        return badge(delivery.state)

    @admin.display(description="Attempts")
    def log(self, delivery: Delivery) -> SafeString:
        """The newest attempts: when each was, how long it took, and what the receiver said."""
        rows = DeliveryAttempt.objects.for_tenant(delivery.tenant_id).filter(delivery=delivery).order_by("-number")
        shown = rows.values_list("number", "at", "duration_ms", "status", "error", "excerpt")[:MOST_ATTEMPTS]
        return table(["Attempt", "At", "ms", "Status", "Error", "Response"], [list(row) for row in shown])

    @admin.action(description="Send again", permissions=["write"])
    @transaction.atomic
    def redeliver(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Make them due now."""
        for row in queryset:
            redeliver(by=acting(request, row.tenant_id), delivery_id=row.pk)
