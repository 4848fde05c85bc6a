"""The ``alert`` node: a message to a chat webhook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pyflow.core.context import ExecutionContext
from pyflow.core.node import BaseNode
from pyflow.core.traits import NodeTraits
from pyflow.nodes.fields import AnyValue, Flag, NodeConfig, NodeOutput


class AlertConfig(NodeConfig):
    """Config of the ``alert`` node."""

    webhook_url: str
    """An incoming webhook that takes ``{"text": …}``, as Slack, Mattermost, Teams and others do."""
    message: AnyValue
    """The text."""
    allow_private_networks: Flag = False
    """Allow private and loopback addresses, if the operator lets workflows decide that."""


class AlertOutput(NodeOutput):
    """Output of the ``alert`` node."""

    status: int
    """The status code of the answer, 0 if there was none."""
    sent: bool
    """True if the response was a success."""
    error: str | None = None
    """The reason that there was no answer."""


class AlertNode(BaseNode[dict[str, Any], dict[str, Any]]):
    """POSTs ``{"text": message}`` and gives ``{status, sent}``.

    An alert that does not get through is no reason to fail a workflow: a network failure gives ``{status: 0, sent:
    false, error}``. A target that is not public raises ``SSRFError``, a missing key ``KeyError``.
    """

    node_type: ClassVar[str] = "alert"
    display_name: ClassVar[str] = "Alert"
    category: ClassVar[str] = "notify"
    description: ClassVar[str] = "Posts a message to a chat webhook."
    version: ClassVar[str] = "2.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, calls_service=True, limits_time=True)
    example: ClassVar[Mapping[str, Any]] = {
        "webhook_url": "{{ secrets.CHAT_WEBHOOK }}",
        "message": "Order {{ input.order_id }} failed",
    }
    Config = AlertConfig
    Output = AlertOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> dict[str, Any]:  # noqa: ARG002
        """Post the message; see the class."""
        from pyflow.net import http_client  # noqa: PLC0415 - httpx2 takes longer to load than a small workflow to run

        url, message = config["webhook_url"], config["message"]
        try:
            response = await http_client.request(
                "POST",
                url,
                json_body={"text": message},
                allow_private_networks=bool(config.get("allow_private_networks", False)),
            )
        except Exception as error:
            if not http_client.is_network_failure(error):
                raise
            return {"status": 0, "sent": False, "error": str(error) or type(error).__name__}
        return {"status": response.status, "sent": response.is_success}
