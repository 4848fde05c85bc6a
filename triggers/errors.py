"""Errors of triggers."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class ScheduleNotFoundError(PyFlowError):
    """No schedule with this id exists, or the credential may not see it."""

    code: ClassVar[str] = "schedule_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class ScheduleInactiveError(PyFlowError):
    """The published version does not declare the schedule, or its workflow is archived: it starts no runs."""

    code: ClassVar[str] = "schedule_inactive"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class ScheduleInvalidError(PyFlowError):
    """The config of the schedule cannot be used. Publish a version in which it is valid."""

    code: ClassVar[str] = "schedule_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class BackfillError(PyFlowError):
    """The range of the backfill is not valid: it must be in the past and have at most 1,000 slots."""

    code: ClassVar[str] = "backfill_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class HookPathTakenError(PyFlowError):
    """Another workflow of the tenant has a webhook with this path."""

    code: ClassVar[str] = "hook_path_taken"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class HookNotFoundError(PyFlowError):
    """No webhook answers this request: its URL, its method or its signature is wrong."""

    code: ClassVar[str] = "hook_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class HookMissingError(PyFlowError):
    """No inbound webhook with this id exists, or the credential may not see it."""

    code: ClassVar[str] = "inbound_hook_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class HookBodyError(PyFlowError):
    """The body of the request is not what its `Content-Type` says."""

    code: ClassVar[str] = "hook_body_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.MALFORMED


class HookTypeError(PyFlowError):
    """No body of this type, or in this character set, is read. Send JSON, a form or text."""

    code: ClassVar[str] = "hook_body_unsupported"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNSUPPORTED


class HookInputError(PyFlowError):
    """The request gives no input for the workflow: a template of the trigger failed, or its result is no object."""

    code: ClassVar[str] = "hook_input_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class EventTriggerMissingError(PyFlowError):
    """No event trigger with this id exists, or the credential may not see it."""

    code: ClassVar[str] = "event_trigger_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class FailureMissingError(PyFlowError):
    """The event trigger has no failure with this id."""

    code: ClassVar[str] = "trigger_failure_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class FailureResolvedError(PyFlowError):
    """The failure is resolved: a run was started for its event."""

    code: ClassVar[str] = "trigger_failure_resolved"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class EventLoopError(PyFlowError):
    """Runs and events start each other without end: the chain is longer than allowed."""

    code: ClassVar[str] = "event_loop"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class TriggerInputError(PyFlowError):
    """The trigger gives no input for the workflow: a template failed, or its result is no object."""

    code: ClassVar[str] = "trigger_input_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID
