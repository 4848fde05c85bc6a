"""Secrets for operators: which there are and when they changed. Nothing of a value or a key is shown or set here."""

from __future__ import annotations

from django.contrib import admin

from secrets_vault.models import DataKey, Secret, SecretVersion
from tenants.admin import ReadOnly


class VersionInline(ReadOnly, admin.TabularInline[SecretVersion, Secret]):
    """The versions of a secret."""

    model = SecretVersion
    fields = ("number", "created_at", "destroyed_at")
    readonly_fields = fields
    ordering = ("-number",)
    can_delete = False
    extra = 0


@admin.register(Secret)
class SecretAdmin(ReadOnly, admin.ModelAdmin[Secret]):
    """Secrets by tenant and name."""

    list_display = ("name", "tenant", "version", "description", "updated_at")
    list_filter = ("tenant",)
    list_select_related = ("tenant",)
    search_fields = ("name", "description")
    fields = ("name", "tenant", "description", "version", "created_at", "updated_at")
    inlines = (VersionInline,)

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        """Nobody deletes one here: the API does, with an entry in the audit."""
        return False


@admin.register(DataKey)
class DataKeyAdmin(ReadOnly, admin.ModelAdmin[DataKey]):
    """Data keys: which master key each is wrapped with."""

    list_display = ("tenant", "version", "master_key", "created_at", "rewrapped_at")
    list_filter = ("master_key", "tenant")
    list_select_related = ("tenant",)
    fields = ("tenant", "version", "master_key", "made_under", "created_at", "rewrapped_at")

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        """Nobody deletes one here: what it encrypted would be lost."""
        return False
