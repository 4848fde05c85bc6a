"""Limits the bodies of requests to inbound webhooks before Django reads them.

Django's ASGI handler stores a whole body, however large it is, before a view is called. Here it gets no more than one
byte beyond the limit, by which the view sees that it is exceeded, and answers 413.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pyflow.documents.reading import MAX_BYTES

Receive = Callable[[], Awaitable[Any]]
#: Where anybody may send anything.
PATH = "/hooks/"


def limited(scope: dict[str, Any], receive: Receive) -> Receive:
    """Return what receives the body of a request: that of an inbound webhook ends beyond the limit."""
    if scope["type"] != "http" or not scope["path"].startswith(PATH):
        return receive
    left = 0 if _declared(scope) > MAX_BYTES else MAX_BYTES + 1
    is_over = False

    async def receive_limited() -> Any:
        nonlocal left, is_over
        if is_over:
            return await receive()
        if left == 0:
            is_over = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")[:left]
            left -= len(body)
            is_over = not message.get("more_body", False) or left == 0
            message = {**message, "body": body, "more_body": not is_over}
        return message

    return receive_limited


def _declared(scope: dict[str, Any]) -> int:
    """The length that the request says its body has; 0 if it does not say so."""
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(given[:20]) if given.isdigit() else 0
