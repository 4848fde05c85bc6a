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
    """Config of the ``email`` node."""

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
    """Address for replies, if it is not the sender."""
    subject: str
    """One line."""
    text: AnyValue = None
    """The message as plain text. ``text``, ``html`` or both."""
    html: str | None = None
    """The message as HTML."""
    attachments: list[str] = Field(default_factory=list)
    """Paths of files in the storage."""
    timeout: Seconds | None = TIMEOUT
    """Time limit for everything together."""
    allow_private_networks: Flag = False
    """Allow private and loopback addresses, if the operator lets workflows decide that."""


class EmailOutput(NodeOutput):
    """Output of the ``email`` node."""

    message_id: str
    """The Message-ID: the same for every attempt of the node, so that mailboxes can detect a repetition."""
    accepted: list[str]
    """The addresses that the server took the message for."""
    refused: dict[str, str]
    """The server's reason for refusing each of the others, by address."""
