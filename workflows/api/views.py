"""Workflows over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import is_known
from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.plans import Quota
from workflows.api.answers import (
    DOCUMENT,
    HELLO,
    IF_MATCH,
    NAME,
    NEEDS_IF_MATCH,
    STALE,
    UNSEEN,
    SharedWorkflowView,
    document,
    headers_of,
    refused,
    tag_of,
    unchanged,
)
from workflows.api.parsers import JSONSourceParser, MergePatchParser, YAMLSourceParser, data_of, source_of
from workflows.api.serializers import (
    CreateQuery,
    DocumentQuery,
    WorkflowDetailShape,
    WorkflowListShape,
    WorkflowShape,
    WorkflowsQuery,
    definition_of,
    or_sent,
    show,
    show_with,
)
from workflows.models import Workflow
from workflows.services import (
    Saved,
    archive_workflow,
    create_workflow,
    current_version,
    delete_workflow,
    find_current,
    patch_workflow,
    put_workflow,
    visible_workflows,
    with_current_version,
)

SENT_BACK = "With `format`, the document itself."
ARCHIVED = (409, "The workflow is archived")
DOCUMENT_QUOTAS = (Quota.NODES_PER_WORKFLOW, Quota.SCHEDULE_SECONDS, Quota.STORED_BYTES)


class WorkflowsView(TenantView):
    """The workflows of the tenant."""

    parser_classes = (JSONSourceParser, YAMLSourceParser)
    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ, "POST": Permission.WORKFLOWS_WRITE}
    reads_query = frozenset({"GET", "POST"})
    limited_by: ClassVar = {"POST": (Quota.WORKFLOWS, *DOCUMENT_QUOTAS)}

    @extend_schema(
        operation_id="workflows_list",
        summary="List workflows",
        parameters=[WorkflowsQuery],
        responses=WorkflowListShape,
    )
    def get(self, request: Request) -> Response:
        """List the tenant's workflows by name, with the number and checksum of the version that new runs use."""
        query = validated(WorkflowsQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = with_current_version(_filtered(visible_workflows(self.principal), query), tenant_id)
        ordering = query["ordering"]
        order = (ordering,) if ordering.endswith("name") else (ordering, "id")
        return paginate(request, rows, query, tenant_id=tenant_id, order=order).response(_show_annotated)

    @extend_schema(
        operation_id="workflows_create",
        summary="Store a new workflow",
        parameters=[CreateQuery],
        request=DOCUMENT,
        examples=[HELLO],
        responses={201: WorkflowShape, **refused((409, "The name is taken"))},
    )
    def post(self, request: Request) -> Response:
        """The body is the workflow document, YAML or JSON. The response to an invalid document lists all problems."""
        draft = validated(CreateQuery, request.query_params)["draft"]
        source = source_of(request)
        saved = create_workflow(by=self.actor, source=source.text, source_format=source.format, draft=draft)
        return _answer(request, saved)


class WorkflowView(SharedWorkflowView):
    """One workflow."""

    parser_classes = (JSONSourceParser, YAMLSourceParser, MergePatchParser)
    permissions: ClassVar = {
        "GET": Permission.WORKFLOWS_READ,
        "PUT": Permission.WORKFLOWS_WRITE,
        "PATCH": Permission.WORKFLOWS_WRITE,
        "DELETE": Permission.WORKFLOWS_WRITE,
    }
    reads_query = frozenset({"GET"})
    limited_by: ClassVar = {"PUT": (Quota.WORKFLOWS, *DOCUMENT_QUOTAS), "PATCH": DOCUMENT_QUOTAS}

    def shared_object(self) -> Workflow | None:
        """The workflow may have been shared with who asks; that is no leave to delete it."""
        return None if self.request.method == "DELETE" else super().shared_object()

    @extend_schema(
        operation_id="workflows_read",
        summary="Read a workflow",
        parameters=[NAME, DocumentQuery],
        responses={
            200: OpenApiResponse(or_sent(WorkflowDetailShape), description=SENT_BACK),
            304: OpenApiResponse(description="Not modified since the `ETag` in `If-None-Match`."),
        },
    )
    def get(self, request: Request, name: str) -> Response:
        """Read a workflow with the definition of its published version or, without one, of its newest version."""
        query = validated(DocumentQuery, request.query_params)
        version = find_current(tenant_id=self.principal.tenant_id, name=name)
        tag = tag_of(version.workflow)
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        if "format" in query:
            return document(request, version, query["format"], tag)
        return Response(show_with(version) | {"definition": definition_of(version)}, headers={"ETag": tag})

    @extend_schema(
        operation_id="workflows_put",
        summary="Publish a document as a workflow, or as its next version",
        parameters=[NAME, IF_MATCH],
        request=DOCUMENT,
        examples=[HELLO],
        responses={200: WorkflowShape, 201: WorkflowShape, **refused(ARCHIVED, STALE)},
    )
    def put(self, request: Request, name: str) -> Response:
        """201 for a new workflow, otherwise 200. A document that means the same creates no version.

        That is so if it differs in comments, layout or the order of keys alone: the stored text stays as it was.
        """
        source = source_of(request)
        saved = put_workflow(
            by=self.actor,
            name=name,
            source=source.text,
            source_format=source.format,
            precondition=unchanged(request),
        )
        return _answer(request, saved)

    @extend_schema(
        operation_id="workflows_patch",
        summary="Publish the current document with changes",
        parameters=[NAME, NEEDS_IF_MATCH],
        request={
            name: {"$ref": "#/components/schemas/WorkflowPatch"} for name in ("application/merge-patch+json", *DOCUMENT)
        },
        responses={200: WorkflowShape, **refused(ARCHIVED, STALE, UNSEEN)},
    )
    def patch(self, request: Request, name: str) -> Response:
        """The body is a JSON Merge Patch (RFC 7396) of the document: `null` removes, lists are replaced as a whole.

        The result is the next version, in the format of the one before; comments of YAML are lost.
        """
        patch = data_of(source_of(request))
        saved = patch_workflow(by=self.actor, name=name, patch=patch, precondition=unchanged(request, required=True))
        return _answer(request, saved)

    @extend_schema(
        operation_id="workflows_delete",
        summary="Delete a workflow",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={
            204: OpenApiResponse(description="The workflow, its versions and its runs are deleted."),
            **refused((409, "The workflow has runs and is not archived, or it has active runs"), STALE),
        },
    )
    def delete(self, request: Request, name: str) -> Response:
        """Refused if the workflow has runs, unless it is archived and none is active: then they are deleted, too."""
        delete_workflow(by=self.actor, name=name, precondition=unchanged(request))
        return Response(status=204)


class _ArchivingView(TenantView):
    permissions: ClassVar = {"POST": Permission.WORKFLOWS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    archived: ClassVar[bool]

    def _archive(self, request: Request, name: str) -> Response:
        workflow = archive_workflow(by=self.actor, name=name, archived=self.archived, precondition=unchanged(request))
        version = current_version(workflow)
        version.workflow = workflow
        return Response(show_with(version), headers={"ETag": tag_of(workflow)})


class ArchiveView(_ArchivingView):
    """Taking a workflow out of use."""

    archived = True

    @extend_schema(
        operation_id="workflows_archive",
        summary="Archive a workflow",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={200: WorkflowShape, **refused(STALE)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Refuse new runs and changes until the workflow is unarchived; active runs continue. Idempotent."""
        return self._archive(request, name)


class UnarchiveView(_ArchivingView):
    """Taking a workflow back into use."""

    archived = False

    @extend_schema(
        operation_id="workflows_unarchive",
        summary="Unarchive a workflow",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={200: WorkflowShape, **refused(STALE)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Allow new runs and changes again. Idempotent."""
        return self._archive(request, name)


def _answer(request: Request, saved: Saved) -> Response:
    saved.version.workflow = saved.workflow
    status = 201 if saved.created else 200
    return Response(show_with(saved.version), status=status, headers=headers_of(request, saved.workflow))


def _filtered(rows: QuerySet[Workflow], query: dict[str, Any]) -> QuerySet[Workflow]:
    if query["state"] != "all":
        rows = rows.filter(archived_at__isnull=query["state"] == "active")
    if "search" in query:
        rows = rows.filter(Q(name__icontains=query["search"]) | Q(description__icontains=query["search"]))
    for field in ("created", "updated"):
        for edge, comparison in (("after", "gte"), ("before", "lt")):
            if f"{field}_{edge}" in query:
                rows = rows.filter(**{f"{field}_at__{comparison}": query[f"{field}_{edge}"]})
    for number, label in enumerate(query["label"]):
        key, _, value = label.partition(":")
        rows = rows.alias(**{f"label_{number}": KeyTransform(key, "labels")}).filter(**{f"label_{number}": value})
    return rows


def _show_annotated(row: Any) -> dict[str, Any]:
    return show(row, number=row.number, state=row.version_state, checksum=row.checksum)
