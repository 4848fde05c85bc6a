"""Tenants and keys for operators. Hashes are never shown; keys are made by ``manage.py createkey``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.access import Actor
from tenants.api.authentication import address_of
from tenants.models import ApiKey, Tenant
from tenants.quotas import set_plan

_OF_PLAN = frozenset({"plan", "limits"})


class ReadOnly:
    """For rows that are made and changed by services only: here they are looked at."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody adds one here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes one here."""
        return False


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin[Tenant]):
    """Tenants."""

    list_display = ("slug", "name", "plan", "created_at")
    list_filter = ("plan",)
    search_fields = ("slug", "name")
    readonly_fields = ("id", "created_at")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """A plan and limits are given by the verb that counters, caches and the audit know of.

        Only what was edited is saved: what others have changed since the page was shown stays.
        """
        if not change:
            super().save_model(request, obj, form, change)
            return
        edited = set(form.changed_data)
        if edited & _OF_PLAN:
            set_plan(tenant=obj, plan=obj.plan, overrides=obj.limits, by=_staff(request, obj))
        if rest := edited - _OF_PLAN:
            obj.save(update_fields=sorted(rest))


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin[ApiKey]):
    """Keys: who has them, when they were used; revoking them."""

    list_display = ("name", "tenant", "key_id", "last4", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("tenant",)
    list_select_related = ("tenant",)
    search_fields = ("name", "key_id")
    readonly_fields = (
        "id",
        "tenant",
        "key_id",
        "last4",
        "role",
        "scopes",
        "created_by",
        "created_at",
        "last_used_at",
        "revoked_at",
    )
    exclude = ("secret_hash",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Not here: a key's text can only be shown where it is made."""
        return False

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke each."""
        for key in queryset:
            key.revoke()
        self.message_user(request, f"{len(queryset)} revoked; it takes effect within 5 seconds.")


def _staff(request: HttpRequest, tenant: Tenant) -> Actor:
    """Who is logged in to the admin, for the audit of a tenant."""
    user = request.user
    return Actor(
        tenant_id=tenant.pk,
        kind="user",
        id=str(user.pk),
        name=user.get_username(),
        request_id=getattr(request, "request_id", ""),
        address=address_of(request),
    )
