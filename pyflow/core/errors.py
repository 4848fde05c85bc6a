"""Errors of the engine. Each has a stable ``code``; those v1 users catch are ``ValueError`` or ``KeyError``, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pyflow_sdk.errors import ErrorCategory, NodeError, NonRetryableError, PyFlowError, RetryableError

__all__ = [
    "DefinitionError",
    "DocumentError",
    "DocumentTooLargeError",
    "ErrorCategory",
    "InputError",
    "NodeError",
    "NodeTimeoutError",
    "NonRetryableError",
    "Problem",
    "PyFlowError",
    "RetryableError",
    "UnknownNodeTypeError",
    "WorkerLostError",
    "WorkflowNotFoundError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document.

    ``pointer`` is an RFC 6901 JSON Pointer into it; ``line`` and ``column`` count from 1 and are ``None`` where the
    document did not come from text.
    """

    code: str
    message: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{self.message}{hint}"

    def as_dict(self, within: str = "") -> dict[str, Any]:
        """Return ``{code, detail, pointer, line?, column?, suggestion?}``, as ``errors`` of a problem document has it.

        ``within`` is the pointer of the document in a larger one.
        """
        shape: dict[str, Any] = {"code": self.code, "detail": self.message, "pointer": within + self.pointer}
        if self.line is not None:
            shape |= {"line": self.line, "column": self.column}
        if self.suggestion:
            shape["suggestion"] = self.suggestion
        return shape


class DocumentError(PyFlowError, ValueError):
    """Text that is not a document we accept: not YAML or JSON, too large, too deep, with duplicate keys…"""

    code: ClassVar[str] = "document_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.MALFORMED
    permanent: ClassVar[bool] = True

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        self.problem = Problem(self.code, message, line=line, column=column)
        super().__init__(str(self.problem))

    def problem_members(self) -> dict[str, Any]:
        """Return ``{errors}``, the one problem with its line and column."""
        return {"errors": [self.problem.as_dict()]}


class DocumentTooLargeError(DocumentError):
    """A document of more than 1 MiB."""

    code: ClassVar[str] = "document_too_large"
    category: ClassVar[ErrorCategory] = ErrorCategory.TOO_LARGE


class DefinitionError(PyFlowError, ValueError):
    """A workflow that cannot run as it is written. ``problems`` holds everything that is wrong, not just the first."""

    code: ClassVar[str] = "definition_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID
    permanent: ClassVar[bool] = True

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def problem_members(self) -> dict[str, Any]:
        """Return ``{errors}``, with pointers into the workflow document."""
        return {"errors": [problem.as_dict() for problem in self.problems]}


class WorkflowNotFoundError(PyFlowError, FileNotFoundError):
    """There is no workflow file at that path."""

    code: ClassVar[str] = "workflow_not_found"
    permanent: ClassVar[bool] = True


class InputError(PyFlowError, ValueError):
    """The input of a run does not match the workflow's ``inputs``."""

    code: ClassVar[str] = "input_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID
    permanent: ClassVar[bool] = True

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.message}" for p in self.problems))

    def problem_members(self) -> dict[str, Any]:
        """Return ``{errors}``, with pointers into a request, of which the input is the field ``input``."""
        return {"errors": [problem.as_dict("/input") for problem in self.problems]}


class UnknownNodeTypeError(PyFlowError, KeyError):
    """No node type of that name is registered."""

    code: ClassVar[str] = "unknown_node_type"
    permanent: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NodeTimeoutError(NodeError, TimeoutError):
    """A node did not finish in the time it was given (seconds in the message)."""

    code: ClassVar[str] = "node_timeout"


class WorkerLostError(NonRetryableError):
    """The process that executed a node was lost, and nobody can say how far the node had come."""

    code: ClassVar[str] = "worker_lost"
