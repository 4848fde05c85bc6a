"""Workflows without running them, over HTTP: the format, verdicts on documents, dry runs and graphs."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import validated
from pyflow.compare.drawing import graph, mermaid
from pyflow.validation.file_schema import file_schema
from secrets_vault.services import missing_secrets
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.scoping import tenant_scope
from workflows.api.answers import DOCUMENT, HELLO, NAME, SharedWorkflowView, verbatim, version_tag
from workflows.api.parsers import JSONSourceParser, YAMLSourceParser, source_of
from workflows.api.serializers import DryRun, DryRunDocument, GraphQuery
from workflows.graph_drawing import svg
from workflows.models import Version
from workflows.rehearsals import plan_run, verdict_on
from workflows.services import find_current, plan_of
from workflows.versions import find_version


class VerdictProblemShape(serializers.Serializer[Any]):
    """One error or warning."""

    code = serializers.CharField()
    detail = serializers.CharField()
    pointer = serializers.CharField(help_text="JSON Pointer (RFC 6901) into the document.")
    line = serializers.IntegerField(required=False)
    column = serializers.IntegerField(required=False)
    suggestion = serializers.CharField(required=False)


class VerdictShape(serializers.Serializer[Any]):
    """The result of a validation."""

    valid = serializers.BooleanField()
    name = serializers.CharField(allow_null=True)
    problems = VerdictProblemShape(many=True)
    warnings = VerdictProblemShape(many=True, help_text="Valid, but probably a mistake.")
    secrets = serializers.ListField(
        child=serializers.CharField(), help_text="Names of the secrets that the document uses."
    )
    missing_secrets = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Names of used secrets that do not exist; null without the permission `secrets:read`.",
    )


class DryRunShape(serializers.Serializer[Any]):
    """The result of a dry run."""

    workflow = serializers.CharField()
    version = serializers.IntegerField(help_text="Version of the workflow format.")
    order = serializers.ListField(child=serializers.CharField())
    levels = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    critical_path = serializers.ListField(child=serializers.CharField())
    skipped = serializers.DictField(child=serializers.CharField(), help_text="Reasons by node.")
    unresolved = serializers.ListField(child=serializers.DictField())
    input_problems = serializers.ListField(child=serializers.DictField())
    nodes = serializers.ListField(child=serializers.DictField())


class ValidateView(TenantView):
    """Verdicts on documents."""

    keeps_answers = False  # nothing is done, so nothing can be done twice; and documents are not kept
    parser_classes = (JSONSourceParser, YAMLSourceParser)
    permissions: ClassVar = {"POST": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="workflows_validate",
        summary="Check a document and store nothing",
        request=DOCUMENT,
        examples=[HELLO],
        responses=VerdictShape,
    )
    def post(self, request: Request) -> Response:
        """List errors with line, column and suggestion, warnings, and the secrets that the document uses."""
        source = source_of(request)
        return Response({"source": source.text, "format": source.format})

    def after(self, request: Request, response: Response) -> Response:
        """The verdict, for which no transaction is kept waiting."""
        verdict = verdict_on(response.data["source"], response.data["format"], tenant_id=self.principal.tenant_id)
        with tenant_scope(self.principal.tenant_id, write=False):
            response.data = verdict | {"missing_secrets": self._missing(verdict["secrets"])}
        return response

    def _missing(self, names: list[str]) -> list[str] | None:
        """Only for who may know which secrets there are."""
        if not self.principal.may(Permission.SECRETS_READ):
            return None
        return missing_secrets(tenant_id=self.principal.tenant_id, names=names)


class FormatView(TenantView):
    """The format of documents."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="workflows_schema", summary="Read the JSON Schema of workflows", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        """Read the JSON Schema that editors use to validate and complete workflow documents."""
        return Response(file_schema())


class DryRunView(SharedWorkflowView):
    """Plans of runs."""

    keeps_answers = False
    permissions: ClassVar = {"POST": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="workflows_dry_run",
        summary="Plan a run and run nothing",
        parameters=[NAME],
        request=DryRun,
        responses=DryRunShape,
    )
    def post(self, request: Request, name: str) -> Response:
        """Compute the order, levels, critical path, nodes that would be skipped, and references without a target."""
        body = validated(DryRun, request.data)
        version = _version(self.principal.tenant_id, name, body)
        return _to_plan(version.source, version.source_format, body["input"], stored=True)

    def after(self, request: Request, response: Response) -> Response:
        """The plan, for which no transaction is kept waiting."""
        return _planned(response, self.principal.tenant_id)


class DocumentDryRunView(TenantView):
    """Plans of runs of documents that are not stored."""

    keeps_answers = False
    permissions: ClassVar = {"POST": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="workflows_dry_run_document",
        summary="Plan a run of a document, store nothing and run nothing",
        request=DryRunDocument,
        responses=DryRunShape,
        examples=[OpenApiExample("Hello", value={"document": HELLO.value, "input": {"who": "Ada"}}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Like a dry run of a stored workflow. The response to an invalid document lists all problems."""
        body = validated(DryRunDocument, request.data)
        document, format = body["document"], body["format"]
        if not isinstance(document, str):
            document, format = json.dumps(document), "json"
        return _to_plan(document, format, body["input"], stored=False)

    def after(self, request: Request, response: Response) -> Response:
        """The plan, for which no transaction is kept waiting."""
        return _planned(response, self.principal.tenant_id)


class GraphView(SharedWorkflowView):
    """Graphs."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="workflows_graph",
        summary="Draw a workflow's graph",
        parameters=[NAME, GraphQuery],
        responses={
            (200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT, description="Nodes, edges and levels."),
            (200, "application/yaml"): OpenApiResponse(OpenApiTypes.OBJECT),
            (200, "image/svg+xml"): OpenApiResponse(OpenApiTypes.STR, description="`format=svg`"),
            (200, "text/vnd.mermaid"): OpenApiResponse(OpenApiTypes.STR, description="`format=mermaid`"),
        },
    )
    def get(self, request: Request, name: str) -> Response:
        """Read the graph as JSON, Mermaid, or SVG without scripts. A drawing has at most 500 nodes."""
        query = validated(GraphQuery, request.query_params)
        version = _version(self.principal.tenant_id, name, query)
        plan, headers = plan_of(version), {"ETag": version_tag(version)}
        if query["format"] == "svg":
            closed = {"Content-Security-Policy": "default-src 'none'"}
            return verbatim(request, svg(plan), "image/svg+xml", headers | closed)
        if query["format"] == "mermaid":
            return verbatim(request, "\n".join([*mermaid(plan), ""]), "text/vnd.mermaid; charset=utf-8", headers)
        return Response(graph(plan), headers=headers)


def _to_plan(source: str, source_format: str, input: Any, *, stored: bool) -> Response:
    """Return what is to be planned once the transaction has ended; `_planned` makes the answer of it."""
    return Response({"source": source, "source_format": source_format, "input": input, "stored": stored})


def _planned(response: Response, tenant_id: UUID) -> Response:
    response.data = plan_run(**response.data, tenant_id=tenant_id)
    return response


def _version(tenant_id: Any, name: str, query: dict[str, Any]) -> Version:
    if "version" in query:
        return find_version(tenant_id=tenant_id, name=name, number=query["version"])
    return find_current(tenant_id=tenant_id, name=name)
