"""Config, output and errors of the ``email`` node."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.nodes.fields import AnyValue, Flag, NodeConfig, NodeOutput, PositiveInt, Seconds

TIMEOUT = 30.0


Addresses = str | list[str]


class MessageRefusedError(NonRetryableError, ValueError):
    """The message cannot be sent as it is: an address, a header or an attachment is not acceptable."""

    code: ClassVar[str] = "message_refused"


class MailServerError(NodeError):
    """The mail server cannot be reached, refuses for now (4xx), or breaks off."""

    code: ClassVar[str] = "mail_server_error"


class MailRefusedError(NonRetryableError):
    """The mail server refuses for good (5xx): the login, the sender, every recipient or the message."""

    code: ClassVar[str] = "mail_refused"


class Smtp(NodeConfig):
    """The mail server."""

    host: str
    """Its name; the certificate has to be for it."""
    port: PositiveInt = 587
    """587 for ``starttls``, usually 465 for ``tls``."""
    username: str | None = None
    """For the login; none without it."""
    password: str | None = None
    """From a secret."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """``starttls`` fails with a server that does not offer it; ``none`` sends everything readable by others."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("`username` and `password` belong together")
        return self


class EmailConfig(NodeConfig):
    """What the ``email`` node needs."""

    smtp: Smtp
    """Through which server."""
    from_: str = Field(alias="from")
    """The sender: ``ada@example.com`` or ``Ada <ada@example.com>``."""
    to: Addresses
    """One recipient, several separated by commas, or a list."""
    cc: Addresses | None = None
    """More of them."""
    bcc: Addresses | None = None
    """More of them, whom the message does not name."""
    reply_to: Addresses | None = None
    """Where answers go, if not to the sender."""
    subject: str
    """One line."""
    text: AnyValue = None
    """The message as plain text. ``text``, ``html`` or both."""
    html: str | None = None
    """The message as HTML."""
    attachments: list[str] = Field(default_factory=list)
    """Paths of files in the storage."""
    timeout: Seconds | None = TIMEOUT
    """How long everything together may take."""
    allow_private_networks: Flag = False
    """Whether private and loopback addresses may be reached, where the operator lets workflows decide that."""


class EmailOutput(NodeOutput):
    """What the ``email`` node gives."""

    message_id: str
    """The Message-ID: the same for every attempt of the node, so that mailboxes can tell a repetition."""
    accepted: list[str]
    """The addresses that the server took the message for."""
    refused: dict[str, str]
    """Why the server refused the others, by address."""
