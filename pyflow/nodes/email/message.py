"""Sends the mail of an ``email`` node. Importing this imports the mail and TLS modules of the standard library."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import mimetypes
import re
import smtplib
import socket
import ssl
from collections.abc import Iterable, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from pyflow.core.duration import parse_duration
from pyflow.core.errors import PyFlowError
from pyflow.core.messages import said, show
from pyflow.nodes import hosts, stored
from pyflow.nodes.email import headers
from pyflow.nodes.email.config import (
    TIMEOUT,
    Addresses,
    EmailConfig,
    EmailOutput,
    MailRefusedError,
    MailServerError,
    MessageRefusedError,
)

MAX_RECIPIENTS = 500
MAX_BYTES = 25 * 1024 * 1024
"""Of all attachments together: what the large providers take."""
BINARY = "application/octet-stream"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


async def send(config: EmailConfig, idempotency_key: str) -> EmailOutput:
    """The node's output. Raises what ``EmailNode`` says."""
    seconds = TIMEOUT if config.timeout is None else parse_duration(config.timeout)
    delivery = _Delivery(config, idempotency_key, seconds)
    return await hosts.in_thread(delivery.run, delivery.stop, seconds=seconds, what="sending the message")


class _Plain(smtplib.SMTP):
    """smtplib's client, on a connection to one of ``addresses``, which were checked.

    It sends only what ``meant``, the message of the author, consists of.
    """

    addresses: Sequence[str] = ()
    meant: EmailMessage
    _host: str

    def sendmail(self, from_addr: str, to_addrs: Any, msg: Any, *options: Any, **more: Any) -> Any:
        """Send the bytes that ``send_message`` made, once they are seen to be the message."""
        headers.require_same(self.meant, msg)
        return super().sendmail(from_addr, to_addrs, msg, *options, **more)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - smtplib's signature
        return hosts.connect(list(self.addresses), port, timeout)


class _Tls(smtplib.SMTP_SSL, _Plain):
    """The same with TLS from the start."""


class _Delivery:
    """One message to one server, sent in a thread and stopped from another."""

    def __init__(self, config: EmailConfig, idempotency_key: str, seconds: float) -> None:
        self._config = config
        self._key = idempotency_key
        self._seconds = seconds
        self._client: smtplib.SMTP | None = None

    def run(self) -> EmailOutput:
        """Make the message and deliver it."""
        config = self._config
        recipients = list(dict.fromkeys(one.addr_spec for one in _all_recipients(config)))
        message = _message(config, self._key)
        try:
            refused = self._deliver(message, _addresses(config.from_, "from")[0].addr_spec, recipients)
        except PyFlowError:
            raise
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise _server_error(error, config.smtp.password) from None
        reasons = {address: _reply(code, text) for address, (code, text) in refused.items()}
        accepted = [address for address in recipients if address not in reasons]
        return EmailOutput(message_id=message["Message-ID"], accepted=accepted, refused=reasons)

    def stop(self) -> None:
        """Make ``run`` end, from another thread."""
        connection = getattr(self._client, "sock", None)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _deliver(self, message: EmailMessage, sender: str, recipients: list[str]) -> dict[str, tuple[int, bytes]]:
        smtp = self._config.smtp
        host, port = smtp.host, int(smtp.port)
        allow = bool(self._config.allow_private_networks)
        addresses = hosts.checked_addresses(host, port, allow_private_networks=allow)
        trust = None if smtp.tls == "none" else ssl.create_default_context()
        options: dict[str, Any] = {"timeout": self._seconds, "local_hostname": _ascii_domain(sender.rpartition("@")[2])}
        client: _Plain = _Tls(context=trust, **options) if smtp.tls == "tls" else _Plain(**options)
        client.addresses, client.meant = addresses, message
        # The name that the certificate has to be for; the constructor only sets it if it connects as well.
        client._host = host
        self._client = client
        try:
            code, greeting = client.connect(host, port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, greeting)
            if smtp.tls == "starttls":
                client.starttls(context=trust)
            if smtp.username is not None and smtp.password is not None:
                client.login(smtp.username, smtp.password)
            return client.send_message(message, sender, recipients)
        finally:
            # The message is delivered or not by now; a server that does not say goodbye changes nothing.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                if client.sock is not None:
                    client.sock.settimeout(min(self._seconds, hosts.GRACE))
                    client.quit()
            client.close()


