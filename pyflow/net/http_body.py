"""Bodies of requests: JSON, forms, text, multipart and files, sent piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from pyflow.core.errors import RetryableError
from pyflow.core.messages import show
from pyflow.net.files import FileReader

CHUNK = 256 * 1024
"""Bytes that are read from a file at a time, and held in memory."""


class FileChangedError(RetryableError):
    """A file was changed or replaced between its announcement and its last byte; what was sent is no whole of either.

    The request is broken off before the server could take it for complete. Another attempt sends the new content.
    """

    code: ClassVar[str] = "file_changed"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a body.

    ``open`` is called whenever the body is sent: a redirect or a new token sends it again. ``size`` (bytes) and
    ``version`` are those of the file that the request announced (see ``FileReader``).
    """

    open: Callable[[], FileReader]
    size: int
    version: tuple[int, ...]

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, read in a thread. Of a changed file it raises ``FileChangedError`` instead of the last of them."""
        reader = await asyncio.to_thread(self.open)
        try:
            if reader.version != self.version:
                raise FileChangedError("the file was replaced before it was sent")
            left = self.size
            while left:
                chunk = await asyncio.to_thread(reader.read, min(CHUNK, left))
                left -= len(chunk)
                if not chunk or reader.current_version() != self.version:
                    raise FileChangedError("the file was changed while it was being sent")
                yield chunk
        finally:
            reader.close()


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request. ``content_type`` is its ``Content-Type`` unless the request names another."""

    parts: tuple[bytes | FilePart, ...]
    content_type: str

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, in pieces; files are read while they are sent. Raises ``FileChangedError``."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            async with contextlib.aclosing(part.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart form: the field's name, the name it is sent under, and what is in it."""

    field: str
    filename: str
    content: FilePart
    content_type: str | None = None


def json_bytes(value: Any) -> bytes:
    """``value`` as compact JSON (RFC 8259: no NaN); ``ValueError`` for what JSON does not have."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def json_body(value: Any) -> Body:
    """A JSON body. ``ValueError`` for what JSON does not have."""
    return Body((json_bytes(value),), "application/json")


def text_body(text: str) -> Body:
    """A body of plain text."""
    return Body((text.encode("utf-8"),), "text/plain; charset=utf-8")


def form_body(fields: Mapping[str, Any]) -> Body:
    """A body as an HTML form sends it (URL Standard, ``application/x-www-form-urlencoded``); see ``pairs``."""
    return Body((urlencode(pairs(fields)).encode("ascii"),), "application/x-www-form-urlencoded")


def file_body(content: FilePart, filename: str) -> Body:
    """A body that is a file; its type is guessed by its name."""
    return Body((content,), guess_type(filename))


def multipart_body(fields: Mapping[str, Any], uploads: Iterable[Upload]) -> Body:
    """A multipart form (RFC 7578). Names are escaped as browsers do it (HTML Standard 4.10.22.7)."""
    boundary = secrets.token_hex(16)
    parts: list[bytes | FilePart] = []
    for name, value in pairs(fields):
        parts.append(_part_head(boundary, name) + b"\r\n" + value.encode("utf-8") + b"\r\n")
    for upload in uploads:
        head = _part_head(boundary, upload.field, upload.filename)
        kind = upload.content_type or guess_type(upload.filename)
        if not re.fullmatch(r"[\x20-\x7e]+", kind):
            raise ValueError(f"not a content type: {show(kind)}")
        parts += [head + f"Content-Type: {kind}\r\n\r\n".encode("ascii"), upload.content, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode("ascii"))
    return Body(tuple(parts), f"multipart/form-data; boundary={boundary}")


def pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a form or a query as text: a list is several values, ``None`` none, true is ``true``."""
    found: list[tuple[str, str]] = []
    for name, value in fields.items():
        values = value if isinstance(value, list | tuple) else [value]
        found += [(str(name), _plain(one)) for one in values if one is not None]
    return found


def guess_type(filename: str) -> str:
    """The media type of a file by its name."""
    return mimetypes.guess_type(filename, strict=True)[0] or "application/octet-stream"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _part_head(boundary: str, name: str, filename: str | None = None) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
    if filename is not None:
        head += f'; filename="{_quoted(filename)}"'
    return f"{head}\r\n".encode()


def _quoted(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
