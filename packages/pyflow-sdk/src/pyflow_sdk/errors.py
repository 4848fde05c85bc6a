"""The base of every PyFlow error, and the ones that a node raises on purpose."""

from __future__ import annotations

from typing import ClassVar


class PyFlowError(Exception):
    """Base of all errors that PyFlow raises.

    ``code`` is stable and machine-readable (snake_case); the message is for people and says what to do. ``permanent``:
    the same attempt fails again, whatever happens meanwhile, so that ``retry`` does not repeat it.
    """

    code: ClassVar[str] = "pyflow_error"
    permanent: ClassVar[bool] = False


class NodeError(PyFlowError):
    """A node failed for a reason that its author foresaw.

    ``kind`` is matched by ``retry_on`` / ``non_retryable`` (for example ``timeout`` or ``http_503``);
    ``status`` is an HTTP status where there is one.
    """

    code: ClassVar[str] = "node_error"

    def __init__(self, message: str, *, kind: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


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
    ) -> None:
        super().__init__(message, kind=kind, status=status)
        self.retry_after = retry_after


class NonRetryableError(NodeError):
    """A failure that another attempt cannot mend: the retry policy is not consulted."""

    code: ClassVar[str] = "non_retryable_error"
    permanent: ClassVar[bool] = True
