"""Which application answers what a server receives: Django for HTTP, Channels for WebSockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections

from events.consumers import websockets
from pyflow_site.body_limits import limited
from pyflow_site.pacing import PacedSend

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
#: How many requests for streams are looked at, at a time, before their answers begin.
ADMISSIONS = 4


def routed(over_http: Application) -> Application:
    """Return the ASGI application of a server, of which ``over_http`` is Django's part."""
    # Django would keep a thread, and its connection of the database, for as long as each stream lasts.
    threads = cycle([ThreadPoolExecutor(1, thread_name_prefix=f"pyflow-admission-{i}") for i in range(ADMISSIONS)])

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve HTTP by Django, and WebSockets by Channels."""
        if scope["type"] == "websocket":
            await websockets(scope, receive, send)
        elif _asks_for_stream(scope):
            async with ThreadSensitiveContext(executor=next(threads)):
                await over_http(scope, limited(scope, receive), _without_connection(PacedSend(send)))
        else:
            await over_http(scope, limited(scope, receive), send)

    return application


def _asks_for_stream(scope: Mapping[str, Any]) -> bool:
    return scope["type"] == "http" and any(
        name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"]
    )


def _without_connection(send: PacedSend) -> Send:
    """Give the thread's connection of the database back before the answer begins: it may last for minutes."""

    async def sending(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await sync_to_async(connections.close_all)()
        await send(message)

    return sending
