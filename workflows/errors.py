"""Errors of workflows."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class WorkflowMissingError(PyFlowError):
    """There is no workflow of that name, or none that this credential may see."""

    code: ClassVar[str] = "workflow_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class WorkflowExistsError(PyFlowError):
    """A workflow of that name exists; `PUT` gives it a new version."""

    code: ClassVar[str] = "workflow_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class GraphTooLargeError(PyFlowError):
    """The graph has too many nodes or edges to be drawn; as JSON or Mermaid it has no limit."""

    code: ClassVar[str] = "graph_too_large"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class VersionMissingError(PyFlowError):
    """The workflow has no version of that number."""

    code: ClassVar[str] = "version_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class VersionStateError(PyFlowError):
    """The version is not in a state that allows this: only drafts are edited, only published ones started."""

    code: ClassVar[str] = "version_state"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class NothingPublishedError(PyFlowError):
    """The workflow has no published version, so there is nothing that a run could start."""

    code: ClassVar[str] = "workflow_not_published"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class WorkflowArchivedError(PyFlowError):
    """The workflow is archived: no run starts and nothing of it is changed until it is unarchived."""

    code: ClassVar[str] = "workflow_archived"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class WorkflowInUseError(PyFlowError):
    """The workflow has runs: archive it before it is deleted, and let those in flight end."""

    code: ClassVar[str] = "workflow_in_use"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT
