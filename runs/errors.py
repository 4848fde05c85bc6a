"""Errors of runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, NonRetryableError, PyFlowError
from pyflow.core.states import RUN_VERBS, RunState


class RunNotFoundError(PyFlowError):
    """There is no run of that id, or none that this credential may see."""

    code: ClassVar[str] = "run_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class NodeNotFoundError(PyFlowError):
    """The run's workflow has no node of that id."""

    code: ClassVar[str] = "node_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class RunStateError(PyFlowError):
    """The run is in a state in which this cannot be asked of it. ``state`` says in which, ``possible`` what can be."""

    code: ClassVar[str] = "run_state"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT

    def __init__(self, state: RunState, message: str, *, impossible: Collection[str] = ()) -> None:
        self.state = state.value
        self.possible = [verb for verb in RUN_VERBS[state] if verb not in impossible]
        super().__init__(f"{message} Possible now: {', '.join(self.possible)}.")

    def problem_members(self) -> dict[str, Any]:
        """Return ``{state, possible}``."""
        return {"state": self.state, "possible": self.possible}


class RunFinishedError(RunStateError):
    """The run has ended: it can only be repeated, or, if it did not succeed, retried."""

    code: ClassVar[str] = "run_finished"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SignalNotAwaitedError(PyFlowError):
    """No node of the run waits for a signal of that name, now or later. ``awaited`` has the names that can be sent."""

    code: ClassVar[str] = "signal_not_awaited"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT

    def __init__(self, message: str, awaited: Collection[str]) -> None:
        self.awaited = list(awaited)
        super().__init__(message)

    def problem_members(self) -> dict[str, Any]:
        """Return ``{awaited}``."""
        return {"awaited": self.awaited}


class NotAssigneeError(PyFlowError):
    """The caller is not among those who may decide: see ``assignees`` of the approval."""

    code: ClassVar[str] = "not_assignee"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class RunUndoneError(RunStateError):
    """What the run had done has been undone (compensated): it cannot go on from there. ``rerun`` starts anew."""

    code: ClassVar[str] = "run_undone"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class RerunError(PyFlowError):
    """The run cannot be repeated from that node: the version that would run has no such node in its main part."""

    code: ClassVar[str] = "rerun_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class FencedError(PyFlowError):
    """Another process has taken the run over: nothing that this one still does for it counts."""

    code: ClassVar[str] = "fenced"


class LeaseLapsedError(FencedError):
    """The lease was not renewed in time: another process may execute the run by now, so this one does not go on."""

    code: ClassVar[str] = "lease_lapsed"


class AlreadyActiveError(PyFlowError):
    """An executor was given a run that it is executing. It never starts one twice."""

    code: ClassVar[str] = "already_active"


class ValueMissingError(PyFlowError):
    """A large value is not where it was stored: somebody removed it, or this process does not see the storage."""

    code: ClassVar[str] = "value_missing"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class ValueCorruptError(PyFlowError):
    """A large value is not what was stored: its SHA-256, or its size, is another one."""

    code: ClassVar[str] = "value_corrupt"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class ValueRefusedError(NonRetryableError):
    """A node's output is so large that the tenant's quota of stored bytes has no room for it."""

    code: ClassVar[str] = "stored_bytes_exceeded"
