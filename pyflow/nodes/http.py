"""The ``http`` node: one request to another service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pyflow.core.addresses import SSRFError
from pyflow.core.context import ExecutionContext
from pyflow.core.duration import parse_duration
from pyflow.core.node import BaseNode
from pyflow.nodes import lazy
from pyflow.nodes.fields import AnyValue, Flag, Headers, NodeConfig, NodeOutput, PositiveInt, Seconds, TemplateText

__all__ = ["HttpConfig", "HttpNode", "HttpOutput", "SSRFError"]

TIMEOUT = 30.0
MAX_RESPONSE_SIZE = 10 * 1024 * 1024

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


class HttpConfig(NodeConfig):
    """What the ``http`` node needs."""

    url: str
    """Where to: http or https, without credentials in it."""
    method: Method | Literal["get", "post", "put", "patch", "delete", "head", "options"] | TemplateText = "GET"
    """The request method."""
    headers: Headers | None = None
    """Header names and values. ``Host``, ``Content-Length``, ``Transfer-Encoding`` and ``Connection`` are not yours."""
    body: AnyValue = None
    """Sent as JSON."""
    timeout: Seconds | None = TIMEOUT
    """How long everything together may take: connecting, redirects, the last byte of the answer."""
    raise_for_status: Flag = True
    """Whether a status other than 2xx fails the node."""
    max_response_size: PositiveInt = MAX_RESPONSE_SIZE
    """Bytes that the body may have, decompressed."""
    allow_private_networks: Flag = False
    """Whether private and loopback addresses may be reached, where the operator lets workflows decide that."""
    follow_redirects: Flag = True
    """Whether up to 5 redirects are followed."""


class HttpOutput(NodeOutput):
    """What the ``http`` node gives."""

    status: int
    """The status code."""
    headers: dict[str, str]
    """The headers, with lower-case names."""
    body: Any
    """The body: parsed where it is JSON, else text."""


class HttpNode(BaseNode[dict[str, Any], dict[str, Any]]):
    """Sends a request and gives ``{status, headers, body}``.

    Raises ``SSRFError`` for a target that is not public, ``HttpStatusError`` for a status other than 2xx (with
    ``retry_after`` in seconds where the server gave one), ``HttpTimeoutError``, ``ResponseTooLargeError``, and httpx2's
    ``TransportError`` when there is no answer; ``KeyError`` without a ``url``.
    """

    node_type: ClassVar[str] = "http"
    display_name: ClassVar[str] = "HTTP request"
    category: ClassVar[str] = "network"
    description: ClassVar[str] = "Sends a request to an HTTP service and gives its answer."
    version: ClassVar[str] = "2.0.0"
    example: ClassVar[Mapping[str, Any]] = {
        "url": "https://api.example.com/orders/{{ input.order_id }}",
        "headers": {"Authorization": "Bearer {{ secrets.API_TOKEN }}"},
        "timeout": 10,
    }
    Config = HttpConfig
    Output = HttpOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> dict[str, Any]:  # noqa: ARG002
        """Send the request; see the class."""
        timeout = config.get("timeout")
        response = await lazy.http_client.request(
            config.get("method", "GET"),
            config["url"],
            headers=config.get("headers"),
            json_body=config.get("body"),
            timeout=TIMEOUT if timeout is None else parse_duration(timeout),
            max_bytes=int(config.get("max_response_size", MAX_RESPONSE_SIZE)),
            allow_private_networks=bool(config.get("allow_private_networks", False)),
            follow_redirects=bool(config.get("follow_redirects", True)),
        )
        if config.get("raise_for_status", True):
            response.raise_for_status()
        return {"status": response.status, "headers": response.headers, "body": response.data()}
