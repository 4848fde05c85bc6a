"""Secrets over HTTP: written, listed, replaced, destroyed, and never shown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from plumbing.rest.conditional import check_match, is_known
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.serializers import validated
from secrets_vault.api.serializers import (
    CreateSecret,
    ReplaceSecret,
    RotateSecret,
    SecretListShape,
    SecretShape,
    SecretsQuery,
    SecretVersionListShape,
    show,
    show_version,
    tag,
)
from secrets_vault.models import Secret, SecretVersion
from secrets_vault.services import (
    create_secret,
    delete_secret,
    destroy_version,
    find_secret,
    replace_secret,
    rotate_secret,
)
from tenants.access import Permission
from tenants.api.views import TenantView

PROBLEM = "application/problem+json"
NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The secret's name.")
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier response: 412 if the secret has changed since then.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier response: 304 if the secret has not changed.",
)
ETAG = OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="For `If-Match`.")
FORBIDDEN = {(403, PROBLEM): OpenApiResponse(OpenApiTypes.OBJECT, description="The role or scopes do not allow this")}
STALE = {(412, PROBLEM): OpenApiResponse(OpenApiTypes.OBJECT, description="The secret has changed since it was read")}
NO_VAULT = {(503, PROBLEM): OpenApiResponse(OpenApiTypes.OBJECT, description="The server has no usable master key")}
EXAMPLE = OpenApiExample(
    "A token", value={"name": "SHOP_TOKEN", "value": "what the shop gave us", "description": "For orders"},
    request_only=True,
)  # fmt: skip


class SecretsView(TenantView):
    """The secrets of the tenant."""

    permissions: ClassVar[Mapping[str, Permission]] = {"GET": Permission.SECRETS_READ, "POST": Permission.SECRETS_WRITE}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="secrets_list",
        summary="List secrets",
        parameters=[SecretsQuery],
        responses={200: SecretListShape, **FORBIDDEN},
    )
    def get(self, request: Request) -> Response:
        """List secrets with their descriptions and versions, without values."""
        query = validated(SecretsQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        rows = Secret.objects.for_tenant(tenant_id).filter(name__icontains=query["search"])
        return paginate(request, rows, query, tenant_id=tenant_id, order=("name",)).response(show)

    @extend_schema(
        operation_id="secrets_create",
        summary="Store a new secret",
        request=CreateSecret,
        examples=[EXAMPLE],
        parameters=[ETAG],
        responses={
            201: SecretShape,
            (409, PROBLEM): OpenApiResponse(OpenApiTypes.OBJECT, description="The name is taken"),
            **FORBIDDEN,
            **NO_VAULT,
        },
    )
    def post(self, request: Request) -> Response:
        """The value is stored encrypted and never shown again."""
        secret = create_secret(**validated(CreateSecret, request.data), by=self.actor)
        location = reverse("secret", kwargs={"name": secret.name}, request=request)
        return Response(show(secret), status=201, headers={"Location": location, "ETag": tag(secret)})


class SecretView(TenantView):
    """One secret."""

    permissions: ClassVar[Mapping[str, Permission]] = {
        "GET": Permission.SECRETS_READ,
        "PUT": Permission.SECRETS_WRITE,
        "DELETE": Permission.SECRETS_WRITE,
    }

    @extend_schema(
        operation_id="secrets_read",
        summary="Read a secret, without its value",
        parameters=[NAME, IF_NONE_MATCH, ETAG],
        responses={200: SecretShape, 304: OpenApiResponse(description="Nothing changed"), **FORBIDDEN},
    )
    def get(self, request: Request, name: str) -> Response:
        """Read the metadata of a secret, without its value."""
        secret = find_secret(tenant_id=self.principal.tenant_id, name=name)
        headers = {"ETag": tag(secret)}
        if is_known(request, tag(secret)):
            return Response(status=304, headers=headers)
        return Response(show(secret), headers=headers)

    @extend_schema(
        operation_id="secrets_replace",
        summary="Replace the value of a secret",
        parameters=[NAME, IF_MATCH, ETAG],
        request=ReplaceSecret,
        responses={200: SecretShape, **FORBIDDEN, **STALE, **NO_VAULT},
    )
    def put(self, request: Request, name: str) -> Response:
        """Nodes that start from now on receive the new value. The old one stays stored, encrypted, until destroyed."""
        change = validated(ReplaceSecret, request.data)
        secret = replace_secret(secret=self._matched(request, name), **change, by=self.actor)
        return Response(show(secret), headers={"ETag": tag(secret)})

    @extend_schema(
        operation_id="secrets_delete",
        summary="Delete a secret",
        parameters=[NAME, IF_MATCH],
        responses={204: None, **FORBIDDEN, **STALE},
    )
    def delete(self, request: Request, name: str) -> Response:
        """Delete a secret with all its versions. Nodes that need it from now on fail."""
        delete_secret(secret=self._matched(request, name), by=self.actor)
        return Response(status=204)

    def _matched(self, request: Request, name: str) -> Secret:
        secret = find_secret(tenant_id=self.principal.tenant_id, name=name, lock=True)
        check_match(request, tag(secret), required=False)
        return secret


class RotateView(TenantView):
    """The end of all earlier values of one secret."""

    permissions: ClassVar[Mapping[str, Permission]] = {"POST": Permission.SECRETS_WRITE}

    @extend_schema(
        operation_id="secrets_rotate",
        summary="Replace the value of a secret and destroy the earlier ones",
        parameters=[NAME, IF_MATCH, ETAG],
        request=RotateSecret,
        responses={200: SecretShape, **FORBIDDEN, **STALE, **NO_VAULT},
    )
    def post(self, request: Request, name: str) -> Response:
        """Use it when a value has leaked or was withdrawn: the earlier values can never be decrypted again."""
        change = validated(RotateSecret, request.data)
        secret = find_secret(tenant_id=self.principal.tenant_id, name=name, lock=True)
        check_match(request, tag(secret), required=False)
        secret = rotate_secret(secret=secret, **change, by=self.actor)
        return Response(show(secret), headers={"ETag": tag(secret)})


class VersionsView(TenantView):
    """The versions of one secret."""

    permissions: ClassVar[Mapping[str, Permission]] = {"GET": Permission.SECRETS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="secret_versions_list",
        summary="List the versions of a secret",
        parameters=[NAME, PageQuery],
        responses={200: SecretVersionListShape, **FORBIDDEN},
    )
    def get(self, request: Request, name: str) -> Response:
        """List versions, newest first, including destroyed ones."""
        query = validated(PageQuery, request.query_params)
        tenant_id = self.principal.tenant_id
        secret = find_secret(tenant_id=tenant_id, name=name)
        rows = SecretVersion.objects.for_tenant(tenant_id).filter(secret=secret).defer("nonce", "ciphertext")
        page = paginate(request, rows, query, tenant_id=tenant_id, order=("-number",))
        return page.response(partial(show_version, secret=secret))


class VersionView(TenantView):
    """One version of one secret."""

    permissions: ClassVar[Mapping[str, Permission]] = {"DELETE": Permission.SECRETS_WRITE}

    @extend_schema(
        operation_id="secret_versions_destroy",
        summary="Destroy an earlier value of a secret",
        parameters=[NAME, OpenApiParameter("number", int, OpenApiParameter.PATH, description="The version's number.")],
        responses={
            204: None,
            (409, PROBLEM): OpenApiResponse(OpenApiTypes.OBJECT, description="It is the current version"),
            **FORBIDDEN,
        },
    )
    def delete(self, request: Request, name: str, number: int) -> Response:
        """Remove the ciphertext permanently; the version stays in the list as destroyed."""
        secret = find_secret(tenant_id=self.principal.tenant_id, name=name, lock=True)
        destroy_version(secret=secret, number=number, by=self.actor)
        return Response(status=204)
