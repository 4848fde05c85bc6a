"""API keys on requests: ``Authorization: Bearer pyf_…``."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tenants.access import Principal
from tenants.authentication import authenticate_key
from tenants.errors import InvalidKeyError


class ApiKeyAuthentication(BaseAuthentication):
    """Sets ``request.user`` to a ``Principal``. Keys are read from the header only: URLs end up in logs."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """The principal, or ``None`` without a bearer credential; ``AuthenticationFailed`` for a bad one."""
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            address = request.META.get("REMOTE_ADDR", "")
            return authenticate_key(text=credential.strip(), address=address), None
        except InvalidKeyError as error:
            raise AuthenticationFailed(str(error)) from None

    def authenticate_header(self, request: Request) -> str:
        """``WWW-Authenticate`` of a 401 (RFC 6750)."""
        return 'Bearer realm="pyflow"'


def tenant_of(request: Request) -> Principal:
    """The principal of an authenticated request; views hand its ``tenant_id`` to services and queries."""
    principal = request.user
    assert isinstance(principal, Principal)  # noqa: S101 - IsAuthenticated is the default permission
    return principal
