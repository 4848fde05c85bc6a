"""JSON Schema (2020-12): whether a schema can be used, and what in a value does not fit it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

from pyflow.core.document import make_pointer
from pyflow.core.errors import Problem, PyFlowError
from pyflow.documents.schema_cost import MAX_CHECKS, count_parts, count_values

__all__ = ["UnusableSchemaError", "check_schema", "mismatches"]


#: Nobody reads more of them.
MAX_MISMATCHES = 100
#: Parts times values, up to which more than the first mismatch is looked for.
FEW_CHECKS = 100_000


class UnusableSchemaError(PyFlowError, ValueError):
    """A schema that is none, or that refers to something outside itself."""

    code: ClassVar[str] = "bad_schema"
    permanent: ClassVar[bool] = True


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ``UnusableSchemaError`` unless ``schema`` is a JSON Schema that refers to nothing outside itself."""
    _validator(json.dumps(schema, sort_keys=True))


def mismatches(schema: Mapping[str, Any], value: Any, pointer: str = "") -> list[Problem]:
    """Return the mismatches of ``value``, as ``bad_input``: up to ``MAX_MISMATCHES``, of a large value only the first.

    ``pointer`` is where the value itself stands. Raises ``UnusableSchemaError``.
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
        parsed = json.loads(schema)
        parts = count_parts(parsed)
        validator = jsonschema_rs.Draft202012Validator(
            parsed, retriever=refuse, pattern_options=jsonschema_rs.RegexOptions(), mask="the value"
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise UnusableSchemaError(f"not a usable JSON Schema: {str(error).splitlines()[0]}") from None

    def first(value: Any) -> jsonschema_rs.ValidationError:
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error
        raise AssertionError("a value is valid and is not")

    def misfits(value: Any) -> list[tuple[str, str]]:
        checks = parts * count_values(value)
        if checks > MAX_CHECKS:
            return [("the value is too large to be checked against a schema of so many parts", "")]
        try:
            if validator.is_valid(value):
                return []
            # All errors are collected before the first is reported, each branch of a combination besides.
            errors = islice(validator.iter_errors(value), MAX_MISMATCHES) if checks <= FEW_CHECKS else [first(value)]
            return [(error.message, make_pointer(tuple(error.instance_path))) for error in errors]
        except ValueError as error:  # not JSON data
            return [(str(error), "")]

    return misfits
