"""The ``http`` node: requests to another service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from pyflow.core.context import ExecutionContext
from pyflow.core.duration import parse_duration
from pyflow.core.misfits import parse
from pyflow.core.node import BaseNode
from pyflow.core.traits import NodeTraits
from pyflow.net.addresses import SSRFError
from pyflow.nodes.fields import NodeOutput
from pyflow.nodes.http.config import MAX_RESPONSE_SIZE, TIMEOUT, HttpConfig
from pyflow_sdk.node import NodeContext

__all__ = ["HttpConfig", "HttpNode", "HttpOutput", "SSRFError"]


class HttpOutput(NodeOutput):
    """Output of the ``http`` node. With ``paginate`` there are ``pages``, ``more`` and ``items`` or ``bodies``."""

    status: int
    """The status code, of the last page."""
    headers: dict[str, str]
    """The headers, with lower-case names, of the last page; those of one name are joined by commas."""
    header_values: dict[str, list[str]] = Field(default_factory=dict)
    """The same with the values of each name apart, always as a list: ``header_values['set-cookie'][0]``."""
    body: Any = None
    """The body in the form that ``response`` says."""
    pages: int | None = None
    """Number of pages that were read."""
    more: bool | None = None
    """True if there are more pages than ``max_pages``."""
    items: list[Any] | None = None
    """The items of all pages."""
    bodies: list[Any] | None = None
    """The bodies of all pages, without ``paginate.items``."""


class HttpNode(BaseNode[dict[str, Any], dict[str, Any]]):
    """Sends a request and gives ``{status, headers, header_values, body}``, or what its pages have together.

    Raises ``SSRFError`` for a target that is not public, ``HttpStatusError`` for a status other than 2xx (with
    ``retry_after`` in seconds where the server gave one), ``HttpTimeoutError``, ``ResponseTooLargeError``, and httpx2's
    ``TransportError`` when there is no answer; ``KeyError`` without a ``url``. In version 2 also
    ``InvalidRequestError`` for a body that cannot be sent, ``UnexpectedAnswerError``, ``TokenRefusedError``,
    ``TokenUnavailableError``, ``PathRefusedError`` and ``StoredFileMissingError``.
    """

    node_type: ClassVar[str] = "http"
    display_name: ClassVar[str] = "HTTP request"
    category: ClassVar[str] = "network"
    description: ClassVar[str] = "Sends an HTTP request and returns the response."
    version: ClassVar[str] = "2.1.0"
    traits: ClassVar[NodeTraits] = NodeTraits(
        writes_files="save_to", calls_service=True, has_method=True, limits_time=True
    )
    example: ClassVar[Mapping[str, Any]] = {
        "url": "https://api.example.com/orders/{{ input.order_id }}",
        "auth": {"type": "bearer", "token": "{{ secrets.API_TOKEN }}"},
        "timeout": 10,
    }
    #: The engine hands over the node's own context in version 2, for the idempotency key.
    wants_node_context: ClassVar[bool] = True
    Config = HttpConfig
    Output = HttpOutput

    async def execute(
        self, config: dict[str, Any], context: ExecutionContext, node_context: NodeContext | None = None
    ) -> dict[str, Any]:
        """Send the request; see the class."""
        from pyflow.nodes.http import exchange  # noqa: PLC0415 - httpx2 takes longer to load than a small workflow to run

        if context.scope is None:
            return await _version_1(config)
        sent = exchange.Exchange(parse(HttpConfig, config), context.redactor, node_context)
        output: dict[str, Any] = await sent.run()
        return output


async def _version_1(config: dict[str, Any]) -> dict[str, Any]:
    """v1 knew these keys, passed over all others and sent no key for idempotency."""
    from pyflow.net import http_client  # noqa: PLC0415 - httpx2 takes longer to load than a small workflow to run

    timeout = config.get("timeout")
    response = await http_client.request(
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
