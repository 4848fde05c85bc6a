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


class VersionMissingError(PyFlowError):
    """The workflow has no version of that number."""

    code: ClassVar[str] = "version_not_found"


class VersionStateError(PyFlowError):
    """The version is not in a state that allows this: only drafts are edited, only published ones started."""

    code: ClassVar[str] = "version_state"


class NothingPublishedError(PyFlowError):
    """The workflow has no published version, so there is nothing that a run could start."""

    code: ClassVar[str] = "workflow_not_published"


class WorkflowArchivedError(PyFlowError):
    """The workflow is archived: no run starts and nothing of it is changed until it is unarchived."""

    code: ClassVar[str] = "workflow_archived"


class WorkflowInUseError(PyFlowError):
    """The workflow has runs: archive it before it is deleted, and let those in flight end."""

    code: ClassVar[str] = "workflow_in_use"
