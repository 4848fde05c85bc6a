"""Workflows over HTTP."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import F, OuterRef, Subquery
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from pyflow.core.errors import DocumentError
from tenants.api.authentication import tenant_of
from workflows.api.parsers import JSONSourceParser, Source, YAMLSourceParser
from workflows.api.serializers import WorkflowDetailShape, WorkflowListShape, WorkflowShape, show, show_saved
from workflows.models import Version, Workflow
from workflows.services import create_workflow, latest_version, put_workflow

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


class WorkflowsView(APIView):
    """The workflows of the tenant."""

    parser_classes = (JSONSourceParser, YAMLSourceParser)

    @extend_schema(operation_id="workflows_list", summary="List workflows", responses=WorkflowListShape)
    def get(self, request: Request) -> Response:
        """All workflows of the tenant by name, with the number and checksum of their newest version."""
        newest = Version.unscoped.filter(workflow=OuterRef("pk")).order_by("-number")
        rows = (
            Workflow.objects.for_tenant(tenant_of(request).tenant_id)
            .annotate(number=Subquery(newest.values("number")[:1]), checksum=Subquery(newest.values("checksum")[:1]))
            .order_by(F("name"))
        )
        return Response({"results": [show(row, number=row.number, checksum=row.checksum) for row in rows]})

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
        saved = create_workflow(tenant_id=tenant_of(request).tenant_id, source=source.text, source_format=source.format)
        return Response(show_saved(saved), status=201, headers=_location(request, saved.workflow))


class WorkflowView(APIView):
    """One workflow."""

    parser_classes = (JSONSourceParser, YAMLSourceParser)

    @extend_schema(
        operation_id="workflows_read", summary="Read a workflow", parameters=[NAME], responses=WorkflowDetailShape
    )
    def get(self, request: Request, name: str) -> Response:
        """The workflow with the definition of its newest version."""
        version = latest_version(tenant_id=tenant_of(request).tenant_id, name=name)
        body = show(version.workflow, number=version.number, checksum=version.checksum)
        return Response(body | {"definition": json.loads(version.definition)})

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
            tenant_id=tenant_of(request).tenant_id, name=name, source=source.text, source_format=source.format
        )
        status = 201 if saved.created else 200
        return Response(show_saved(saved), status=status, headers=_location(request, saved.workflow))


def _source(request: Request) -> Source:
    data: object = request.data
    if not isinstance(data, Source):  # DRF parses no body at all
        raise DocumentError("the request has no body; it is the workflow document, YAML or JSON")
    return data


def _location(request: Request, workflow: Workflow) -> dict[str, Any]:
    return {"Location": reverse("workflow", kwargs={"name": workflow.name}, request=request)}
