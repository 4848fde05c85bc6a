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
