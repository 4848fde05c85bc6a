"""Errors of tenants and access."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import PyFlowError


class InvalidKeyError(PyFlowError):
    """The API key is malformed, unknown, expired or revoked."""

    code: ClassVar[str] = "authentication_failed"


class UnscopedQueryError(PyFlowError):
    """A tenant's rows were asked for without saying whose: call ``for_tenant``, or ``across_tenants`` and mean it."""

    code: ClassVar[str] = "unscoped_query"


class ForbiddenError(PyFlowError):
    """The credential is valid, but its role or its scopes do not allow this."""

    code: ClassVar[str] = "forbidden"


class CursorError(PyFlowError):
    """The cursor is malformed, or belongs to another tenant, list, order or filter."""

    code: ClassVar[str] = "cursor_invalid"


class IdempotencyKeyError(PyFlowError):
    """The `Idempotency-Key` is empty, too long, or not of visible ASCII characters."""

    code: ClassVar[str] = "idempotency_key_invalid"


class IdempotencyConflictError(PyFlowError):
    """A request with the same `Idempotency-Key` is being answered; try again when it is."""

    code: ClassVar[str] = "idempotency_in_flight"


class IdempotencyMismatchError(PyFlowError):
    """The `Idempotency-Key` was used for a request that said something else."""

    code: ClassVar[str] = "idempotency_mismatch"


class PreconditionFailedError(PyFlowError):
    """The object has changed since it was read: its `ETag` is not the one in `If-Match`."""

    code: ClassVar[str] = "precondition_failed"


class PreconditionRequiredError(PyFlowError):
    """This needs `If-Match`, so that nobody overwrites what they have not seen."""

    code: ClassVar[str] = "precondition_required"


class TooManyFailuresError(PyFlowError):
    """Too many attempts to authenticate have failed, with this key, this user name or from this address."""

    code: ClassVar[str] = "too_many_failures"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        #: Seconds until the next attempt is looked at.
        self.retry_after = retry_after
