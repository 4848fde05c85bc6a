"""Workflows for operators: their versions, documents, graphs and grants. They are changed by new versions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from pyflow.core.errors import PyFlowError
from tenants.access import Permission
from tenants.admin.access import acting
from tenants.admin.base import TenantFilter, TenantOwnedAdmin, badge, table
from tenants.grants import grants_of
from workflows.comparison import compared, numbered
from workflows.graph_drawing import svg
from workflows.models import Version, Workflow
from workflows.services import archive_workflow, plan_of

#: How many versions of a workflow are on its page; the list of versions has all.
MOST_VERSIONS = 25


class ArchivedFilter(admin.SimpleListFilter):
    """By whether runs may start."""

    title = "state"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The two states."""
        return [("no", "active"), ("yes", "archived")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> QuerySet[Workflow]:
        """Select workflows in the chosen state."""
        return queryset.filter(archived_at__isnull=self.value() == "no") if self.value() else queryset


@admin.register(Workflow)
class WorkflowAdmin(TenantOwnedAdmin[Workflow]):
    """Workflows by tenant and name."""

    read, write = Permission.WORKFLOWS_READ, Permission.WORKFLOWS_WRITE
    list_display = ("name", "tenant", "state", "description", "updated_at")
    list_filter = (ArchivedFilter, TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("name", "description", "tenant__slug")
    fields = (
        "name",
        "tenant",
        "state",
        "description",
        "labels",
        "created_at",
        "updated_at",
        "archived_at",
        "runs",
        "versions",
        "grants",
    )
    readonly_fields = ("state", "runs", "versions", "grants")
    actions = ("archive", "restore")

    @admin.display(description="State")
    def state(self, workflow: Workflow) -> SafeString:
        """Active or archived."""
        return badge("archived" if workflow.archived_at else "active")

    @admin.display(description="Runs")
    def runs(self, workflow: Workflow) -> SafeString:
        """Link to the list of its runs."""
        address = reverse("admin:runs_run_changelist")
        return format_html('<a href="{}?workflow__id__exact={}">Runs of this workflow</a>', address, workflow.pk)

    @admin.display(description="Versions")
    def versions(self, workflow: Workflow) -> SafeString:
        """The newest ones."""
        rows = Version.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow).order_by("-number")
        shown = list(rows.only("number", "state", "checksum", "created_at", "published_at")[: MOST_VERSIONS + 1])
        cells: list[list[object]] = [
            [
                format_html('<a href="{}">{}</a>', _page(version), version.number),
                badge(version.state),
                version.checksum[:12],
                version.created_at,
                version.published_at or "–",
                format_html('<a href="{}">difference</a>', _difference(version)),
            ]
            for version in shown[:MOST_VERSIONS]
        ]
        listed = table(["Version", "State", "Checksum", "Made", "Published", ""], cells)
        if len(shown) <= MOST_VERSIONS:
            return listed
        address = reverse("admin:workflows_version_changelist")
        return format_html('{}<a href="{}?workflow__id__exact={}">All versions</a>', listed, address, workflow.pk)

    @admin.display(description="Shared with")
    def grants(self, workflow: Workflow) -> SafeString:
        """With which members and roles, beyond what roles allow anyway."""
        rows: list[list[object]] = [[grant.kind, grant.name, grant.level.value] for grant in grants_of(workflow)]
        return table(["Kind", "Who", "For"], rows)

    @admin.action(description="Archive the selected workflows", permissions=["write"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """No run of them starts any more."""
        self._set_archived(request, queryset, archived=True)

    @admin.action(description="Restore the selected workflows", permissions=["write"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Runs may start again."""
        self._set_archived(request, queryset, archived=False)

    def _set_archived(self, request: HttpRequest, queryset: QuerySet[Workflow], *, archived: bool) -> None:
        for workflow in (rows := [row for row in queryset if self.has_write_permission(request, row)]):
            archive_workflow(by=acting(request, workflow.tenant_id), name=workflow.name, archived=archived)
        self.message_user(request, f"{len(rows)} {'archived' if archived else 'restored'}.")


@admin.register(Version)
class VersionAdmin(TenantOwnedAdmin[Version]):
    """Versions, with the document as it was sent."""

    read = Permission.WORKFLOWS_READ
    list_display = ("workflow", "number", "shown_state", "tenant", "checksum", "created_at")
    list_filter = ("state", TenantFilter)
    list_select_related = ("workflow", "tenant")
    search_fields = ("workflow__name", "=checksum")
    fields = (
        "workflow",
        "number",
        "shown_state",
        "tenant",
        "checksum",
        "created_at",
        "published_at",
        "difference",
        "graph",
        "document",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Version]:
        """A list of versions needs none of their documents."""
        rows = super().get_queryset(request)
        is_list = request.resolver_match is not None and str(request.resolver_match.url_name).endswith("_changelist")
        return rows.defer("source", "definition") if is_list else rows

    def get_urls(self) -> list[URLPattern]:
        """Django's, and the comparison of two versions."""
        view = self.admin_site.admin_view(self.difference_view)
        return [path("<uuid:version_id>/difference/", view, name="workflows_version_difference"), *super().get_urls()]

    @admin.display(description="State")
    def shown_state(self, version: Version) -> SafeString:
        """The state in its colour."""
        return badge(version.state)

    @admin.display(description="Compared")
    def difference(self, version: Version) -> SafeString:
        """Link to the comparison with the version before."""
        return format_html('<a href="{}">Difference from the previous version</a>', _difference(version))

    @admin.display(description="Graph")
    def graph(self, version: Version) -> SafeString:
        """Drawn here."""
        try:
            drawing = svg(plan_of(version))
        except PyFlowError as error:  # too large, or of node types that are not installed
            return format_html('<span class="pyflow-quiet">{}</span>', error)
        return format_html('<div class="pyflow-drawing">{}</div>', mark_safe(drawing))  # noqa: S308 - texts are escaped

    @admin.display(description="Document")
    def document(self, version: Version) -> SafeString:
        """The source with the numbers of its lines."""
        lines = numbered(version.source)
        rows = format_html_join("", '<tr><td class="pyflow-number">{}</td><td>{}</td></tr>', lines)
        rest = version.source.count("\n") + 1 - len(lines)
        more = format_html("<p>… and {} more lines</p>", rest) if rest else ""
        return format_html('<table class="pyflow-source"><tbody>{}</tbody></table>{}', rows, more)

    def difference_view(self, request: HttpRequest, version_id: Any) -> HttpResponse:
        """Show what a version changed of the one before it, or of the one whose number is ``against``."""
        version = self.get_object(request, str(version_id))
        if version is None:
            raise Http404
        if not self.has_view_permission(request, version):
            raise PermissionDenied
        rows = Version.objects.for_tenant(version.tenant_id).filter(workflow=version.workflow_id).exclude(pk=version.pk)
        others = list(rows.only("number").order_by("-number")[:MOST_VERSIONS])
        wanted = request.GET.get("against", "")
        earlier = (
            rows.filter(number=int(wanted))
            if wanted.isdecimal() and len(wanted) < 10
            else rows.filter(number__lt=version.number)
        )
        against = earlier.order_by("-number").first()
        context = {
            **self.admin_site.each_context(request),
            "title": f"{version.workflow.name}, version {version.number}"
            + ("" if against is None else f": difference from version {against.number}"),
            "workflow": version.workflow,
            "version": version,
            "against": against,
            "others": others,
            "lines": [] if against is None else compared(against.source, version.source),
        }
        return TemplateResponse(request, "workflows/admin/difference.html", context)


def _page(version: Version) -> str:
    return reverse("admin:workflows_version_change", args=[version.pk])


def _difference(version: Version) -> str:
    return reverse("admin:workflows_version_difference", args=[version.pk])
