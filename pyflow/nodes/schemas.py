"""JSON Schema for nodes: is a value of the shape that a config asks for?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyflow.core.errors import Problem
from pyflow.documents.json_schema import check_schema, mismatches

__all__ = ["as_text", "checked_schema", "mismatches"]


def checked_schema(schema: Any) -> Any:
    """``schema`` if it is ``None`` or a JSON Schema (2020-12) that refers to nothing outside itself.

    Raises ``UnusableSchemaError``, a ``ValueError``; so it works as a pydantic validator.
    """
    if isinstance(schema, Mapping):
        check_schema(schema)
    return schema


def as_text(problems: list[Problem]) -> str:
    """The problems in one line, each with its place."""
    return "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
