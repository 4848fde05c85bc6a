"""Checks the input of a run against the workflow's ``inputs`` (JSON Schema 2020-12)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pyflow.core.errors import DefinitionError, InputError, Problem
from pyflow.core.json_schema import UnusableSchemaError, check_schema, mismatches
from pyflow.core.models import WorkflowDef


def accept_input(workflow: WorkflowDef, value: Any) -> dict[str, Any]:
    """``value`` with top-level defaults filled in.

    Raises ``InputError`` naming everything that does not fit, ``DefinitionError`` for ``inputs`` that are no schema.
    """
    if not isinstance(value, Mapping):
        raise InputError([Problem("bad_input", f"the input is a mapping, not {type(value).__name__}")])
    accepted = dict(value)
    if workflow.inputs is None:
        return accepted
    properties = workflow.inputs.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if isinstance(schema, dict) and "default" in schema:
            accepted.setdefault(name, copy.deepcopy(schema["default"]))
    try:
        problems = mismatches(workflow.inputs, accepted)
    except UnusableSchemaError as error:
        raise DefinitionError([_unusable(error)]) from None
    if problems:
        raise InputError(problems)
    return accepted


def check_inputs(workflow: WorkflowDef) -> list[Problem]:
    """What is wrong with the schema of the workflow's input itself."""
    try:
        if workflow.inputs is not None:
            check_schema(workflow.inputs)
    except UnusableSchemaError as error:
        return [_unusable(error)]
    return []


def _unusable(error: UnusableSchemaError) -> Problem:
    """The problem that a workflow has whose ``inputs`` are no schema."""
    return Problem(error.code, f"inputs: {error}", "/inputs")
