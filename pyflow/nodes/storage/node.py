"""The ``storage`` node: files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, RootModel

from pyflow.core.context import ExecutionContext
from pyflow.core.messages import show
from pyflow.core.misfits import parse
from pyflow.core.node import BaseNode
from pyflow.expressions.template import is_template
from pyflow.net import files
from pyflow.nodes.fields import AnyValue, Flag, NodeConfig, TemplateText
from pyflow.nodes.storage import formats


def _checked_separator(text: str) -> str:
    if not is_template(text) and (len(text) != 1 or text in '"\r\n'):
        raise ValueError("must be one character that is neither a quote nor a line break")
    return text


class StorageConfig(NodeConfig):
    """Config of the ``storage`` node."""

    path: str
    """The file, relative to the storage's root where one is set."""
    action: Literal["read", "write", "append"] | TemplateText = "read"
    """``append`` adds ``data`` as one more element to the list in the file."""
    data: AnyValue = None
    """Value to write or append: anything that JSON has; for `format` ``text`` text, for ``csv`` a list of rows, for
    ``bytes`` base64."""
    format: Literal["json", "text", "csv", "bytes"] | TemplateText = "json"
    """Format of the file: JSON; text in UTF-8; CSV, a list of rows with text in them; any bytes, as base64."""
    separator: Annotated[str, AfterValidator(_checked_separator)] = ","
    """Separator of the fields of CSV, one character: ``";"``."""
    header: Flag = True
    """The first row of CSV has the names of its fields; rows are mappings then, else lists."""


class StorageOutput(RootModel[Any]):
    """The content of the file, after a write or append the new one."""


class StorageNode(BaseNode[dict[str, Any], Any]):
    """Reads, writes or appends to a file of JSON, text, CSV or bytes and gives its content.

    A file that does not exist reads as ``[]``, or as empty text; directories are made as needed. Writes are atomic, and
    appends from many processes lose nothing. Version 1 knows JSON only. Raises ``FileContentError`` (in version 1
    ``ValueError``) for a file that is not what ``format`` says, ``ValueError`` for an unknown action,
    ``PathRefusedError`` (a ``ValueError``) for a path outside the storage, ``StorageQuotaError``; ``KeyError`` without
    a ``path``.
    """

    node_type: ClassVar[str] = "storage"
    display_name: ClassVar[str] = "Storage"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Reads and writes files: JSON, text, CSV and bytes."
    version: ClassVar[str] = "2.1.0"
    example: ClassVar[Mapping[str, Any]] = {
        "path": "rates/history.json",
        "action": "append",
        "data": "{{ fetch.body }}",
    }
    Config = StorageConfig
    Output = StorageOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        """Do the action; see the class."""
        if context.scope is not None:
            return await asyncio.to_thread(_version_2, parse(StorageConfig, config))
        path, action = str(config["path"]), config.get("action", "read")
        storage = files.storage()
        if action == "read":
            return await asyncio.to_thread(_read, storage, path)
        if action == "write":
            return await asyncio.to_thread(_write, storage, path, config.get("data"))
        if action == "append":
            return await asyncio.to_thread(_append, storage, path, config.get("data"))
        raise ValueError(f"Unknown storage action: {show(action)}")


def _version_2(config: StorageConfig) -> object:
    kind = formats.FORMATS.get(config.format)
    if kind is None:
        raise ValueError(f"Unknown storage format: {show(config.format)}")
    form = kind(config.path, separator=config.separator, header=bool(config.header))
    storage = files.storage()
    if config.action == "read":
        try:
            return form.decode(storage.read(config.path))
        except FileNotFoundError:
            return form.empty
    content = form.encode(config.data)
    if config.action == "write":
        storage.write(config.path, content)
        return config.data
    if config.action != "append":
        raise ValueError(f"Unknown storage action: {show(config.action)}")

    def longer(current: bytes | None) -> bytes:
        existing = form.empty if current is None else form.decode(current)
        return form.encode(form.joined(existing, config.data))

    return form.decode(storage.update(config.path, longer))


def _read(storage: files.FileStorage, path: str) -> object:
    try:
        content: object = json.loads(storage.read(path))
    except FileNotFoundError:
        return []
    return content


def _write(storage: files.FileStorage, path: str, data: object) -> object:
    storage.write(path, _encode(data))
    return data


def _append(storage: files.FileStorage, path: str, data: object) -> object:
    def longer(current: bytes | None) -> bytes:
        existing = [] if current is None else json.loads(current)
        return _encode([*(existing if isinstance(existing, list) else [existing]), data])

    content: object = json.loads(storage.update(path, longer))
    return content


def _encode(data: object) -> bytes:
    # default=str: dates and the like were written by v1 as well
    return json.dumps(data, indent=2, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
