"""Modules that some nodes need and that are slow to import.

httpx2, jsonpath-ng and SQLAlchemy take longer to load than a small workflow takes to run, so they are loaded with the
first node that uses them, here and nowhere else.
"""

# ruff: noqa: PLC0415 - that is the purpose of this module

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyflow.core.http_client as http_client
    import pyflow.core.jsonpath as jsonpath
    import pyflow.nodes.email_message as email_message
    import pyflow.nodes.http_exchange as http_exchange
    import pyflow.nodes.llm_chat as llm_chat
    import pyflow.nodes.sql_query as sql_query

__all__ = ["email_message", "http_client", "http_exchange", "jsonpath", "llm_chat", "sql_query"]

_HOMES = {
    "email_message": "pyflow.nodes",
    "http_client": "pyflow.core",
    "http_exchange": "pyflow.nodes",
    "jsonpath": "pyflow.core",
    "llm_chat": "pyflow.nodes",
    "sql_query": "pyflow.nodes",
}


def __getattr__(name: str) -> ModuleType:
    from importlib import import_module

    if name in _HOMES:
        return import_module(f"{_HOMES[name]}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
