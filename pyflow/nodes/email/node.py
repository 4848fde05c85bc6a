"""The ``email`` node: a message by SMTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.email.config import EmailConfig, EmailOutput
from pyflow_sdk.node import NodeContext


class EmailNode(BaseNodeV2[EmailConfig]):
    """Sends a message by SMTP and gives ``{message_id, accepted, refused}``.

    Raises ``MessageRefusedError`` before anything is sent, ``MailRefusedError``, ``MailServerError``, ``SSRFError`` for
    a host that is not public, ``NodeTimeoutError``, ``PathRefusedError`` and ``StoredFileMissingError``.
    """

    node_type: ClassVar[str] = "email"
    display_name: ClassVar[str] = "E-mail"
    category: ClassVar[str] = "notify"
    description: ClassVar[str] = "Sends an e-mail through an SMTP server."
    version: ClassVar[str] = "1.0.0"
    traits: ClassVar[NodeTraits] = NodeTraits(writes_files=False, calls_service=True, limits_time=True)
    example: ClassVar[Mapping[str, Any]] = {
        "smtp": {"host": "smtp.example.com", "username": "orders", "password": "{{ secrets.SMTP_PASSWORD }}"},
        "from": "Orders <orders@example.com>",
        "to": "{{ input.customer_email }}",
        "subject": "Order {{ input.order_id }} is on its way",
        "text": "Track it: {{ ship.tracking }}",
    }
    Config = EmailConfig
    Output = EmailOutput

    async def run(self, config: EmailConfig, ctx: NodeContext) -> EmailOutput:
        """Send the message; see the class."""
        from pyflow.nodes.email import message  # noqa: PLC0415 - smtplib takes longer to load than a small workflow to run

        output: EmailOutput = await message.send(config, ctx.idempotency_key)
        return output
