"""``/hooks/{tenant}/{path}``: where services send their webhooks. No credential of ours, no session, no CSRF token."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from plumbing.rest.client_address import address_of
from plumbing.rest.formats import JSONRenderer
from pyflow.core.errors import DocumentTooLargeError
from pyflow.documents.reading import MAX_BYTES
from triggers.services.hooks.receiving import Inbound, receive


class InboundView(APIView):
    """Receives webhooks. The body is read as raw bytes, which the sender has signed, and never beyond 1 MiB."""

    authentication_classes = ()
    permission_classes = ()
    http_method_names = ("get", "post", "put", "patch", "delete")
    schema = None

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """Answer JSON, whatever is accepted: senders look at the status."""
        return JSONRenderer(), JSONRenderer.media_type

    def post(self, request: Request, slug: str, path: str) -> Response:
        """Start a run if the request is authentic."""
        answer = receive(
            Inbound(
                slug=slug,
                path=path,
                method=str(request.method),
                headers={name.lower(): value for name, value in request.headers.items()},
                query=request.META.get("QUERY_STRING", ""),
                body=_raw_body(request),
                client=address_of(request),
            )
        )
        return Response(answer.body, status=answer.status)

    get = put = patch = delete = post


def _raw_body(request: Request) -> bytes:
    declared: Any = request.META.get("CONTENT_LENGTH") or "0"
    body: bytes = b"" if int(declared) > MAX_BYTES else request._request.read(MAX_BYTES + 1)
    if int(declared) > MAX_BYTES or len(body) > MAX_BYTES:
        raise DocumentTooLargeError(f"the body has more than {MAX_BYTES:,} bytes (1 MiB)")
    return body
