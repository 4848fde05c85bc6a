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
