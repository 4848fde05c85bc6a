"""JSON Schema for nodes: is a value of the shape that a config asks for?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyflow.core import inputs
from pyflow.core.errors import Problem


def checked_schema(schema: Any) -> Any:
    """``schema`` if it is ``None`` or a JSON Schema (2020-12) that refers to nothing outside itself.

    Raises ``DefinitionError``, a ``ValueError``; so it works as a pydantic validator.
    """
    if isinstance(schema, Mapping):
        inputs.check_schema(schema)
    return schema


def mismatches(schema: Mapping[str, Any], value: Any, pointer: str = "") -> list[Problem]:
    """Everything in ``value`` that does not fit; ``pointer`` is where the value stands in what was given."""
    found = inputs._validator(json.dumps(schema, sort_keys=True))(value)
    return [Problem(one.code, one.message, pointer + one.pointer) for one in found]


def as_text(problems: list[Problem]) -> str:
    """The problems in one line, each with its place."""
    return "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
