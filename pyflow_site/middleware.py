"""Middleware around every request, in both worlds (sync and async)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from servestatic.middleware import ServeStaticMiddleware

from plumbing.rest.client_address import address_of
from tenants.failures import fields_of

Next = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def RateLimits(get_response: Next) -> Next:  # noqa: N802
    """Every answer of the API says how much more may be asked for.

    Views that know who asks say it themselves. What is answered without that (no route, no valid credential, open to
    anybody) reports how many failed attempts its address has left.
    """

    def lacks(request: HttpRequest, response: HttpResponseBase) -> bool:
        return f"{request.path_info}/".startswith("/api/v1/") and "RateLimit" not in response.headers

    def complete(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in fields_of(address_of(request)).items():
            response.headers[name] = value
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            response = await cast(Awaitable[HttpResponse], get_response(request))
            return await sync_to_async(complete)(request, response) if lacks(request, response) else response

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        response = cast(HttpResponse, get_response(request))
        return complete(request, response) if lacks(request, response) else response

    return sync_middleware


class _OfPages:
    """Only for pages: the API and inbound webhooks know nobody by a cookie, and have no messages."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if request.path_info.startswith(("/api/v1/", "/hooks/")):
            return cast(HttpResponseBase, self.get_response(request))  # type: ignore[attr-defined] # Django's
        return cast(HttpResponseBase, super().__call__(request))  # type: ignore[misc] # the same


class Sessions(_OfPages, SessionMiddleware):
    """Django's, of pages."""


class SessionUsers(_OfPages, AuthenticationMiddleware):
    """Django's, of pages."""


class Messages(_OfPages, MessageMiddleware):
    """Django's, of pages."""


@sync_and_async_middleware
def StaticFiles(get_response: Next) -> Next:  # noqa: N802
    """Files of installed apps, by servestatic.

    Its own middleware is for the async world only: in a WSGI server Django would run an event loop and a new thread for
    each request. Here only what is a file takes that way.
    """
    if iscoroutinefunction(get_response):
        return cast(Next, ServeStaticMiddleware(get_response))
    served = ServeStaticMiddleware(sync_to_async(get_response))

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path_info in served.files:
            return cast(HttpResponseBase, async_to_sync(served)(request))
        return cast(HttpResponseBase, get_response(request))

    return sync_middleware


@sync_and_async_middleware
def ApiPaths(get_response: Next) -> Next:  # noqa: N802
    """``/api/v1/workflows/`` is ``/api/v1/workflows``: the API has one spelling of a path and accepts both."""

    def clean(request: HttpRequest) -> HttpRequest:
        path = request.path_info
        if path.startswith("/api/") and path.endswith("/") and not path.startswith("/api/docs"):
            request.path_info = path.rstrip("/")
        return request

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            return await cast(Awaitable[HttpResponse], get_response(clean(request)))

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        return cast(HttpResponse, get_response(clean(request)))

    return sync_middleware