def _message(config: EmailConfig, key: str) -> EmailMessage:
    message = EmailMessage()
    sender = _addresses(config.from_, "from")
    if len(sender) != 1:
        raise MessageRefusedError("`from` is one address")
    message["From"] = headers.addresses("From", sender)
    for header, value in (("To", config.to), ("Cc", config.cc), ("Reply-To", config.reply_to)):
        if value:
            found = _addresses(value, header.lower().replace("-", "_"))
            message[header] = headers.addresses(header, found)
    message["Subject"] = headers.text("Subject", _line(config.subject, "subject"))
    message["Date"] = email.utils.localtime()
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{_ascii_domain(sender[0].domain)}>"
    if config.text is None and config.html is None:
        raise MessageRefusedError("a message has `text`, `html` or both")
    try:
        message.set_content("" if config.text is None else str(config.text))
        if config.html is not None:
            _add_html(message, config)
    except UnicodeEncodeError:
        raise MessageRefusedError("the message holds characters that UTF-8 does not have") from None
    _attach(message, config.attachments)
    return message


def _add_html(message: EmailMessage, config: EmailConfig) -> None:
    if config.text is None:
        message.set_content(config.html, subtype="html")
    else:
        message.add_alternative(config.html, subtype="html")


def _attach(message: EmailMessage, paths: Iterable[str]) -> None:
    left = MAX_BYTES
    for path in paths:
        content = stored.read(path)
        left -= len(content)
        if left < 0:
            raise MessageRefusedError(f"the attachments have more than {MAX_BYTES:,} bytes together")
        name = _line(path.rpartition("/")[2], "attachments")
        main, _, sub = (mimetypes.guess_type(name)[0] or BINARY).partition("/")
        if main in {"message", "multipart"}:  # a mail program would read parts of this message out of the file
            main, _, sub = BINARY.partition("/")
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)
        if headers.looks_encoded(name):
            part = list(message.iter_attachments())[-1]
            part.replace_header("Content-Disposition", headers.file_name("Content-Disposition", name))


def _all_recipients(config: EmailConfig) -> list[Address]:
    found: list[Address] = []
    for name, value in (("to", config.to), ("cc", config.cc), ("bcc", config.bcc)):
        found += _addresses(value, name) if value else []
    if not found:
        raise MessageRefusedError("the message has no recipient")
    if len(found) > MAX_RECIPIENTS:
        raise MessageRefusedError(f"the message has more than {MAX_RECIPIENTS} recipients")
    return found


def _addresses(value: Addresses, field: str) -> list[Address]:
    """Addresses of RFC 5322, each checked to be one: nothing in it may end a header or name another recipient."""
    entries = [value] if isinstance(value, str) else value
    lines = [_line(entry, field) for entry in entries]
    found: list[Address] = []
    for name, spec in email.utils.getaddresses(lines):
        local, at, domain = spec.rpartition("@")
        unfit = re.search(r"[\s<>,;:\"()\[\]\\]", spec) or "@" in local or headers.looks_encoded(spec)
        if not (local and at and domain) or unfit:
            raise MessageRefusedError(f"`{field}`: not an address: {show(spec or str(value), 200)}")
        found.append(Address(name, local, domain))
    if not found:
        raise MessageRefusedError(f"`{field}` has no address")
    return found


def _line(value: object, field: str) -> str:
    if not isinstance(value, str) or _CONTROL.search(value):
        raise MessageRefusedError(f"`{field}` is one line of text without control characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise MessageRefusedError(f"`{field}` holds characters that UTF-8 does not have") from None
    return value


def _ascii_domain(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return "localhost"


def _server_error(error: Exception, password: str | None) -> MailServerError | MailRefusedError:
    """Return the server's answer as an error: one that is retried, or not (RFC 5321 4.2.1)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        answer = "; ".join(f"{address}: {_reply(*reply)}" for address, reply in error.recipients.items())
        passing = any(code < 500 for code in codes)
    elif isinstance(error, smtplib.SMTPResponseException):
        answer, passing = _reply(error.smtp_code, error.smtp_error), error.smtp_code < 500
    elif isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError | UnicodeError):
        answer, passing = str(error), False
    else:
        answer, passing = str(error) or type(error).__name__, True
    message = f"the mail server: {said(answer, password=password)}"
    return MailServerError(message, kind="network") if passing else MailRefusedError(message)


def _reply(code: int, text: bytes | str) -> str:
    answer = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(answer.split())}"
