"""The audit: read, filtered, never changed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from tenants.access import Permission
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, pretty
from tenants.models import AuditEntry


class KindFilter(admin.SimpleListFilter):
    """By what acted. The kinds are named here: asking a table of a million rows for them takes long."""

    title = "kind of actor"
    parameter_name = "actor_kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the kinds of ``Actor``."""
        return [(kind, kind) for kind in ("user", "key", "system")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """The entries of the chosen one."""
        return queryset.filter(actor_kind=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(TenantOwnedAdmin[AuditEntry]):
    """Audit entries, newest first. ``manage.py verify_audit`` checks that the chain is complete."""

    read = Permission.AUDIT_READ
    list_display = ("at", "tenant", "seq", "who", "action", "target")
    list_filter = (TenantFilter, KindFilter, ("at", admin.DateFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("=actor", "=action", "=target")
    search_help_text = "A complete actor, action (run.cancel_requested) or target (secret:API_KEY)."
    fields = ("id", "tenant", "seq", "at", "who", "action", "target", "entry", "previous", "hash")

    @admin.display(description="Actor")
    def who(self, entry: AuditEntry) -> str:
        """The name in the record, with what kind of actor it is."""
        actor = json.loads(entry.record)["actor"]
        return f"{actor['name']} ({actor['kind']})"

    @admin.display(description="Record")
    def entry(self, entry: AuditEntry) -> SafeString:
        """The whole record, before and after included."""
        return pretty(json.loads(entry.record))
