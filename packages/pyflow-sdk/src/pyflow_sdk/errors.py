"""The base of every PyFlow error, and the ones that a node raises on purpose."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class ErrorCategory(StrEnum):
    """Categories of errors, for callers that know no single class: the API derives the status from it."""

    #: The text cannot be read, or a header is not well-formed.
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    #: A quota of the plan is used up, and a larger plan would allow this.
    UPGRADE_NEEDED = "upgrade_needed"
    FORBIDDEN = "forbidden"
    #: A quota is used up.
    EXHAUSTED = "exhausted"
    NOT_FOUND = "not_found"
    #: The object's state, or another object, does not allow this.
    CONFLICT = "conflict"
    #: What was there before was removed, and does not come back.
    GONE = "gone"
    #: The object has changed since the caller read it.
    PRECONDITION_FAILED = "precondition_failed"
    TOO_LARGE = "too_large"
    #: The text is of a type or in a character set that is not read here.
    UNSUPPORTED = "unsupported"
    #: The text can be read, but its values are not valid.
    INVALID = "invalid"
    #: The request lacks the condition that protects against lost updates.
    PRECONDITION_REQUIRED = "precondition_required"
    RATE_LIMITED = "rate_limited"
    #: The same request can succeed later, or once the operator has configured what is missing.
    UNAVAILABLE = "unavailable"
    #: Stored data is damaged or gone. The caller reads which; an internal error says nothing of the sort.
    DATA_LOSS = "data_loss"
    #: A defect, or an error that no caller of the API is meant to see: its text stays in the logs.
    INTERNAL = "internal"


class PyFlowError(Exception):
    """Base of all errors that PyFlow raises.

    ``code`` is stable and machine-readable (snake_case); the message is for people and says what to do. ``category``
    is the sort of failure, which subclasses inherit. ``permanent``: the same attempt fails again, whatever happens
    meanwhile, so that ``retry`` does not repeat it.
    """

    code: ClassVar[str] = "pyflow_error"
    category: ClassVar[ErrorCategory] = ErrorCategory.INTERNAL
    permanent: ClassVar[bool] = False

    def problem_members(self) -> dict[str, Any]:
        """Return what a problem document has of this error besides its code and text (RFC 9457, extension members)."""
        return {}


class NodeError(PyFlowError):
    """A node failed for a reason that its author foresaw.

    ``kind`` is matched by ``retry_on`` / ``non_retryable`` (for example ``timeout`` or ``http_503``);
    ``status`` is an HTTP status where there is one, ``body`` the answer of the other side (text or JSON), which is
    masked and limited to 8 KiB when the error is recorded.
    """

    code: ClassVar[str] = "node_error"
    # Also for subclasses that leave the constructor out.
    kind: str | None = None
    status: int | None = None
    body: object = None

    def __init__(
        self, message: str, *, kind: str | None = None, status: int | None = None, body: object = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.body = body


class RetryableError(NodeError):
    """A failure that is worth another attempt, after ``retry_after`` seconds if that is given."""

    code: ClassVar[str] = "retryable_error"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        kind: str | None = None,
        status: int | None = None,
        body: object = None,
    ) -> None:
        super().__init__(message, kind=kind, status=status, body=body)
        self.retry_after = retry_after


class NonRetryableError(NodeError):
    """A failure that another attempt cannot mend: the retry policy is not consulted."""

    code: ClassVar[str] = "non_retryable_error"
    permanent: ClassVar[bool] = True
