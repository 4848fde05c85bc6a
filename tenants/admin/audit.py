"""The audit: read, filtered, never changed."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.safestring import SafeString

from tenants.access import Permission
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, pretty
from tenants.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(TenantOwnedAdmin[AuditEntry]):
    """What was done, newest first. ``manage.py verify_audit`` says whether all of it is there."""

    read = Permission.AUDIT_READ
    list_display = ("at", "tenant", "seq", "who", "action", "target")
    list_filter = (TenantFilter, "actor_kind", ("at", admin.DateFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("=actor", "=action", "=target")
    search_help_text = "A whole actor, action (run.cancel_requested) or target (workflow:hello)."
    fields = ("id", "tenant", "seq", "at", "who", "action", "target", "entry", "previous", "hash")

    @admin.display(description="Who")
    def who(self, entry: AuditEntry) -> str:
        """The name in the record, with what kind of actor it is."""
        actor = json.loads(entry.record)["actor"]
        return f"{actor['name']} ({actor['kind']})"

    @admin.display(description="Record")
    def entry(self, entry: AuditEntry) -> SafeString:
        """The whole record, before and after included."""
        return pretty(json.loads(entry.record))
