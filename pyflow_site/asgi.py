"""ASGI entry point. In the single-node shape this process also executes the runs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.asgi import get_asgi_application

from pyflow_site.body_limits import limited

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
_over_http = get_asgi_application()


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Mapping[str, Any]], Awaitable[None]]
) -> None:
    """Django for HTTP. No address opens a WebSocket: the handshake is answered 403, alike for what is there and not."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": None})
        return
    await _over_http(scope, limited(scope, receive), send)


from pyflow_site.executor import start_executor  # noqa: E402 - models can be imported from here on

start_executor()
