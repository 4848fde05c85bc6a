"""Workflows for operators. They are changed by new versions, so here they are only looked at."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin import ReadOnly
from workflows.models import Version, Workflow


class VersionInline(ReadOnly, admin.TabularInline[Version, Workflow]):
    """The versions of a workflow."""

    model = Version
    fields = ("number", "state", "source_format", "checksum", "created_at", "published_at")
    readonly_fields = fields
    ordering = ("-number",)
    show_change_link = True
    can_delete = False
    extra = 0


@admin.register(Workflow)
class WorkflowAdmin(ReadOnly, admin.ModelAdmin[Workflow]):
    """Workflows by tenant and name."""

    list_display = ("name", "tenant", "description", "updated_at", "archived_at")
    list_filter = ("tenant",)
    list_select_related = ("tenant",)
    search_fields = ("name", "description")
    inlines = (VersionInline,)


@admin.register(Version)
class VersionAdmin(ReadOnly, admin.ModelAdmin[Version]):
    """Versions, with the source as it was sent."""

    list_display = ("workflow", "number", "state", "tenant", "checksum", "created_at")
    list_filter = ("tenant", "state")
    list_select_related = ("workflow", "tenant")
    search_fields = ("workflow__name", "checksum")
    fields = ("workflow", "number", "state", "tenant", "checksum", "created_at", "published_at", "document")
    readonly_fields = ("document",)

    @admin.display(description="Source")
    def document(self, version: Version) -> SafeString:
        """The source, escaped."""
        return format_html("<pre>{}</pre>", version.source)
