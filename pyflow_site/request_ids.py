"""An id for each request: in its answer, in problem documents, in the audit, and in what is logged for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars, get_contextvars

from pyflow.core.ids import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
Next = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class RequestIdFilter(logging.Filter):
    """Give each record the ``request_id`` of the request that it belongs to; ``-`` outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.request_id = get_contextvars().get("request_id", "-")
        return True


@sync_and_async_middleware
def RequestId(get_response: Next) -> Next:  # noqa: N802 - middleware is named like a class
    """Take or make ``X-Request-ID``, answer with it, and bind it for what is logged meanwhile."""

    def begin(request: HttpRequest) -> str:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        request.request_id = request_id  # type: ignore[attr-defined]
        return request_id

    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            request_id = begin(request)
            with bound_contextvars(request_id=request_id):
                response = await cast(Awaitable[HttpResponse], get_response(request))
            response.headers["X-Request-ID"] = request_id
            return response

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        request_id = begin(request)
        with bound_contextvars(request_id=request_id):
            response = cast(HttpResponse, get_response(request))
        response.headers["X-Request-ID"] = request_id
        return response

    return sync_middleware
