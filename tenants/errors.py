"""Errors of tenants and access."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class InvalidKeyError(PyFlowError):
    """The API key is malformed, unknown, expired or revoked."""

    code: ClassVar[str] = "authentication_failed"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAUTHENTICATED


class UnscopedQueryError(PyFlowError):
    """A query has no tenant: call ``for_tenant``, or ``across_tenants`` on purpose."""

    code: ClassVar[str] = "unscoped_query"


class ForbiddenError(PyFlowError):
    """The credential is valid, but its role or its scopes do not allow this."""

    code: ClassVar[str] = "forbidden"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class IdempotencyKeyError(PyFlowError):
    """The `Idempotency-Key` is empty, too long, or has characters other than visible ASCII."""

    code: ClassVar[str] = "idempotency_key_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.MALFORMED


class IdempotencyConflictError(PyFlowError):
    """A request with the same `Idempotency-Key` is still being processed. Try again later."""

    code: ClassVar[str] = "idempotency_in_flight"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class IdempotencyMismatchError(PyFlowError):
    """The `Idempotency-Key` was already used for a different request."""

    code: ClassVar[str] = "idempotency_mismatch"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class TooManyFailuresError(PyFlowError):
    """Too many failed authentication attempts with this key or user name, or from this address."""

    code: ClassVar[str] = "too_many_failures"
    category: ClassVar[ErrorCategory] = ErrorCategory.RATE_LIMITED

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        #: Seconds until the next attempt is looked at.
        self.retry_after = retry_after


class MemberNotFoundError(PyFlowError):
    """The tenant has no such member."""

    code: ClassVar[str] = "member_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class MemberExistsError(PyFlowError):
    """A user with this e-mail address is already a member."""

    code: ClassVar[str] = "member_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class LastOwnerError(PyFlowError):
    """A tenant must have at least one owner. Make another member an owner first."""

    code: ClassVar[str] = "last_owner"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class BeyondOwnRightsError(PyFlowError):
    """The caller cannot grant permissions that it does not have, or change a member or key with more permissions."""

    code: ClassVar[str] = "beyond_own_rights"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class InvitationNotFoundError(PyFlowError):
    """The tenant has no such invitation."""

    code: ClassVar[str] = "invitation_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class InvitationExistsError(PyFlowError):
    """An open invitation for this e-mail address exists. Revoke it before creating another."""

    code: ClassVar[str] = "invitation_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class TenantNotFoundError(PyFlowError):
    """No tenant has this slug."""

    code: ClassVar[str] = "tenant_not_found"


class AuditBrokenError(PyFlowError):
    """The audit chain has lost its end, so no entry can be added. The operator has to restore it."""

    code: ClassVar[str] = "audit_broken"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class InvitationClosedError(PyFlowError):
    """The invitation has already been accepted or revoked, or it has expired."""

    code: ClassVar[str] = "invitation_closed"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class InvitationTokenError(PyFlowError):
    """The token belongs to no open invitation, or the password of the account is wrong."""

    code: ClassVar[str] = "invitation_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class PasswordError(PyFlowError):
    """The password is too easy to guess; the message says why."""

    code: ClassVar[str] = "password_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class KeyNotFoundError(PyFlowError):
    """The tenant has no such API key."""

    code: ClassVar[str] = "api_key_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class KeyNotUsableError(PyFlowError):
    """The API key is revoked, expired or already replaced. Create a new key instead of rotating it."""

    code: ClassVar[str] = "api_key_not_usable"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class KeyNameTakenError(PyFlowError):
    """Another API key of the tenant has this name. Names are unique, because approvals and the audit refer to them."""

    code: ClassVar[str] = "api_key_name_taken"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class TenantExistsError(PyFlowError):
    """The slug of the tenant is taken."""

    code: ClassVar[str] = "tenant_exists"


class TenantInvalidError(PyFlowError):
    """The slug or the name of the tenant is not valid."""

    code: ClassVar[str] = "tenant_invalid"


class InvalidTokenError(PyFlowError):
    """The access or refresh token is malformed, unknown, used, expired or revoked. Log in again."""

    code: ClassVar[str] = "token_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAUTHENTICATED


class LoginError(PyFlowError):
    """The user name, the password or the tenant is wrong. The response does not say which."""

    code: ClassVar[str] = "login_failed"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAUTHENTICATED


class TokensDisabledError(PyFlowError):
    """The server cannot sign tokens: the operator has to set `PYFLOW_JWT_PRIVATE_KEY`."""

    code: ClassVar[str] = "tokens_disabled"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE


class PlanError(PyFlowError):
    """The plan or quota does not exist, or the limit is not a whole number."""

    code: ClassVar[str] = "plan_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class QuotaExceededError(PyFlowError):
    """A quota of the tenant is exceeded. The problem has its `quota`, `limit`, `used` and `resets_at`."""

    code: ClassVar[str] = "quota_exceeded"
    category: ClassVar[ErrorCategory] = ErrorCategory.EXHAUSTED

    def __init__(
        self,
        message: str,
        *,
        quota: str,
        limit: int,
        used: int,
        resets_at: datetime | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.quota = quota
        self.limit = limit
        self.used = used
        self.resets_at = resets_at
        #: Seconds until the period of the quota ends.
        self.retry_after = retry_after

    def problem_members(self) -> dict[str, Any]:
        """Return ``{quota, limit, used, resets_at}``."""
        return {"quota": self.quota, "limit": self.limit, "used": self.used, "resets_at": self.resets_at}


class UpgradeNeededError(QuotaExceededError):
    """A quota is exceeded that is higher in another plan. The problem has the members of `quota_exceeded`."""

    code: ClassVar[str] = "plan_limit_reached"
    category: ClassVar[ErrorCategory] = ErrorCategory.UPGRADE_NEEDED


class RateLimitedError(PyFlowError):
    """Too many requests within a minute. Retry after `Retry-After` seconds."""

    code: ClassVar[str] = "rate_limited"
    category: ClassVar[ErrorCategory] = ErrorCategory.RATE_LIMITED

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        #: Seconds.
        self.retry_after = retry_after


class GrantNotFoundError(PyFlowError):
    """The object has no such grant."""

    code: ClassVar[str] = "grant_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND
