"""Checks the input of a run against the workflow's ``inputs`` (JSON Schema 2020-12)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pyflow.core.document import make_pointer
from pyflow.core.errors import DefinitionError, InputError, Problem
from pyflow.core.messages import show
from pyflow.core.problems import MAX_KNOWN, MAX_WORD
from pyflow.documents.json_schema import UnusableSchemaError, check_schema, mismatches
from pyflow.documents.models import WorkflowDef

#: How like the name of a declared input another name is if it is a slip of the pen.
_NEAR = 0.75
MAX_MISSPELT = 20


def accept_input(workflow: WorkflowDef, value: Any) -> dict[str, Any]:
    """``value`` with top-level defaults filled in.

    Raises ``InputError`` naming everything that does not fit, ``DefinitionError`` for ``inputs`` that are no schema.
    """
    if not isinstance(value, Mapping):
        raise InputError([Problem("bad_input", f"the input is a mapping, not {type(value).__name__}")])
    accepted = dict(value)
    if workflow.inputs is None:
        return accepted
    misspelt = _misspelt(workflow.inputs, accepted)
    properties = workflow.inputs.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if isinstance(schema, dict) and "default" in schema:
            accepted.setdefault(name, copy.deepcopy(schema["default"]))
    try:
        problems = mismatches(workflow.inputs, accepted)
    except UnusableSchemaError as error:
        raise DefinitionError([_unusable(error)]) from None
    if misspelt or problems:
        raise InputError([*misspelt, *problems])
    return accepted


def declared_inputs(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The inputs by name, if the schema says nothing of others; ``None`` if there may be more than it lists."""
    declared = schema.get("properties")
    if not isinstance(declared, dict) or schema.get("patternProperties") or "additionalProperties" in schema:
        return None
    if schema.keys() & {"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "unevaluatedProperties"}:
        return None
    return declared


def only_inputs(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The inputs by name, if the schema refuses all others; ``None`` if there may be more."""
    if schema.get("additionalProperties") is not False:
        return None
    return declared_inputs({key: part for key, part in schema.items() if key != "additionalProperties"})


def _misspelt(schema: Mapping[str, Any], given: Mapping[str, Any]) -> list[Problem]:
    """Inputs that are not declared and are nearly one that is, which is not given."""
    declared = declared_inputs(schema) or {}
    left = sorted(name for name in declared if name not in given)
    folded = {_folded(name): name for name in reversed(left)}
    problems = []
    for name in given if 0 < len(left) <= MAX_KNOWN else ():
        if name not in declared and len(str(name)) <= MAX_WORD:
            alike = get_close_matches(_folded(str(name)), folded, n=1, cutoff=_NEAR)
            if alike:
                near = folded[alike[0]]
                message = f"no input {show(name, 100)} is declared (did you mean {near!r}?)"
                problems.append(Problem("unknown_input", message, make_pointer((str(name),)), suggestion=near))
    return problems[:MAX_MISSPELT]


def _folded(name: str) -> str:
    """A name without what people mix up: `orderID`, `order-id` and `order_id` are one."""
    return name.casefold().replace("-", "").replace("_", "")


def check_inputs(workflow: WorkflowDef) -> list[Problem]:
    """Return the problems of the schema of the workflow's input."""
    try:
        if workflow.inputs is not None:
            check_schema(workflow.inputs)
    except UnusableSchemaError as error:
        return [_unusable(error)]
    return []


def _unusable(error: UnusableSchemaError) -> Problem:
    """The problem that a workflow has whose ``inputs`` are no schema."""
    return Problem(error.code, f"inputs: {error}", "/inputs")
