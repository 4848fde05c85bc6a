"""Sessions of users over HTTP: tokens, and the keys that they are signed with."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.client_address import address_of
from plumbing.rest.serializers import Strict, validated
from plumbing.rest.views import StrictView
from tenants import tokens
from tenants.sessions import Pair, log_in, log_out, refresh

#: RFC 6749, 5.1.
NOT_STORED = {"Cache-Control": "no-store"}
PROBLEM = "application/problem+json"


class Login(Strict):
    """Credentials of a user, and the tenant."""

    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=1024, trim_whitespace=False, write_only=True)
    tenant = serializers.SlugField(max_length=63, help_text="The tenant's slug.")


class Refresh(Strict):
    """The latest refresh token."""

    refresh_token = serializers.CharField(max_length=200, trim_whitespace=False)


class PairShape(serializers.Serializer[Any]):
    """An access token, and the refresh token for the next pair (RFC 6749, 5.1)."""

    access_token = serializers.CharField()
    token_type = serializers.ChoiceField(["Bearer"])
    expires_in = serializers.IntegerField(help_text="Lifetime of the access token in seconds.")
    refresh_token = serializers.CharField(help_text="Can be used once.")
    refresh_expires_in = serializers.IntegerField(help_text="Lifetime of the refresh token in seconds.")


class JwksShape(serializers.Serializer[Any]):
    """A JWK set (RFC 7517)."""

    keys = serializers.ListField(child=serializers.DictField(child=serializers.CharField()))


def _problem(text: str) -> OpenApiResponse:
    return OpenApiResponse(OpenApiTypes.OBJECT, description=text)


REFUSED = {
    (401, PROBLEM): _problem("Refused. The response does not say which value is wrong."),
    (429, PROBLEM): _problem("Too many failed attempts; retry after `Retry-After` seconds."),
    (503, PROBLEM): _problem("This installation issues no tokens."),
}


class _OpenView(StrictView):
    authentication_classes = ()
    permission_classes = ()

    def origin(self, request: Request) -> dict[str, str]:
        """Return the origin of a request, for the audit and for counting failures."""
        return {"address": address_of(request), "request_id": getattr(request, "request_id", "")}


class TokenView(_OpenView):
    """New sessions."""

    @extend_schema(
        operation_id="auth_token",
        summary="Log in",
        request=Login,
        responses={200: PairShape, **REFUSED},
        examples=[
            OpenApiExample(
                "A member", value={"username": "ada", "password": "a long secret", "tenant": "acme"}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Exchange a user name and password for a pair of tokens for one tenant."""
        return _show(log_in(**validated(Login, request.data), **self.origin(request)))


class RefreshView(_OpenView):
    """Sessions that go on."""

    @extend_schema(
        operation_id="auth_refresh", summary="Renew a session", request=Refresh, responses={200: PairShape, **REFUSED}
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair of tokens. Using a refresh token twice ends the session."""
        token = validated(Refresh, request.data)["refresh_token"]
        return _show(refresh(token=token, **self.origin(request)))


class RevokeView(_OpenView):
    """Sessions that end."""

    @extend_schema(
        operation_id="auth_revoke",
        summary="Log out",
        request=Refresh,
        responses={204: OpenApiResponse(description="The session has ended, and its access tokens with it.")},
    )
    def post(self, request: Request) -> Response:
        """End a session by its refresh token. An unknown token gets the same response (RFC 7009)."""
        log_out(token=validated(Refresh, request.data)["refresh_token"], **self.origin(request))
        return Response(status=204, headers=NOT_STORED)


class JwksView(_OpenView):
    """The keys of access tokens."""

    @extend_schema(operation_id="auth_jwks", summary="Read the public keys of access tokens", responses=JwksShape)
    def get(self, request: Request) -> Response:
        """The current signing key, and older keys whose tokens are still accepted."""
        return Response(tokens.jwks(), headers={"Cache-Control": "public, max-age=300"})


def _show(pair: Pair) -> Response:
    body = {
        "access_token": pair.access,
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": pair.refresh,
        "refresh_expires_in": tokens.REFRESH_SECONDS,
    }
    return Response(body, headers=NOT_STORED)
