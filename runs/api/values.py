"""Inputs and outputs of runs over HTTP, of any size: streamed as JSON, and verified while they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import ClassVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import etag, is_known
from runs.api.nodes import NODE_ID
from runs.api.shared import OfRun
from runs.models import NodeItem, NodeRun, Run
from runs.services.find import find_item, find_node, find_run
from runs.storage import values
from runs.storage.values import Owner, Pieces, Reference
from tenants.access import Permission

JSON_TYPE = "application/json"
Answer = Response | HttpResponse | StreamingHttpResponse
INDEX = OpenApiParameter("index", int, OpenApiParameter.PATH, description="Index of the item, from 0.")
SHAPES = {
    (200, "application/json"): OpenApiResponse(OpenApiTypes.ANY, description="The value, or `null` if there is none."),
    (200, "application/yaml"): OpenApiResponse(OpenApiTypes.ANY, description="The value, or `null` if there is none."),
    304: OpenApiResponse(description="Not modified since the `ETag` in `If-None-Match`"),
}


class ValueView(OfRun):
    """A value of one run."""

    permissions: ClassVar = {"GET": Permission.RUNS_READ}

    def answer(self, request: Request, row: Run | NodeRun | NodeItem, field: str) -> Answer:
        """The value that a field of a row has, or refers to."""
        value, reference = getattr(row, field), Reference.of(getattr(row, f"{field}_ref"))
        content = values.content_of(value)
        tag = etag(
            "value",
            request.accepted_media_type,
            hashlib.sha256(content).hexdigest() if reference is None else reference.sha256,
        )
        if is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        owner = Owner(row.tenant_id, row.pk if isinstance(row, Run) else row.run_id)
        if request.accepted_renderer.format != "json":
            return Response(value if reference is None else values.load(owner, reference), headers={"ETag": tag})
        if reference is None:
            return HttpResponse(content, content_type=JSON_TYPE, headers={"ETag": tag})
        pieces = values.stream(owner, reference)
        # Whoever gets less than the length says has not got the value: reading it has found it damaged.
        headers = {"ETag": tag, "Content-Length": str(reference.size)}
        # An iterator of the other kind would be read to its end before the first byte is sent.
        stream = _AsyncPieces(pieces) if isinstance(request._request, ASGIRequest) else pieces
        return StreamingHttpResponse(stream, content_type=JSON_TYPE, headers=headers)


class _AsyncPieces:
    """Pieces for a server that awaits them; each is read on a thread."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.close = pieces.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await sync_to_async(_next)(self._pieces):
            yield piece


def _next(pieces: Pieces) -> bytes:
    return next(pieces, b"")


class InputView(ValueView):
    """The input of one run."""

    @extend_schema(operation_id="run_input_read", summary="Read a run's input", responses=SHAPES)
    def get(self, request: Request, run_id: UUID) -> Answer:
        """Read the whole input; its size is not limited."""
        return self.answer(request, find_run(tenant_id=self.principal.tenant_id, run_id=run_id), "input")


class OutputsView(ValueView):
    """The outputs of one run."""

    @extend_schema(operation_id="run_outputs_read", summary="Read a run's outputs", responses=SHAPES)
    def get(self, request: Request, run_id: UUID) -> Answer:
        """Read all outputs; their size is not limited."""
        return self.answer(request, find_run(tenant_id=self.principal.tenant_id, run_id=run_id), "outputs")


class OutputView(ValueView):
    """The output of one node."""

    @extend_schema(
        operation_id="run_node_output_read",
        summary="Read a node's output",
        parameters=[NODE_ID],
        responses=SHAPES,
    )
    def get(self, request: Request, run_id: UUID, node_id: str) -> Answer:
        """Read the whole input; its size is not limited."""
        node, _ = find_node(tenant_id=self.principal.tenant_id, run_id=run_id, node_id=node_id)
        return self.answer(request, node, "output")


class ItemOutputView(ValueView):
    """The output of one item of a fan-out."""

    @extend_schema(
        operation_id="run_node_item_output_read",
        summary="Read an item's output",
        parameters=[NODE_ID, INDEX],
        responses=SHAPES,
    )
    def get(self, request: Request, run_id: UUID, node_id: str, index: int) -> Answer:
        """Read the whole input; its size is not limited."""
        item = find_item(tenant_id=self.principal.tenant_id, run_id=run_id, node_id=node_id, index=index)
        return self.answer(request, item, "output")
