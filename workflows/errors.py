"""Errors of workflows."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import PyFlowError


class WorkflowMissingError(PyFlowError):
    """There is no workflow of that name, or none that this credential may see."""

    code: ClassVar[str] = "workflow_not_found"


class WorkflowExistsError(PyFlowError):
    """A workflow of that name exists; `PUT` gives it a new version."""

    code: ClassVar[str] = "workflow_exists"


class GraphTooLargeError(PyFlowError):
    """The graph has too many nodes or edges to be drawn; as JSON or Mermaid it has no limit."""

    code: ClassVar[str] = "graph_too_large"
