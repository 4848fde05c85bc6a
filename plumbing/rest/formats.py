"""JSON and YAML (RFC 9512), both ways, through the guarded readers of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import orjson
import yaml
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from pyflow.documents.reading import MAX_BYTES, decode, read_json, read_yaml

YAML_TYPE = "application/yaml"


def read_body(stream: IO[bytes] | Any) -> str:
    """The text of a request body: UTF-8, at most 1 MiB (``DocumentError`` otherwise), never read beyond that."""
    return decode(stream.read(MAX_BYTES + 1))


class JSONParser(BaseParser):
    """Strict JSON: no duplicate keys, no NaN."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The data of the body; an empty body is an empty object."""
        text = read_body(stream)
        return read_json(text).data if text.strip() else {}


class YAMLParser(BaseParser):
    """Guarded YAML with 1.2 scalars."""

    media_type = YAML_TYPE

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The data of the body; an empty body is an empty mapping."""
        text = read_body(stream)
        return read_yaml(text).data if text.strip() else {}


class JSONRenderer(BaseRenderer):
    """JSON in UTF-8."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The bytes of the answer; none for no data."""
        return b"" if data is None else to_json(data)


class YAMLRenderer(BaseRenderer):
    """YAML in UTF-8, block style, keys in their order."""

    media_type = YAML_TYPE
    format = "yaml"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The bytes of the answer; none for no data."""
        return b"" if data is None else to_yaml(data)


def to_json(data: Any) -> bytes:
    """JSON bytes; integers beyond 64 bits (which orjson refuses) included."""
    try:
        return orjson.dumps(data, default=str)
    except TypeError:
        return json.dumps(data, default=str, ensure_ascii=False).encode()


def to_yaml(data: Any) -> bytes:
    """YAML bytes of JSON-able data."""
    plain = json.loads(to_json(data))
    text = yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return str(text).encode()
