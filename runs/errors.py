"""Errors of runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, NonRetryableError, PyFlowError
from pyflow.core.states import RUN_VERBS, RunState


class RunNotFoundError(PyFlowError):
    """No run with this id exists, or the credential may not see it."""

    code: ClassVar[str] = "run_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class NodeNotFoundError(PyFlowError):
    """The workflow of the run has no node with this id."""

    code: ClassVar[str] = "node_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class RunStateError(PyFlowError):
    """The state of the run does not allow this action. The problem has its `state` and the `possible` actions."""

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
    """The run has ended: only rerun is possible, and retry if it did not succeed."""

    code: ClassVar[str] = "run_finished"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SignalNotAwaitedError(PyFlowError):
    """No node of the run can wait for a signal with this name. `awaited` lists the possible names."""

    code: ClassVar[str] = "signal_not_awaited"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT

    def __init__(self, message: str, awaited: Collection[str]) -> None:
        self.awaited = list(awaited)
        super().__init__(message)

    def problem_members(self) -> dict[str, Any]:
        """Return ``{awaited}``."""
        return {"awaited": self.awaited}


class NotAssigneeError(PyFlowError):
    """The caller is not among the `assignees` of the approval."""

    code: ClassVar[str] = "not_assignee"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class RunUndoneError(RunStateError):
    """The run was compensated, so it cannot be retried. Use `rerun` to start a new run."""

    code: ClassVar[str] = "run_undone"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class RerunError(PyFlowError):
    """A rerun from this node is not possible: the version to run has no such node in its section `nodes`."""

    code: ClassVar[str] = "rerun_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class FencedError(PyFlowError):
    """Another process has taken over the run: writes of this process are refused."""

    code: ClassVar[str] = "fenced"


class LeaseLapsedError(FencedError):
    """The lease was not renewed in time, so this process stops: another one may already execute the run."""

    code: ClassVar[str] = "lease_lapsed"


class AlreadyActiveError(PyFlowError):
    """An executor was given a run that it is executing. It never starts one twice."""

    code: ClassVar[str] = "already_active"


class ValueMissingError(PyFlowError):
    """A large value is missing in the storage: it was removed, or this process uses another storage."""

    code: ClassVar[str] = "value_missing"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class ValueCorruptError(PyFlowError):
    """A large value is damaged: its SHA-256 or size differs from what was stored."""

    code: ClassVar[str] = "value_corrupt"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class ValueRefusedError(NonRetryableError):
    """A node's output exceeds the tenant's quota of stored bytes."""

    code: ClassVar[str] = "stored_bytes_exceeded"


class EventTooLargeError(PyFlowError):
    """The data of a custom event has more than 64 KiB."""

    code: ClassVar[str] = "event_too_large"
    category: ClassVar[ErrorCategory] = ErrorCategory.TOO_LARGE
