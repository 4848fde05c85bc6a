"""Errors of requests, whatever they are about."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class CursorError(PyFlowError):
    """The cursor is malformed, or belongs to another tenant, list, order or filter."""

    code: ClassVar[str] = "cursor_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.MALFORMED


class PreconditionFailedError(PyFlowError):
    """The object has changed since it was read: its `ETag` is not the one in `If-Match`."""

    code: ClassVar[str] = "precondition_failed"
    category: ClassVar[ErrorCategory] = ErrorCategory.PRECONDITION_FAILED


class PreconditionRequiredError(PyFlowError):
    """The request needs `If-Match`, which protects against overwriting changes of others."""

    code: ClassVar[str] = "precondition_required"
    category: ClassVar[ErrorCategory] = ErrorCategory.PRECONDITION_REQUIRED
