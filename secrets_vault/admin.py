"""Secrets for operators: which there are and when they changed. A value goes in and is never shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from secrets_vault.models import DataKey, Secret, SecretVersion
from secrets_vault.services import create_secret, delete_secret, find_secret, replace_secret
from tenants.access import Permission
from tenants.admin.access import acting
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, table

#: How many versions of a secret are listed.
MOST_VERSIONS = 50


class WriteOnly(forms.Textarea):
    """A field whose value is never written into a page, not even that of a form that is shown again."""

    def format_value(self, value: Any) -> str:
        """Nothing."""
        return ""


class SecretForm(forms.ModelForm[Secret]):
    """A secret and its new value."""

    value = forms.CharField(
        strip=False,
        widget=WriteOnly(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text="Write-only: stored encrypted and never shown again.",
    )

    class Meta:
        """Fields of the form."""

        model = Secret
        fields = ("tenant", "name", "description")


@admin.register(Secret)
class SecretAdmin(TenantOwnedAdmin[Secret]):
    """Secrets by tenant and name."""

    read, write = Permission.SECRETS_READ, Permission.SECRETS_WRITE
    adds = changes = deletes = True
    form = SecretForm
    list_display = ("name", "tenant", "version", "description", "updated_at")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("name", "description", "tenant__slug")
    autocomplete_fields = ("tenant",)

    def get_fields(self, request: HttpRequest, obj: Secret | None = None) -> Any:
        """Return no field for a value to users who may only view."""
        if obj is None:
            return ("tenant", "name", "description", "value")
        value = ("value",) if self.has_change_permission(request, obj) else ()
        return ("tenant", "name", "description", *value, "version", "created_at", "updated_at", "versions")

    def get_readonly_fields(self, request: HttpRequest, obj: Secret | None = None) -> Any:
        """The name stays: workflows refer to it."""
        return () if obj is None else ("tenant", "name", "version", "created_at", "updated_at", "versions")

    @admin.display(description="Versions")
    def versions(self, secret: Secret) -> SafeString:
        """The newest ones: when each was made and, if it was, destroyed."""
        rows = SecretVersion.objects.for_tenant(secret.tenant_id).filter(secret=secret).order_by("-number")
        shown = rows.values_list("number", "created_at", "destroyed_at")[:MOST_VERSIONS]
        return table(["Version", "Made", "Destroyed"], [[number, made, gone or "–"] for number, made, gone in shown])

    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        """By the verbs, which write the audit."""
        by, value = acting(request, obj.tenant_id), form.cleaned_data["value"]
        if change:
            row = find_secret(tenant_id=obj.tenant_id, name=obj.name, lock=True)
            made = replace_secret(secret=row, value=value, description=obj.description, by=by)
        else:
            made = create_secret(name=obj.name, value=value, description=obj.description, by=by)
        obj.__dict__.update(made.__dict__)

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        """With all its versions."""
        row = find_secret(tenant_id=obj.tenant_id, name=obj.name, lock=True)
        delete_secret(secret=row, by=acting(request, obj.tenant_id))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Secret]) -> None:
        """All of them or, if one is refused, none."""
        for secret in queryset:
            self.delete_model(request, secret)


@admin.register(DataKey)
class DataKeyAdmin(TenantOwnedAdmin[DataKey]):
    """Data keys: which master key each is wrapped with."""

    read = Permission.SECRETS_READ
    list_display = ("tenant", "version", "master_key", "created_at", "rewrapped_at")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    fields = ("tenant", "version", "master_key", "made_under", "created_at", "rewrapped_at")
