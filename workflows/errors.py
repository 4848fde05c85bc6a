"""Errors of workflows."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class WorkflowMissingError(PyFlowError):
    """No workflow with this name exists, or the credential may not see it."""

    code: ClassVar[str] = "workflow_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class WorkflowExistsError(PyFlowError):
    """A workflow with this name already exists. Use `PUT` to add a version."""

    code: ClassVar[str] = "workflow_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class GraphTooLargeError(PyFlowError):
    """The graph has too many nodes or edges for a drawing. Use JSON or Mermaid instead."""

    code: ClassVar[str] = "graph_too_large"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class VersionMissingError(PyFlowError):
    """The workflow has no version with this number."""

    code: ClassVar[str] = "version_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class VersionStateError(PyFlowError):
    """The state of the version does not allow this: only drafts can be edited, only published versions can be run."""

    code: ClassVar[str] = "version_state"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class NothingPublishedError(PyFlowError):
    """The workflow has no published version, which a run needs."""

    code: ClassVar[str] = "workflow_not_published"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class WorkflowArchivedError(PyFlowError):
    """The workflow is archived: it cannot be run or changed until it is unarchived."""

    code: ClassVar[str] = "workflow_archived"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class WorkflowInUseError(PyFlowError):
    """The workflow has runs. Archive it before deleting it, and wait until active runs have ended."""

    code: ClassVar[str] = "workflow_in_use"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT
