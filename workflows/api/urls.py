"""Routes of workflows, below ``/api/v1/``."""

from django.urls import path

from workflows.api.differences import DiffView
from workflows.api.grants import GrantsView, GrantView
from workflows.api.plans import DocumentDryRunView, DryRunView, FormatView, GraphView, ValidateView
from workflows.api.versions import ArchiveVersionView, PublishView, RollbackView, VersionsView, VersionView
from workflows.api.views import ArchiveView, UnarchiveView, WorkflowsView, WorkflowView

VERSION = "workflows/<str:name>/versions/<int:number>"

urlpatterns = [
    path("workflows", WorkflowsView.as_view(), name="workflows"),
    path("workflows/validate", ValidateView.as_view(), name="workflows-validate"),
    path("workflows/dry-run", DocumentDryRunView.as_view(), name="workflows-dry-run"),
    path("workflows/schema", FormatView.as_view(), name="workflows-schema"),
    path("workflows/<str:name>", WorkflowView.as_view(), name="workflow"),
    path("workflows/<str:name>/grants", GrantsView.as_view(), name="workflow-grants"),
    path("workflows/<str:name>/grants/<str:grant_id>", GrantView.as_view(), name="workflow-grant"),
    path("workflows/<str:name>/archive", ArchiveView.as_view(), name="workflow-archive"),
    path("workflows/<str:name>/unarchive", UnarchiveView.as_view(), name="workflow-unarchive"),
    path("workflows/<str:name>/dry-run", DryRunView.as_view(), name="workflow-dry-run"),
    path("workflows/<str:name>/graph", GraphView.as_view(), name="workflow-graph"),
    path("workflows/<str:name>/versions", VersionsView.as_view(), name="workflow-versions"),
    path("workflows/<str:name>/versions/diff", DiffView.as_view(), name="versions-diff"),
    path(VERSION, VersionView.as_view(), name="workflow-version"),
    path(f"{VERSION}/publish", PublishView.as_view(), name="version-publish"),
    path(f"{VERSION}/archive", ArchiveVersionView.as_view(), name="version-archive"),
    path(f"{VERSION}/rollback", RollbackView.as_view(), name="version-rollback"),
]
