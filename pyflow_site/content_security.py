"""The ``Content-Security-Policy`` of every answer (https://www.w3.org/TR/CSP3/).

Nothing is loaded from elsewhere, and no script and no style stands in a page unless it has the request's nonce, which
templates write as ``{{ request.csp_nonce }}``. What is no page (the API's answers) may do nothing at all in a browser.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

HEADER = "Content-Security-Policy"
_NOWHERE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; connect-src 'self';"
    " font-src 'self'; img-src 'self' data:; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'"
)
_DOCUMENTATION = "/api/docs/"
#: Redoc makes its styles and a worker for its search by itself. It shows nothing but our own OpenAPI document.
_REDOC = "/api/docs/redoc"
_FOR_REDOC = "{page}; style-src-elem 'self' 'unsafe-inline'; worker-src blob:"
Next = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def ContentSecurityPolicy(get_response: Next) -> Next:  # noqa: N802 - middleware is named like a class
    """Give the request a nonce, and its answer the policy."""

    def begin(request: HttpRequest) -> str:
        nonce = secrets.token_urlsafe(16)
        request.csp_nonce = nonce  # type: ignore[attr-defined]
        return nonce

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            nonce = begin(request)
            response = await cast(Awaitable[HttpResponse], get_response(request))
            response.headers.setdefault(HEADER, policy(request.path_info, nonce))
            return response

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        nonce = begin(request)
        response = cast(HttpResponse, get_response(request))
        response.headers.setdefault(HEADER, policy(request.path_info, nonce))
        return response

    return sync_middleware


def policy(path: str, nonce: str) -> str:
    """The policy for what is at a path."""
    if path.startswith("/api/") and not path.startswith(_DOCUMENTATION):
        return _NOWHERE
    page = _PAGE.format(nonce=nonce)
    return _FOR_REDOC.format(page=page) if path.rstrip("/") == _REDOC else page
