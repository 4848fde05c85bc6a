"""JSON Schema (2020-12): whether a schema can be used, and what in a value does not fit it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from pyflow.core.document import make_pointer
from pyflow.core.errors import Problem, PyFlowError

__all__ = ["UnusableSchemaError", "check_schema", "mismatches"]


class UnusableSchemaError(PyFlowError, ValueError):
    """A schema that is none, or that refers to something outside itself."""

    code: ClassVar[str] = "bad_schema"


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ``UnusableSchemaError`` unless ``schema`` is a JSON Schema that refers to nothing outside itself."""
    _validator(json.dumps(schema, sort_keys=True))


def mismatches(schema: Mapping[str, Any], value: Any, pointer: str = "") -> list[Problem]:
    """Everything in ``value`` that does not fit, as ``bad_input``; ``pointer`` is where the value itself stands.

    Raises ``UnusableSchemaError``.
    """
    found = _validator(json.dumps(schema, sort_keys=True))(value)
    return [Problem("bad_input", message, pointer + at) for message, at in found]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], list[tuple[str, str]]]:
    # Imported when the first schema needs it: a third of the command line's start-up time otherwise.
    import jsonschema_rs  # noqa: PLC0415

    def refuse(uri: str) -> Any:
        raise ValueError(f"a schema may not refer to {uri}")

    try:
        validator = jsonschema_rs.Draft202012Validator(
            json.loads(schema), retriever=refuse, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise UnusableSchemaError(f"not a usable JSON Schema: {str(error).splitlines()[0]}") from None

    def misfits(value: Any) -> list[tuple[str, str]]:
        try:
            return [(error.message, make_pointer(tuple(error.instance_path))) for error in validator.iter_errors(value)]
        except ValueError as error:  # not JSON data
            return [(str(error), "")]

    return misfits
