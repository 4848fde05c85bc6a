"""Credentials on requests: ``Authorization: Bearer …``, an API key or a user's access token."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from plumbing.rest.client_address import address_of
from tenants.access import Principal
from tenants.authentication import authenticate_key, authenticate_token
from tenants.errors import InvalidKeyError, InvalidTokenError


class BearerAuthentication(BaseAuthentication):
    """Sets ``request.user`` to a ``Principal``. Credentials are read from the header only: URLs end up in logs."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """The principal, or ``None`` without a bearer credential; ``AuthenticationFailed`` for a bad one."""
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        text = credential.strip()
        try:
            # Three parts with dots between them are a JWT; a key has no dot.
            if text.count(".") == 2:
                return authenticate_token(text=text), None
            return authenticate_key(text=text, address=address_of(request)), None
        except (InvalidKeyError, InvalidTokenError) as error:
            raise AuthenticationFailed(str(error)) from None

    def authenticate_header(self, request: Request) -> str:
        """``WWW-Authenticate`` of a 401 (RFC 6750)."""
        return 'Bearer realm="pyflow"'


def tenant_of(request: Request) -> Principal:
    """The principal of an authenticated request; views hand its ``tenant_id`` to services and queries."""
    principal = request.user
    assert isinstance(principal, Principal)  # noqa: S101 - IsAuthenticated is the default permission
    return principal
