"""Workflow documents as request bodies: kept as text, to preserve comments and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from pyflow.core.errors import DocumentError
from pyflow.documents.reading import MAX_BYTES, decode, read_json, read_yaml
from pyflow.validation.loader import Format


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a document and the format it claims to be in."""

    text: str
    format: Format


class _SourceParser(BaseParser):
    format: Format

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The body as a ``Source``; ``DocumentError`` if it is not text or too long."""
        return Source(decode(stream.read(MAX_BYTES + 1)), self.format)


class JSONSourceParser(_SourceParser):
    """``application/json``."""

    media_type = "application/json"
    format: Format = "json"


class YAMLSourceParser(_SourceParser):
    """``application/yaml``."""

    media_type = "application/yaml"
    format: Format = "yaml"


class MergePatchParser(_SourceParser):
    """``application/merge-patch+json`` (RFC 7396)."""

    media_type = "application/merge-patch+json"
    format: Format = "json"


def source_of(request: Request) -> Source:
    """The document in the body. Raises ``DocumentError`` if there is no body."""
    data: object = request.data
    if not isinstance(data, Source):  # DRF parses no body at all
        raise DocumentError("the request has no body; it is the workflow document, YAML or JSON")
    return data


def data_of(source: Source) -> Any:
    """Parse a body. Raises ``DocumentError``."""
    return (read_json(source.text) if source.format == "json" else read_yaml(source.text)).data
