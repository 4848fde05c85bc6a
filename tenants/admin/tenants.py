"""Tenants: their plan and limits, what of these is used, suspending and resuming. Nothing deletes one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from tenants.access import Permission
from tenants.admin.access import acting, is_operator
from tenants.admin.base import TenantOwnedAdmin, badge, table
from tenants.models import Tenant
from tenants.quotas import allowance_of, set_plan, usage_of
from tenants.services import create_tenant, rename_tenant, resume_tenant, suspend_tenant


class SuspendedFilter(admin.SimpleListFilter):
    """By whether anybody may act for it."""

    title = "state"
    parameter_name = "suspended"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The two states."""
        return [("no", "active"), ("yes", "suspended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        """Select tenants in the chosen state."""
        return queryset.filter(suspended_at__isnull=self.value() == "no") if self.value() else queryset


@admin.register(Tenant)
class TenantAdmin(TenantOwnedAdmin[Tenant]):
    """Tenants; only the operator changes them here."""

    read = Permission.TENANT_READ
    adds = changes = True
    tenant_field = "pk"
    change_form_template = "tenants/admin/tenant.html"
    list_display = ("slug", "name", "state", "plan", "created_at")
    list_filter = (SuspendedFilter, "plan")
    ordering = ("slug",)
    search_fields = ("slug", "name")
    readonly_fields = ("id", "state", "suspended_at", "created_at", "updated_at", "usage")
    actions = ("suspend", "resume")

    def get_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        """A new one has a slug and a name; the plan is the installation's default."""
        if obj is None:
            return ("slug", "name")
        return ("id", "slug", "name", "plan", "limits", "state", "suspended_at", "created_at", "updated_at", "usage")

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        """The slug is in addresses: it stays."""
        return self.readonly_fields if obj is None else ("slug", *self.readonly_fields)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The operator's."""
        return is_operator(request)

    @admin.display(description="State")
    def state(self, tenant: Tenant) -> SafeString:
        """Active or suspended."""
        return badge("suspended" if tenant.suspended_at else "active")

    @admin.display(description="Limits and usage")
    def usage(self, tenant: Tenant) -> SafeString:
        """Every quota with what is counted of it."""
        overridden = allowance_of(tenant.pk).overridden
        rows: list[list[object]] = [
            [
                usage.quota.value,
                "no limit" if usage.limit is None else f"{usage.limit:,}",
                "its own" if usage.quota in overridden else "of the plan",
                "–" if usage.used is None else f"{usage.used:,}",
            ]
            for usage in usage_of(tenant_id=tenant.pk, measured={})
        ]
        return table(["Quota", "Limit", "Which is", "Used"], rows)

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """By the verbs, which write the audit."""
        if not change:
            created = create_tenant(slug=obj.slug, name=obj.name, by=acting(request, obj.pk))
            obj.__dict__.update(created.__dict__)
            return
        by = acting(request, obj.pk)
        if "name" in form.changed_data:
            row = Tenant.objects.select_for_update(no_key=True).get(pk=obj.pk)
            rename_tenant(by=by, tenant=row, name=obj.name)
        if {"plan", "limits"} & set(form.changed_data):
            set_plan(tenant=obj, plan=obj.plan, overrides=obj.limits, by=by)

    @admin.action(description="Suspend the selected tenants", permissions=["write"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Refuse their credentials."""
        tenants = list(queryset.filter(suspended_at__isnull=True))
        for tenant in tenants:
            suspend_tenant(tenant=tenant, by=acting(request, tenant.pk))
        self.message_user(
            request, f"{len(tenants)} suspended: all requests and new runs are refused until they are resumed."
        )

    @admin.action(description="Resume the selected tenants", permissions=["write"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Take their credentials again."""
        tenants = list(queryset.filter(suspended_at__isnull=False))
        for tenant in tenants:
            resume_tenant(tenant=tenant, by=acting(request, tenant.pk))
        self.message_user(request, f"{len(tenants)} resumed.", messages.SUCCESS)
