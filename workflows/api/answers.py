"""The common part of the workflow views: documents and drawings as responses, tags, addresses, preconditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from plumbing.rest.conditional import check_match, etag
from pyflow.validation.loader import Format
from tenants.api.views import TenantView
from workflows.documents import converted
from workflows.models import Version, Workflow
from workflows.services import workflow_or_none

MEDIA_TYPES: Mapping[Format, str] = {"json": "application/json", "yaml": "application/yaml"}
DOCUMENT = {name: {"$ref": "#/components/schemas/WorkflowDocument"} for name in MEDIA_TYPES.values()}
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
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name, or its id.")
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier response: 412 if the workflow has changed since then.",
)
NEEDS_IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="The `ETag` of an earlier response, or `*`. Required: 428 without it.",
)


def refused(*reasons: tuple[int, str]) -> dict[tuple[int, str], OpenApiResponse]:
    """Documented refusals: each a status and its meaning."""
    return {
        (status, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, description=text)
        for status, text in reasons
    }


STALE = (412, "The object has changed since it was read")
UNSEEN = (428, "`If-Match` is missing")


class SharedWorkflowView(TenantView):
    """Base of views of one workflow, which may have been shared with the caller."""

    def shared_object(self) -> Workflow | None:
        """The workflow of the address."""
        return workflow_or_none(tenant_id=self.principal.tenant_id, name=self.kwargs["name"])


class Verbatim(BaseRenderer):
    """Text that is sent as it is."""

    charset = None

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The text as UTF-8."""
        return str(data).encode()


def verbatim(request: Request, text: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """An answer that is not data but a text of its own, whatever ``Accept`` says."""
    request.accepted_renderer = Verbatim(media_type)
    request.accepted_media_type = media_type
    return Response(text, headers=dict(headers))


def document(request: Request, version: Version, format: Format, tag: str) -> Response:
    """The document of a version, in the format that is asked for."""
    source_format: Format = "json" if version.source_format == "json" else "yaml"
    text = converted(version.source, source_format, format)
    return verbatim(request, text, MEDIA_TYPES[format], {"ETag": tag})


def tag_of(workflow: Workflow) -> str:
    """The ``ETag`` of a workflow."""
    return etag("workflow", workflow.pk, workflow.revision)


def version_tag(version: Version) -> str:
    """The ``ETag`` of a version."""
    return etag("version", version.pk, version.state, version.updated_at.isoformat())


def unchanged(request: Request, *, required: bool = False) -> Callable[[Workflow | None], None]:
    """The precondition that a workflow is as the caller has seen it."""
    return lambda workflow: check_match(request, None if workflow is None else tag_of(workflow), required=required)


def version_unchanged(request: Request, *, required: bool = False) -> Callable[[Version], None]:
    """The precondition that a version is as the caller has seen it."""
    return lambda version: check_match(request, version_tag(version), required=required)


def headers_of(request: Request, workflow: Workflow) -> dict[str, str]:
    """``Location`` and ``ETag`` of a workflow."""
    return {"Location": reverse("workflow", kwargs={"name": workflow.name}, request=request), "ETag": tag_of(workflow)}


def version_headers(request: Request, version: Version) -> dict[str, str]:
    """``Location`` and ``ETag`` of a version."""
    at = {"name": version.workflow.name, "number": version.number}
    return {"Location": reverse("workflow-version", kwargs=at, request=request), "ETag": version_tag(version)}
