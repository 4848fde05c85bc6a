"""Modules that some nodes need and that are slow to import.

httpx2 and jsonpath-ng take longer to load than a small workflow takes to run, so they are loaded with the first node
that uses them, here and nowhere else.
"""

# ruff: noqa: PLC0415 - that is the purpose of this module

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflow.core import http_client, jsonpath

__all__ = ["http_client", "jsonpath"]


def __getattr__(name: str) -> ModuleType:
    if name == "http_client":
        from pyflow.core import http_client

        return http_client
    if name == "jsonpath":
        from pyflow.core import jsonpath

        return jsonpath
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
