"""Verdicts on documents and plans of runs, computed in a process that can be killed: their templates are strangers'.

What is called there (``_examine``, ``_plan``) imports no Django, knows no secret and takes and returns JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from plugins.discovery import discover
from pyflow.core.errors import DefinitionError, DocumentError, DocumentTooLargeError, Problem
from pyflow.core.plain import NotPlainError, to_plain
from pyflow.execution.dry_run import dry_run
from pyflow.isolation.computations import compute
from pyflow.validation.loader import Format, parse_workflow
from workflows.documents import check_document, examine


def verdict_on(source: str, source_format: Format, *, tenant_id: UUID) -> dict[str, Any]:
    """Everything that is wrong with a document or doubtful in it, and the secrets it uses, as plain data.

    Raises ``ComputationLimitError`` or ``ComputationBusyError``.
    """
    verdict: dict[str, Any] = compute(f"{__name__}:examined", source, source_format, group=str(tenant_id))
    return verdict


def plan_run(
    source: str, source_format: str, input: Mapping[str, Any] | None, *, tenant_id: UUID, stored: bool
) -> dict[str, Any]:
    """Plan a run of a document, as plain data. One that is ``stored`` was accepted before.

    Raises as ``verdict_on`` does; ``DefinitionError`` or ``DocumentError`` for a document that cannot run.
    """
    planned = compute(f"{__name__}:planned", source, source_format, input, stored, group=str(tenant_id))
    if "plan" in planned:
        plan: dict[str, Any] = planned["plan"]
        return plan
    problems = [_problem(each) for each in planned["problems"]]
    if planned["code"] == DefinitionError.code:
        raise DefinitionError(problems)
    kind = DocumentTooLargeError if planned["code"] == DocumentTooLargeError.code else DocumentError
    first = problems[0]
    raise kind(first.message, line=first.line, column=first.column)


def examined(source: str, source_format: Format) -> dict[str, Any]:
    """Answer ``verdict_on``, in the other process."""
    verdict = examine(source, source_format)
    return {
        "valid": verdict.definition is not None,
        "name": None if verdict.definition is None else verdict.definition.name,
        "problems": [problem.as_dict() for problem in verdict.problems],
        "warnings": [warning.as_dict() for warning in verdict.warnings],
        "secrets": verdict.secrets,
    }


def planned(source: str, source_format: Format, input: dict[str, Any] | None, stored: bool) -> dict[str, Any]:
    """Answer ``plan_run``, in the other process."""
    try:
        definition = (parse_workflow if stored else check_document)(source, source_format)
        return {"plan": to_plain(dry_run(definition, discover().registry, input=input).as_dict())}
    except DefinitionError as error:
        return {"code": error.code, "problems": [problem.as_dict() for problem in error.problems]}
    except NotPlainError as error:  # a template gives what an answer cannot hold, such as bytes
        return {"code": DefinitionError.code, "problems": [Problem(error.code, str(error)).as_dict()]}
    except DocumentError as error:
        return {"code": error.code, "problems": [error.problem.as_dict()]}


examined.prepare = planned.prepare = discover  # type: ignore[attr-defined] # what a process imports before it is limited


def _problem(data: Mapping[str, Any]) -> Problem:
    return Problem(
        data["code"],
        data["detail"],
        data["pointer"],
        line=data.get("line"),
        column=data.get("column"),
        suggestion=data.get("suggestion"),
    )
