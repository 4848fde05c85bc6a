"""Versions of workflows over HTTP."""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import is_known
from plumbing.rest.pagination import paginate
from plumbing.rest.serializers import validated
from tenants.access import Permission
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
    refused,
    version_headers,
    version_tag,
    version_unchanged,
)
from workflows.api.parsers import JSONSourceParser, YAMLSourceParser, source_of
from workflows.api.serializers import (
    DocumentQuery,
    VersionDetailShape,
    VersionListShape,
    VersionShape,
    VersionsQuery,
    definition_of,
    or_sent,
    show_version,
)
from workflows.api.views import ARCHIVED, DOCUMENT_QUOTAS, SENT_BACK
from workflows.models import Version
from workflows.services import find_workflow
from workflows.versions import (
    archive_version,
    create_draft,
    delete_draft,
    edit_draft,
    find_version,
    publish_version,
    rollback,
    versions_of,
)

NOT_A_DRAFT = (409, "The version is no longer a draft, or the workflow is archived")


class VersionsView(SharedWorkflowView):
    """The versions of one workflow."""

    parser_classes = (JSONSourceParser, YAMLSourceParser)
    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ, "POST": Permission.WORKFLOWS_WRITE}
    reads_query = frozenset({"GET"})
    limited_by: ClassVar = {"POST": DOCUMENT_QUOTAS}

    @extend_schema(
        operation_id="versions_list",
        summary="List the versions of a workflow",
        parameters=[NAME, VersionsQuery],
        responses=VersionListShape,
    )
    def get(self, request: Request, name: str) -> Response:
        """List versions, newest first, without their documents."""
        query = validated(VersionsQuery, request.query_params)
        workflow = find_workflow(tenant_id=self.principal.tenant_id, name=name)
        rows = versions_of(workflow)
        if "state" in query:
            rows = rows.filter(state=query["state"])
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("-number",))
        for version in page.rows:
            version.workflow = workflow
        return page.response(show_version)

    @extend_schema(
        operation_id="versions_create",
        summary="Store a draft",
        parameters=[NAME],
        request=DOCUMENT,
        examples=[HELLO],
        responses={201: VersionShape, **refused(ARCHIVED)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Store the next version as a draft: it can be edited, and runs cannot use it until it is published."""
        source = source_of(request)
        version = create_draft(by=self.actor, name=name, source=source.text, source_format=source.format)
        return Response(show_version(version), status=201, headers=version_headers(request, version))


class VersionView(SharedWorkflowView):
    """One version."""

    parser_classes = (JSONSourceParser, YAMLSourceParser)
    permissions: ClassVar = {
        "GET": Permission.WORKFLOWS_READ,
        "PUT": Permission.WORKFLOWS_WRITE,
        "DELETE": Permission.WORKFLOWS_WRITE,
    }
    reads_query = frozenset({"GET"})
    limited_by: ClassVar = {"PUT": DOCUMENT_QUOTAS}

    @extend_schema(
        operation_id="versions_read",
        summary="Read a version",
        parameters=[NAME, DocumentQuery],
        responses={
            200: OpenApiResponse(or_sent(VersionDetailShape), description=SENT_BACK),
            304: OpenApiResponse(description="Not modified since the `ETag` in `If-None-Match`."),
        },
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        """The version with its canonical definition."""
        query = validated(DocumentQuery, request.query_params)
        version = find_version(tenant_id=self.principal.tenant_id, name=name, number=number)
        tag = version_tag(version)
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        if "format" in query:
            return document(request, version, query["format"], tag)
        return Response(show_version(version) | {"definition": definition_of(version)}, headers={"ETag": tag})

    @extend_schema(
        operation_id="versions_put",
        summary="Edit a draft",
        parameters=[NAME, NEEDS_IF_MATCH],
        request=DOCUMENT,
        examples=[HELLO],
        responses={200: VersionShape, **refused(NOT_A_DRAFT, STALE, UNSEEN)},
    )
    def put(self, request: Request, name: str, number: int) -> Response:
        """Replace the document of a draft; a published version never changes."""
        source = source_of(request)
        version = edit_draft(
            by=self.actor,
            name=name,
            number=number,
            source=source.text,
            source_format=source.format,
            precondition=version_unchanged(request, required=True),
        )
        return _answer(version)

    @extend_schema(
        operation_id="versions_delete",
        summary="Delete a draft",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={204: OpenApiResponse(description="The draft is deleted."), **refused(NOT_A_DRAFT, STALE)},
    )
    def delete(self, request: Request, name: str, number: int) -> Response:
        """The number is not reused while a later version exists."""
        delete_draft(by=self.actor, name=name, number=number, precondition=version_unchanged(request))
        return Response(status=204)


class PublishView(SharedWorkflowView):
    """Publishing."""

    permissions: ClassVar = {"POST": Permission.WORKFLOWS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    limited_by: ClassVar = {"POST": (Quota.NODES_PER_WORKFLOW, Quota.SCHEDULE_SECONDS)}

    @extend_schema(
        operation_id="versions_publish",
        summary="Publish a draft",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={200: VersionShape, **refused(NOT_A_DRAFT, STALE)},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """New runs use the version from now on, and it can no longer be changed. Active runs keep their version."""
        return _answer(
            publish_version(by=self.actor, name=name, number=number, precondition=version_unchanged(request))
        )


class ArchiveVersionView(SharedWorkflowView):
    """Taking a version out of use."""

    permissions: ClassVar = {"POST": Permission.WORKFLOWS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})

    @extend_schema(
        operation_id="versions_archive",
        summary="Archive a published version",
        parameters=[NAME, IF_MATCH],
        request=None,
        responses={
            200: VersionShape,
            **refused((409, "The version is not published, or the workflow is archived"), STALE),
        },
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """New runs use the version published before it. If there is none, the workflow has no published version."""
        return _answer(
            archive_version(by=self.actor, name=name, number=number, precondition=version_unchanged(request))
        )


class RollbackView(SharedWorkflowView):
    """Bringing an earlier version back."""

    permissions: ClassVar = {"POST": Permission.WORKFLOWS_WRITE}
    reads_no_body: ClassVar = frozenset({"POST"})
    limited_by: ClassVar = {"POST": DOCUMENT_QUOTAS}

    @extend_schema(
        operation_id="versions_rollback",
        summary="Publish a copy of an earlier version",
        parameters=[NAME],
        request=None,
        responses={201: VersionShape, **refused((409, "The version is a draft, or the workflow is archived"))},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """Create the next version as a copy of an earlier one; `copied_from` has the earlier number."""
        version = rollback(by=self.actor, name=name, number=number)
        return Response(show_version(version), status=201, headers=version_headers(request, version))


def _answer(version: Version) -> Response:
    return Response(show_version(version), headers={"ETag": version_tag(version)})
