"""Tenants and keys for operators. Hashes are never shown; keys are made by ``manage.py createkey``."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.models import ApiKey, Tenant


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

    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")
    readonly_fields = ("id", "created_at")


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
