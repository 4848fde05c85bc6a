"""Limits the bodies of requests to inbound webhooks before Django reads them.

Django's ASGI handler stores a whole body, however large it is, before a view is called. Here it gets no more than one
byte beyond the limit, by which the view sees that it is exceeded, and answers 413.
"""

from __future__ import annotations

import asyncio
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
    is_read = is_cut = False

    async def receive_limited() -> Any:
        nonlocal left, is_read, is_cut
        if is_cut:  # nothing more is read: Django waits for the sender to leave, until it has answered
            await asyncio.Event().wait()
        if is_read:
            return await receive()
        if left == 0:
            is_cut = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await receive()
        if message["type"] == "http.request":
            body, more = message.get("body", b"")[:left], message.get("more_body", False)
            left -= len(body)
            is_read, is_cut = not more, more and left == 0
            message = {**message, "body": body, "more_body": more and not is_cut}
        return message

    return receive_limited


def _declared(scope: dict[str, Any]) -> int:
    """The length that the request says its body has; 0 if it does not say so."""
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(given[:20]) if given.isdigit() else 0
