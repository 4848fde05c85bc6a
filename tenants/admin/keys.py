"""API keys: making one, which shows it once, and revoking. Hashes are never shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from tenants.access import Permission, Role
from tenants.admin.access import acting, principal_of
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge
from tenants.api_keys import issue_key, revoke_key
from tenants.models import ApiKey

SCOPES = [(permission.value, permission.value) for permission in Permission]


class ApiKeyForm(forms.ModelForm[ApiKey]):
    """Form of a new key: its name, tenant, role and scopes."""

    scopes = forms.MultipleChoiceField(
        choices=SCOPES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Restrict the role to these scopes. Without a selection: no restriction.",
    )

    class Meta:
        """Fields of the form."""

        model = ApiKey
        fields = ("tenant", "name", "role", "scopes", "expires_at")

    def clean_expires_at(self) -> datetime | None:
        """In the future."""
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This time is in the past.")
        return expires_at

    def clean_scopes(self) -> list[str] | None:
        """``None`` does not narrow."""
        return self.cleaned_data["scopes"] or None


@admin.register(ApiKey)
class ApiKeyAdmin(TenantOwnedAdmin[ApiKey]):
    """Keys: who has them, when they were used."""

    read, write = Permission.KEYS_READ, Permission.KEYS_WRITE
    adds = True
    form = ApiKeyForm
    list_display = ("name", "tenant", "key_id", "last4", "role", "state", "created_at", "last_used_at", "expires_at")
    list_filter = (TenantFilter, "role")
    list_select_related = ("tenant",)
    search_fields = ("name", "=key_id", "tenant__slug")
    autocomplete_fields = ("tenant",)
    actions = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """Everything but the hash."""
        if obj is None:
            return ("tenant", "name", "role", "scopes", "expires_at")
        made = ("id", "key_id", "last4", "created_by", "created_at", "last_used_at", "revoked_at", "replaced_by")
        return ("name", "tenant", "state", "role", "scopes", "expires_at", *made)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """A key never changes; it is revoked, or replaced over the API."""
        return () if obj is None else self.get_fields(request, obj)

    @admin.display(description="State")
    def state(self, key: ApiKey) -> SafeString:
        """Return the state of the key."""
        return badge("revoked" if key.revoked_at else "active" if key.usable else "expired")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """By the verb; the key's text waits for ``response_add``."""
        made, text = issue_key(
            by=acting(request, obj.tenant_id),
            principal=principal_of(request, obj.tenant_id),
            name=obj.name,
            role=Role(obj.role),
            scopes=None if obj.scopes is None else [Permission(scope) for scope in obj.scopes],
            expires_at=obj.expires_at,
        )
        obj.__dict__.update(made.__dict__)
        request._shown_once = text  # type: ignore[attr-defined] # Django hands the request on, not what was saved

    def response_add(
        self, request: HttpRequest, obj: models.Model, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The key, in place of a message: those are kept in a cookie."""
        text = request._shown_once  # type: ignore[attr-defined] # by `save_model`
        return self.shown_once(request, what=f"Key {obj}", text=text, back=reverse("admin:tenants_apikey_changelist"))

    @admin.action(description="Revoke the selected keys", permissions=["write"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke each."""
        for key in (rows := [row for row in queryset if self.has_write_permission(request, row)]):
            revoke_key(by=acting(request, key.tenant_id), key_id=key.pk)
        self.message_user(request, f"{len(rows)} revoked; it takes effect within 5 seconds.")
