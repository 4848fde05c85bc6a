"""Reads the bodies of inbound webhooks, once they are known to be authentic: JSON, form, multipart, text."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters

from pyflow.documents.reading import decode, read_json
from triggers.errors import HookBodyError, HookTypeError

#: Fields of a form or a query.
MAX_FIELDS = 1000


def read_body(content_type: str, body: bytes) -> Any:
    """Return the data of a body: a JSON value, a mapping of fields, or text; ``None`` for an empty one.

    Raises ``DocumentError`` or ``HookBodyError`` for a body that is not what its type says, and ``HookTypeError`` for a
    type that is not read.
    """
    kind, parameters = parse_header_parameters(content_type)
    if not body:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return read_json(decode(body)).data
    if kind == "application/x-www-form-urlencoded":
        return read_fields(_text(body, "utf-8"))
    if kind == "multipart/form-data":
        return _parts(content_type, body)
    if kind.startswith("text/") or kind == "application/xml" or kind.endswith("+xml"):
        return _text(body, parameters.get("charset", "utf-8"))
    raise HookTypeError(
        "The body is read as JSON, as a form (application/x-www-form-urlencoded or multipart/form-data) or as text: "
        "say which by `Content-Type`."
    )


def read_fields(text: str) -> dict[str, Any]:
    """Return the fields of a form or a query; those that are repeated as lists. Raises ``HookBodyError``."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise HookBodyError("A field is not UTF-8 text.") from None
    except ValueError:
        raise HookBodyError(f"There are more than {MAX_FIELDS} fields.") from None
    return _gathered(pairs)


def _gathered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    gathered: dict[str, list[Any]] = {}
    for name, value in pairs:
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            raise HookBodyError("A field holds a NUL character.")
        gathered.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in gathered.items()}


def _text(body: bytes, charset: str) -> str:
    try:
        text = body.decode("utf-8-sig" if charset.lower() == "utf-8" else charset)
    except LookupError:
        raise HookTypeError("The `charset` of the `Content-Type` is not known. Send UTF-8.") from None
    except UnicodeDecodeError:
        raise HookBodyError("The body is not text in the `charset` of its `Content-Type` (default UTF-8).") from None
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text if character > "\ud7ff"):
        raise HookBodyError("The body holds a NUL or surrogate character.")
    return text


def _parts(content_type: str, body: bytes) -> dict[str, Any]:
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": len(body)}
    try:
        fields, files = MultiPartParser(meta, BytesIO(body), [MemoryFileUploadHandler()], "utf-8").parse()
    except (MultiPartParserError, TooManyFieldsSent, TooManyFilesSent, RequestDataTooBig, ValueError) as error:
        raise HookBodyError(f"The body is not multipart/form-data: {error}") from None
    pairs = [(name, value) for name, values in fields.lists() for value in values]
    if any("\ufffd" in value for _, value in pairs):
        raise HookBodyError("A field is not UTF-8 text.")
    return _gathered(pairs + [(name, _file(file)) for name, found in files.lists() for file in found])


def _file(file: Any) -> dict[str, Any]:
    raw = file.read()
    return {
        "filename": file.name,
        "content_type": file.content_type,
        "size": len(raw),
        "base64": base64.b64encode(raw).decode(),
    }
