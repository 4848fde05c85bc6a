"""Streams over WebSocket (RFC 6455), by Channels.

A connection is refused or allowed by the same views as the streams over HTTP. What is refused is accepted first and
then closed with a code of 4000 and more: browsers do not show their pages why a handshake failed. The client
acknowledges what it has handled, and is sent no more than a window beyond that.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponseBase
from django.urls import path
from django.utils.http import is_same_domain

from events.api.views import LogView, RunEventsView
from events.streams.hub import current_hub
from events.streams.rows import End, Item, LogRow
from events.streams.sse import MEDIA_TYPE, EventStreamResponse, Plan
from events.streams.stream import Stream
from plumbing.rest.formats import to_json

logger = logging.getLogger(__name__)
#: The subprotocol that is answered, and how one that carries a ticket begins.
PROTOCOL, TICKET = "pyflow.v1", "ticket."
#: Rows and bytes that are sent beyond what the client has acknowledged, and how long that may last. Seconds.
MOST_UNACKNOWLEDGED, MOST_BYTES, PATIENCE = 1000, 4 * 1024 * 1024, 30.0
#: How often a stream without news is looked at, and one whose client acknowledges nothing. Seconds.
LOOK, LOOK_WHILE_FULL = 15.0, 2.0
#: The longest message of a client. Bytes.
MOST_MESSAGE = 4096
#: Close codes by the status that the same request has over HTTP. Not those of RFC 6455, such as 1013 for a server that
#: is busy: daphne sends none of them but 1000.
CLOSE_CODES: Mapping[int, int] = {401: 4401, 403: 4403, 404: 4404, 410: 4410, 429: 4429, 503: 4503}
BAD_REQUEST, NOT_ACKNOWLEDGED, NORMAL, FAILED = 4400, 4408, 1000, 4500
LATE = End(
    "not_acknowledged",
    f"Events were sent and not acknowledged for {PATIENCE:g} seconds. Send "
    '{"ack": cursor} with the `cursor` of the last event that you have handled.',
)


class ClientGoneError(Exception):
    """The server cannot send to this client any more."""


class EventsConsumer(AsyncWebsocketConsumer):  # type: ignore[misc] # it has no types
    """One connection."""

    async def connect(self) -> None:
        """Refuse a foreign origin; accept, and send what is allowed."""
        self._sender: asyncio.Task[None] | None = None
        self._unacknowledged: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._acknowledged = asyncio.Event()
        if not _is_own_origin(self.scope):
            await self.close()  # before it is accepted: the handshake is answered with 403
            return
        await self.accept(PROTOCOL if PROTOCOL in self.scope["subprotocols"] else None)
        hub = current_hub()
        response = await hub.in_thread(_admit, self.scope)
        if isinstance(response, EventStreamResponse):
            self._sender = hub.loop.create_task(self._send_all(response.plan))
        else:
            problem = getattr(response, "data", {})
            await self._refuse(response.status_code, problem)

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 - as Channels calls it
        """Stop sending."""
        if self._sender is not None:
            self._sender.cancel()
            with suppress(asyncio.CancelledError):
                await self._sender

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002 - as Channels calls it
        """Take an acknowledgement: ``{"ack": cursor}`` is about that row, and all before it."""
        acknowledged = _acknowledgement(text_data)
        if acknowledged is None:
            await self._refuse(400, {"code": "message_invalid", "detail": 'Send {"ack": cursor} and nothing else.'})
            return
        if any(id == acknowledged for id, _ in self._unacknowledged):
            while self._unacknowledged:
                id, size = self._unacknowledged.popleft()
                self._bytes -= size
                if id == acknowledged:
                    break
            self._acknowledged.set()

    async def _send_all(self, plan: Plan) -> None:
        stream = plan.open()
        try:
            while True:
                for item in await stream.take(LOOK):
                    end = item if isinstance(item, End) else await self._wait_for_room(stream)
                    if end is not None:
                        code = NOT_ACKNOWLEDGED if end is LATE else CLOSE_CODES.get(end.status, NORMAL)
                        await self._end(end, code)
                        return
                    await self._send_item(plan, item)
        except ClientGoneError:
            logger.debug("a client has gone while it was sent something", exc_info=True)
        except Exception:
            logger.exception("a stream over WebSocket failed")
            await self.close(FAILED)
        finally:
            stream.close()

    async def _wait_for_room(self, stream: Stream) -> End | None:
        """Wait until the client may be sent more; return why the stream ends if it may not."""
        until = current_hub().loop.time() + PATIENCE
        while len(self._unacknowledged) >= MOST_UNACKNOWLEDGED or self._bytes >= MOST_BYTES:
            if stream.refusal is not None:
                return stream.refusal
            if current_hub().loop.time() >= until:
                return LATE
            self._acknowledged.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WHILE_FULL):
                    await self._acknowledged.wait()
        return None

    async def _send_item(self, plan: Plan, item: Item) -> None:
        if not isinstance(item, LogRow):
            await self._send_text(getattr(item, "body", "{}"))
            return
        id = plan.source.id_of(item)
        cursor = json.dumps(item.seq if id.isdigit() else id)
        text = '{"cursor":' + cursor + "," + item.body.removeprefix("{")
        self._unacknowledged.append((id, len(text)))
        self._bytes += len(text)
        await self._send_text(text)

    async def _send_text(self, text: str) -> None:
        try:
            await self.send(text_data=text)
        except Exception as error:  # `OSError` by the specification; daphne raises that of its library
            raise ClientGoneError from error

    async def _end(self, end: End, code: int) -> None:
        await self._send_text(to_json({"type": "end", **end.as_dict()}).decode())
        await self.close(code, end.reason)

    async def _refuse(self, status: int, problem: Mapping[str, Any]) -> None:
        code = str(problem.get("code", "internal_error"))
        detail = str(problem.get("detail", "The stream could not be opened."))
        more = {"problem": dict(problem)} if "status" in problem else {}
        await self._end(
            End(code, detail, status, more), CLOSE_CODES.get(status, BAD_REQUEST if status < 500 else FAILED)
        )


def _admit(scope: Mapping[str, Any]) -> HttpResponseBase:
    """Answer as the same request over HTTP would be; a ticket of a subprotocol is a credential in a header."""
    headers = [(name, value) for name, value in scope["headers"] if name not in {b"accept", b"upgrade", b"connection"}]
    headers.append((b"accept", MEDIA_TYPE.encode()))
    if not any(name == b"authorization" for name, _ in headers):
        tickets = (text.removeprefix(TICKET) for text in scope["subprotocols"] if text.startswith(TICKET))
        headers += [(b"authorization", f"Ticket {ticket}".encode()) for ticket in tickets]
    run_id = scope["url_route"]["kwargs"].get("run_id")
    request = ASGIRequest(_as_http(scope) | {"headers": headers}, BytesIO())
    if run_id is None:
        return LogView.as_view()(request)
    return RunEventsView.as_view()(request, run_id=run_id)


def _as_http(scope: Mapping[str, Any]) -> dict[str, Any]:
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    return {**scope, "type": "http", "method": "GET", "scheme": scheme}


def _is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Return whether a browser's page may connect: one of this host, or of `PYFLOW_TRUSTED_ORIGINS`.

    Programs send no ``Origin``. A page cannot leave it out, so it cannot pass for a program.
    """
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    request = ASGIRequest(_as_http(scope), BytesIO())
    try:
        own = request.get_host()
    except DisallowedHost:
        return False
    origin = urlsplit(origins[0])
    return origin.netloc == own or any(
        origin.scheme == trusted.scheme and is_same_domain(origin.netloc, trusted.netloc.lstrip("*"))
        for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
    )


def _acknowledgement(text: str | None) -> str | None:
    if text is None or len(text) > MOST_MESSAGE:
        return None
    try:
        message = json.loads(text)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.keys() != {"ack"} or not isinstance(message["ack"], int | str):
        return None
    return str(message["ack"])


_router = URLRouter(
    [
        path("ws/v1/events", EventsConsumer.as_asgi()),
        path("ws/v1/runs/<uuid:run_id>", EventsConsumer.as_asgi()),
    ]
)


async def websockets(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Serve a WebSocket; the handshake for an address that there is not is answered 403."""
    try:
        await _router(scope, receive, send)
    except ValueError as error:  # Channels' for no route
        if "No route found" not in str(error):
            raise
        await receive()
        await send({"type": "websocket.close", "code": 1008})
