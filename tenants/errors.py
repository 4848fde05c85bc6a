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
    """A tenant's rows were asked for without saying whose: call ``for_tenant``, or ``across_tenants`` and mean it."""

    code: ClassVar[str] = "unscoped_query"


class ForbiddenError(PyFlowError):
    """The credential is valid, but its role or its scopes do not allow this."""

    code: ClassVar[str] = "forbidden"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class IdempotencyKeyError(PyFlowError):
    """The `Idempotency-Key` is empty, too long, or not of visible ASCII characters."""

    code: ClassVar[str] = "idempotency_key_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.MALFORMED


class IdempotencyConflictError(PyFlowError):
    """A request with the same `Idempotency-Key` is being answered; try again when it is."""

    code: ClassVar[str] = "idempotency_in_flight"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class IdempotencyMismatchError(PyFlowError):
    """The `Idempotency-Key` was used for a request that said something else."""

    code: ClassVar[str] = "idempotency_mismatch"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class TooManyFailuresError(PyFlowError):
    """Too many attempts to authenticate have failed, with this key, this user name or from this address."""

    code: ClassVar[str] = "too_many_failures"
    category: ClassVar[ErrorCategory] = ErrorCategory.RATE_LIMITED

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        #: Seconds until the next attempt is looked at.
        self.retry_after = retry_after


class MemberNotFoundError(PyFlowError):
    """There is no such member in this tenant."""

    code: ClassVar[str] = "member_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class MemberExistsError(PyFlowError):
    """Somebody with this e-mail address is a member already."""

    code: ClassVar[str] = "member_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class LastOwnerError(PyFlowError):
    """A tenant keeps at least one owner: make somebody else one first."""

    code: ClassVar[str] = "last_owner"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class BeyondOwnRightsError(PyFlowError):
    """Nobody grants what they have not got, nor changes those who have more."""

    code: ClassVar[str] = "beyond_own_rights"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class InvitationNotFoundError(PyFlowError):
    """There is no such invitation in this tenant."""

    code: ClassVar[str] = "invitation_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class InvitationExistsError(PyFlowError):
    """An invitation to this e-mail address is open: revoke it before making another."""

    code: ClassVar[str] = "invitation_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class TenantNotFoundError(PyFlowError):
    """There is no tenant of that slug."""

    code: ClassVar[str] = "tenant_not_found"


class AuditBrokenError(PyFlowError):
    """The record of what was done has lost its end, so nothing can be added to it; the operator has to restore it."""

    code: ClassVar[str] = "audit_broken"
    category: ClassVar[ErrorCategory] = ErrorCategory.DATA_LOSS


class InvitationClosedError(PyFlowError):
    """The invitation was accepted or revoked before, or it has expired."""

    code: ClassVar[str] = "invitation_closed"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class InvitationTokenError(PyFlowError):
    """The token is not one of an open invitation, or the password is not that of the account it is for."""

    code: ClassVar[str] = "invitation_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.FORBIDDEN


class PasswordError(PyFlowError):
    """The password is too easy to guess; the message says what it lacks."""

    code: ClassVar[str] = "password_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class KeyNotFoundError(PyFlowError):
    """There is no such API key in this tenant."""

    code: ClassVar[str] = "api_key_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class KeyNotUsableError(PyFlowError):
    """The API key is revoked, expired or replaced: make a new one instead of rotating it."""

    code: ClassVar[str] = "api_key_not_usable"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class KeyNameTakenError(PyFlowError):
    """Another API key of the tenant has this name, by which approvals and the audit tell keys apart."""

    code: ClassVar[str] = "api_key_name_taken"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class TenantExistsError(PyFlowError):
    """The slug of the tenant is taken."""

    code: ClassVar[str] = "tenant_exists"


class TenantInvalidError(PyFlowError):
    """The slug or the name of the tenant is not one that it may have."""

    code: ClassVar[str] = "tenant_invalid"


class InvalidTokenError(PyFlowError):
    """The access or refresh token is malformed, unknown, used, expired or revoked. Log in again."""

    code: ClassVar[str] = "token_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAUTHENTICATED


class LoginError(PyFlowError):
    """The user name, the password or the tenant is not right; which of them is not told."""

    code: ClassVar[str] = "login_failed"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAUTHENTICATED


class TokensDisabledError(PyFlowError):
    """This installation has no key to sign tokens with: its operator has not set `PYFLOW_JWT_PRIVATE_KEY`."""

    code: ClassVar[str] = "tokens_disabled"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE


class PlanError(PyFlowError):
    """There is no such plan or quota, or its limit is not a whole number."""

    code: ClassVar[str] = "plan_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID


class QuotaExceededError(PyFlowError):
    """A quota of the tenant is used up: `quota` names it, `limit`, `used` and `resets_at` say how far and till when."""

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
    """A quota of the tenant's plan is used up, of which another plan has more; members as of `quota_exceeded`."""

    code: ClassVar[str] = "plan_limit_reached"
    category: ClassVar[ErrorCategory] = ErrorCategory.UPGRADE_NEEDED


class RateLimitedError(PyFlowError):
    """Too many requests within a minute; `Retry-After` tells when the next one is let through."""

    code: ClassVar[str] = "rate_limited"
    category: ClassVar[ErrorCategory] = ErrorCategory.RATE_LIMITED

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        #: Seconds.
        self.retry_after = retry_after


class GrantNotFoundError(PyFlowError):
    """The object is not shared with whom the grant names."""

    code: ClassVar[str] = "grant_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND
