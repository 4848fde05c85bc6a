"""Workflows over HTTP."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, ClassVar

from django.db.models import OuterRef, Subquery
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from pyflow.core.errors import DocumentError
from tenants.access import Permission
from tenants.api.conditional import check_match, etag, is_known
from tenants.api.pagination import PageQuery, paginate
from tenants.api.serializers import validated
from tenants.api.views import TenantView
from workflows.api.parsers import JSONSourceParser, Source, YAMLSourceParser
from workflows.api.serializers import WorkflowDetailShape, WorkflowListShape, WorkflowShape, show, show_saved
from workflows.models import Version, Workflow
from workflows.services import create_workflow, latest_version, put_workflow, visible_workflows

DOCUMENT = {("application/yaml"): OpenApiTypes.OBJECT, ("application/json"): OpenApiTypes.OBJECT}
HELLO = OpenApiExample(
    "Hello",
    value={
        "version": 2,
        "name": "hello",
        "inputs": {"who": "string"},
        "outputs": {"greeting": "{{ greet }}"},
        "nodes": [
            {"id": "greet", "type": "transform", "config": {"input": "Hello {{ input.who }}", "expression": "$"}}
        ],
    },
    request_only=True,
)
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name.")
CONFLICT = {(409, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description="The name is taken")}


class WorkflowsView(TenantView):
    """The workflows of the tenant."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ, "POST": Permission.WORKFLOWS_WRITE}

    parser_classes = (JSONSourceParser, YAMLSourceParser)

    @extend_schema(
        operation_id="workflows_list", summary="List workflows", parameters=[PageQuery], responses=WorkflowListShape
    )
    def get(self, request: Request) -> Response:
        """The workflows of the tenant by name, with the number and checksum of their newest version."""
        query = validated(PageQuery, request.query_params)
        newest = Version.objects.for_tenant(self.principal.tenant_id).filter(workflow=OuterRef("pk"))
        newest = newest.order_by("-number")
        rows = visible_workflows(self.principal).annotate(
            number=Subquery(newest.values("number")[:1]), checksum=Subquery(newest.values("checksum")[:1])
        )
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("name",))
        return page.response(_show_annotated)

    @extend_schema(
        operation_id="workflows_create",
        summary="Store a new workflow",
        request=DOCUMENT,
        examples=[HELLO],
        responses={201: WorkflowShape, **CONFLICT},
    )
    def post(self, request: Request) -> Response:
        """The body is the workflow document, YAML or JSON. Everything that is wrong with it is told at once."""
        source = _source(request)
        saved = create_workflow(by=self.actor, source=source.text, source_format=source.format)
        return Response(show_saved(saved), status=201, headers=_headers(request, saved.workflow))


class WorkflowView(TenantView):
    """One workflow."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ, "PUT": Permission.WORKFLOWS_WRITE}

    parser_classes = (JSONSourceParser, YAMLSourceParser)

    @extend_schema(
        operation_id="workflows_read", summary="Read a workflow", parameters=[NAME], responses=WorkflowDetailShape
    )
    def get(self, request: Request, name: str) -> Response:
        """The workflow with the definition of its newest version."""
        version = latest_version(tenant_id=self.principal.tenant_id, name=name)
        tag = _tag(version.workflow)
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        body = show(version.workflow, number=version.number, checksum=version.checksum)
        return Response(body | {"definition": json.loads(version.definition)}, headers={"ETag": tag})

    @extend_schema(
        operation_id="workflows_put",
        summary="Store a workflow or a new version of it",
        parameters=[NAME],
        request=DOCUMENT,
        examples=[HELLO],
        responses={200: WorkflowShape, 201: WorkflowShape},
    )
    def put(self, request: Request, name: str) -> Response:
        """201 for a new workflow, else 200; a document that changes nothing makes no version."""
        source = _source(request)
        saved = put_workflow(
            by=self.actor,
            name=name,
            source=source.text,
            source_format=source.format,
            precondition=partial(_check, request),
        )
        status = 201 if saved.created else 200
        return Response(show_saved(saved), status=status, headers=_headers(request, saved.workflow))


def _source(request: Request) -> Source:
    data: object = request.data
    if not isinstance(data, Source):  # DRF parses no body at all
        raise DocumentError("the request has no body; it is the workflow document, YAML or JSON")
    return data


def _show_annotated(row: Any) -> dict[str, Any]:
    return show(row, number=row.number, checksum=row.checksum)


def _tag(workflow: Workflow) -> str:
    return etag("workflow", workflow.pk, workflow.updated_at.isoformat())


def _check(request: Request, workflow: Workflow | None) -> None:
    check_match(request, None if workflow is None else _tag(workflow), required=False)


def _headers(request: Request, workflow: Workflow) -> dict[str, Any]:
    return {"Location": reverse("workflow", kwargs={"name": workflow.name}, request=request), "ETag": _tag(workflow)}
