"""The ``storage`` node: JSON files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import RootModel

from pyflow.core import files
from pyflow.core.context import ExecutionContext
from pyflow.core.messages import show
from pyflow.core.node import BaseNode
from pyflow.nodes.fields import AnyValue, NodeConfig, TemplateText


class StorageConfig(NodeConfig):
    """What the ``storage`` node needs."""

    path: str
    """The file, relative to the storage's root where one is set."""
    action: Literal["read", "write", "append"] | TemplateText = "read"
    """``append`` adds ``data`` as one more element to the list in the file."""
    data: AnyValue = None
    """What to write or append: anything that JSON has."""


class StorageOutput(RootModel[Any]):
    """The content of the file, after a write or append the new one."""


class StorageNode(BaseNode[dict[str, Any], Any]):
    """Reads, writes or appends to a JSON file and gives its content.

    A file that does not exist reads as ``[]``; directories are made as needed. Writes are atomic, and appends from
    many processes lose nothing. Raises ``ValueError`` for an unknown action and for a file that is not JSON,
    ``PathRefusedError`` (a ``ValueError``) for a path outside the storage, ``StorageQuotaError``; ``KeyError`` without
    a ``path``.
    """

    node_type: ClassVar[str] = "storage"
    display_name: ClassVar[str] = "Storage"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Reads and writes JSON files."
    version: ClassVar[str] = "2.0.0"
    example: ClassVar[Mapping[str, Any]] = {
        "path": "rates/history.json",
        "action": "append",
        "data": "{{ fetch.body }}",
    }
    Config = StorageConfig
    Output = StorageOutput

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:  # noqa: ARG002
        """Do the action; see the class."""
        path, action = str(config["path"]), config.get("action", "read")
        storage = files.storage()
        if action == "read":
            return await asyncio.to_thread(_read, storage, path)
        if action == "write":
            return await asyncio.to_thread(_write, storage, path, config.get("data"))
        if action == "append":
            return await asyncio.to_thread(_append, storage, path, config.get("data"))
        raise ValueError(f"Unknown storage action: {show(action)}")


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
