"""Errors of webhook endpoints and deliveries."""

from __future__ import annotations

from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class WebhookNotFoundError(PyFlowError):
    """The tenant has no webhook endpoint with this id."""

    code: ClassVar[str] = "webhook_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class DeliveryNotFoundError(PyFlowError):
    """The tenant has no delivery with this id: there was none, or it is kept no longer."""

    code: ClassVar[str] = "delivery_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class WebhookUrlError(PyFlowError):
    """The URL is not one that webhooks are sent to: not HTTP, private, or with credentials in it."""

    code: ClassVar[str] = "webhook_url_refused"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID

    def problem_members(self) -> dict[str, Any]:
        """Return ``{errors}``, which points to the URL."""
        return {"errors": [{"pointer": "/url", "code": self.code, "detail": str(self)}]}


class WebhookInactiveError(PyFlowError):
    """The endpoint is paused or disabled, so nothing is sent to it. Resume it first."""

    code: ClassVar[str] = "webhook_inactive"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class RotationOverlapError(PyFlowError):
    """The secret was rotated within the last 24 hours: two sign already. `force: true` drops the older one."""

    code: ClassVar[str] = "webhook_rotation_overlap"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT
