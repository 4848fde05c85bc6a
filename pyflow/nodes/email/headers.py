"""Header values that arrive as they were written, also where they look like encoded words (RFC 2047).

The standard library decodes ``=?utf-8?q?a=0d=0aBcc:_eve?=`` in a value that is assigned to a header, and (up to Python
3.11.9 and 3.12.3) writes the line end that comes out: the text of a subject would add headers. Values that look encoded
are therefore encoded again, as the characters that they are.
"""

from __future__ import annotations

import email.policy
from collections.abc import Sequence
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import formataddr, getaddresses, quote
from typing import Any
from urllib.parse import quote as percent_encoded

from pyflow.nodes.email.config import MessageRefusedError


class _Written(str):
    """The value of a header, with its form in the message, which the library neither reads nor changes.

    ``email.policy`` keeps any value that has a ``name`` as it is, and asks it to ``fold`` itself.
    """

    __slots__ = ("form", "name")
    name: str
    form: str

    def fold(self, *, policy: EmailPolicy) -> str:
        """Give the lines of the header."""
        return f"{self.name}: {self.form}".replace("\n", policy.linesep) + policy.linesep


def looks_encoded(value: str) -> bool:
    """Return whether a reader of mail may take a part of the value for an encoded word."""
    return "=?" in value


def text(header: str, value: str) -> str:
    """Give a value of unstructured text for a header."""
    return _written(header, value, _encoded(header, value)) if looks_encoded(value) else value


def addresses(header: str, found: Sequence[Address]) -> Sequence[Address] | str:
    """Give a value of addresses for a header."""
    if not any(looks_encoded(one.display_name) for one in found):
        return found
    if not all(one.addr_spec.isascii() for one in found):
        raise MessageRefusedError(
            f"`{header.lower().replace('-', '_')}`: a display name with `=?` cannot stand beside an address with "
            "characters beyond ASCII"
        )
    return _written(header, ", ".join(str(one) for one in found), ",\n ".join(_mailbox(header, one) for one in found))


def file_name(header: str, name: str) -> str:
    """Give a ``Content-Disposition`` of an attachment (RFC 2231)."""
    return _written(
        header, f'attachment; filename="{quote(name)}"', f"attachment; filename*=utf-8''{percent_encoded(name, '')}"
    )


def require_same(message: EmailMessage, sent: bytes) -> None:
    """Refuse bytes that are not the message: that have other headers, parts or recipients.

    Raises ``MessageRefusedError``.
    """
    # Undecoded: the decoder of ``email.policy.default`` fails at the values that this module is for.
    read = BytesParser(policy=email.policy.compat32).parsebytes(sent)
    if _outline(read) != _outline(message) or _named(read) != _named(message):
        raise MessageRefusedError(
            "the message would have headers, parts or recipients that its fields do not name. Look for control "
            "characters and encoded words (`=?…?=`) in `subject`, the addresses and the names of attachments"
        )


def _outline(message: Message[Any, Any]) -> list[tuple[str, list[str]]]:
    """The type and the headers of each part."""
    return [(part.get_content_type(), sorted(name.lower() for name in part)) for part in message.walk()]


def _named(message: Message[Any, Any]) -> list[list[str]]:
    """Whom each header of addresses names."""
    values = (message[header] for header in ("From", "To", "Cc", "Reply-To"))
    return [[] if value is None else [spec for _, spec in getaddresses([_form(value)])] for value in values]


def _form(value: object) -> str:
    return value.form if isinstance(value, _Written) else str(value)


def _written(header: str, value: str, form: str) -> _Written:
    written = _Written(value)
    written.name, written.form = header, form
    return written


def _encoded(header: str, value: str) -> str:
    return Header(value, charset="utf-8", header_name=header).encode()


def _mailbox(header: str, one: Address) -> str:
    if looks_encoded(one.display_name):
        return f"{_encoded(header, one.display_name)} <{one.addr_spec}>"
    return formataddr((one.display_name, one.addr_spec))
