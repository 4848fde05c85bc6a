"""Checks the input of a run against the workflow's ``inputs`` (JSON Schema 2020-12)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pyflow.core.document import make_pointer
from pyflow.core.errors import DefinitionError, InputError, Problem
from pyflow.core.models import WorkflowDef


def accept_input(workflow: WorkflowDef, value: Any) -> dict[str, Any]:
    """``value`` with top-level defaults filled in. Raises ``InputError`` naming everything that does not fit."""
    if not isinstance(value, Mapping):
        raise InputError([Problem("bad_input", f"the input is a mapping, not {type(value).__name__}")])
    accepted = dict(value)
    if workflow.inputs is None:
        return accepted
    properties = workflow.inputs.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if isinstance(schema, dict) and "default" in schema:
            accepted.setdefault(name, copy.deepcopy(schema["default"]))
    problems = _validator(json.dumps(workflow.inputs, sort_keys=True))(accepted)
    if problems:
        raise InputError(problems)
    return accepted


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ``DefinitionError`` unless ``schema`` is a JSON Schema that refers to nothing outside itself."""
    _validator(json.dumps(schema, sort_keys=True))


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], list[Problem]]:
    # Imported when the first schema needs it: a third of the command line's start-up time otherwise.
    import jsonschema_rs  # noqa: PLC0415

    def refuse(uri: str) -> Any:
        raise ValueError(f"a schema may not refer to {uri}")

    try:
        validator = jsonschema_rs.Draft202012Validator(
            json.loads(schema), retriever=refuse, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        message = f"inputs: not a usable JSON Schema: {str(error).splitlines()[0]}"
        raise DefinitionError([Problem("bad_schema", message, "/inputs")]) from None

    def problems(value: Any) -> list[Problem]:
        try:
            return [
                Problem("bad_input", error.message, make_pointer(tuple(error.instance_path)))
                for error in validator.iter_errors(value)
            ]
        except ValueError as error:  # not JSON data
            return [Problem("bad_input", str(error))]

    return problems
