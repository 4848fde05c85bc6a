"""Sends to a client no faster than it reads, and cuts the connection of one that reads nothing for a while.

The ASGI specification leaves open whether ``send`` waits for a slow client. Uvicorn's does; daphne's returns at once
and keeps what the client has not read, however much. So the transport of the server is asked: daphne's by Twisted's
own protocol for producers.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from daphne.http_protocol import WebRequest
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
#: How long a client may read nothing while something waits for it. Seconds.
PATIENCE = 30.0


class Flow(Protocol):
    """The way to one client."""

    async def drained(self) -> None:
        """Return once the client may be sent more."""

    def finish(self) -> None:
        """End, before the last message is sent."""

    def abort(self) -> None:
        """Close the connection without sending what waits."""


class PacedSend:
    """An ASGI ``send`` that waits for the client. Cancels the task of one that reads nothing for ``patience``."""

    def __init__(self, send: Send, patience: float = PATIENCE) -> None:
        self._send = send
        self._patience = patience
        self._flow = _flow_of(send)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Send, and return once the client may be sent more."""
        try:
            async with asyncio.timeout(self._patience):
                if _is_last(message):
                    self._flow.finish()
                await self._send(message)
                await self._flow.drained()
        except TimeoutError:
            self._flow.abort()
            # As if the client had gone, which servers and Django take for what it is.
            raise asyncio.CancelledError("the client reads nothing") from None


def _is_last(message: Mapping[str, Any]) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


class _Waiting:
    """Of servers whose ``send`` waits itself, such as uvicorn."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def drained(self) -> None:
        """Return at once."""

    def finish(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Close the connection without sending what waits."""
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            if connection is not None:  # or the kernel would go on sending what it has
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


@implementer(IPushProducer)
class _Producer:
    """Of daphne: Twisted says when the client's buffer is full, and when it is empty again."""

    def __init__(self, request: WebRequest) -> None:
        self._request = request
        self._room = asyncio.Event()
        self._room.set()
        request.registerProducer(self, True)

    async def drained(self) -> None:
        """Return once the buffer has room."""
        await self._room.wait()

    def finish(self) -> None:
        """End, as Twisted asks of producers before the response is finished."""
        if self._request.producer is self:
            self._request.unregisterProducer()

    def abort(self) -> None:
        """Close the connection without sending what waits."""
        self.finish()
        if self._request.channel is not None:
            self._request.channel.transport.abortConnection()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Wait: the buffer is full."""
        self._room.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Go on: the buffer is empty."""
        self._room.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Go on: the connection is lost, which ``send`` finds out."""
        self._room.set()


def _flow_of(send: Send) -> Flow:
    request = send.args[0] if isinstance(send, partial) and send.args else None
    if isinstance(request, WebRequest):
        return _Producer(request)
    return _Waiting(getattr(getattr(send, "__self__", None), "transport", None))
