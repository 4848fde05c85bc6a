"""Errors of runs."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import PyFlowError


class RunNotFoundError(PyFlowError):
    """There is no run of that id, or none that this credential may see."""

    code: ClassVar[str] = "run_not_found"


class NodeNotFoundError(PyFlowError):
    """The run's workflow has no node of that id."""

    code: ClassVar[str] = "node_not_found"


class RunFinishedError(PyFlowError):
    """The run has ended: nothing can be asked of it or told to it any more."""

    code: ClassVar[str] = "run_finished"


class FencedError(PyFlowError):
    """Another process has taken the run over: nothing that this one still does for it counts."""

    code: ClassVar[str] = "fenced"


class LeaseLapsedError(FencedError):
    """The lease was not renewed in time: another process may execute the run by now, so this one does not go on."""

    code: ClassVar[str] = "lease_lapsed"
