"""API keys over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.problems import problem
from plumbing.rest.serializers import Strict, validated
from tenants.access import Permission, Role
from tenants.api.me import SCOPES
from tenants.api.members import ROLES, UserShape, show_user
from tenants.api.views import TenantView
from tenants.api_keys import DEFAULT_GRACE, MAX_GRACE, find_key, issue_key, keys_of, revoke_key, rotate_key
from tenants.models import ApiKey

LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201], description="URL of the new object."
)


class KeyShape(serializers.Serializer[Any]):
    """A key as the API shows it."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="Start of the key, without its environment part.")
    last4 = serializers.CharField()
    role = serializers.ChoiceField(ROLES)
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), allow_null=True)
    usable = serializers.BooleanField(help_text="True if the key is neither revoked nor expired.")
    created_by = UserShape(allow_null=True, help_text="The key is revoked when this membership ends.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="Time of last use, with a precision of one minute."
    )
    replaced_by = serializers.UUIDField(allow_null=True)


class NewKeyShape(KeyShape):
    """A new API key with its secret."""

    key = serializers.CharField(
        allow_null=True, help_text="Shown only once; null in the response to a repeated request."
    )


class KeyPageShape(serializers.Serializer[Any]):
    """A page of API keys."""

    results = KeyShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class CreateKey(Strict):
    """Name, role and scopes of a new key."""

    name = serializers.CharField(max_length=200)
    role = serializers.ChoiceField(ROLES)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(SCOPES),
        required=False,
        allow_null=True,
        default=None,
        allow_empty=False,
        max_length=len(SCOPES),
        help_text="Restrict the role to these scopes. Default: everything that the role allows.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)

    def validate_expires_at(self, value: Any) -> Any:
        """A key that never works is a mistake."""
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("This time is in the past.")
        return value


class RotateKey(Strict):
    """Grace period of the replaced key."""

    grace = serializers.IntegerField(
        required=False,
        default=DEFAULT_GRACE,
        min_value=0,
        max_value=MAX_GRACE,
        help_text="Seconds for which the old key stays valid.",
    )


class KeysView(TenantView):
    """The keys of the tenant."""

    permissions: ClassVar = {"GET": Permission.KEYS_READ, "POST": Permission.KEYS_WRITE}
    reads_query = frozenset({"GET"})
    shown_once = ("key",)

    @extend_schema(
        operation_id="api_keys_list",
        summary="List API keys",
        tags=["api-keys"],
        parameters=[PageQuery],
        responses=KeyPageShape,
    )
    def get(self, request: Request) -> Response:
        """List API keys, newest first, including revoked and expired ones."""
        query = validated(PageQuery, request.query_params)
        rows = keys_of(self.principal.tenant_id)
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("-id",))
        return page.response(show_key)

    @extend_schema(
        operation_id="api_keys_create",
        summary="Create an API key",
        tags=["api-keys"],
        parameters=[LOCATION],
        request=CreateKey,
        responses={201: NewKeyShape, **problem(409, "Another API key of the tenant has this name (case is ignored)")},
    )
    def post(self, request: Request) -> Response:
        """The response contains the key; it is shown only once. A key cannot have more permissions than its creator.

        Names of active keys are unique, because approvals refer to keys by name.
        """
        body = validated(CreateKey, request.data)
        scopes = body["scopes"]
        key, text = issue_key(
            by=self.actor,
            principal=self.principal,
            name=body["name"],
            role=Role(body["role"]),
            scopes=None if scopes is None else {Permission(scope) for scope in scopes},
            expires_at=body["expires_at"],
        )
        return _made(request, key, text)


class KeyView(TenantView):
    """One key."""

    permissions: ClassVar = {"GET": Permission.KEYS_READ, "DELETE": Permission.KEYS_WRITE}

    @extend_schema(operation_id="api_keys_read", summary="Read an API key", tags=["api-keys"], responses=KeyShape)
    def get(self, request: Request, key_id: UUID) -> Response:
        """The key without its secret."""
        return Response(show_key(find_key(tenant_id=self.principal.tenant_id, key_id=key_id)))

    @extend_schema(
        operation_id="api_keys_revoke",
        summary="Revoke an API key",
        tags=["api-keys"],
        responses={204: OpenApiResponse(description="Revoked; all servers refuse the key within 5 seconds")},
    )
    def delete(self, request: Request, key_id: UUID) -> Response:
        """Idempotent: revoking a revoked key changes nothing. A key can revoke itself."""
        revoke_key(by=self.actor, key_id=key_id)
        return Response(status=204)


class RotateKeyView(TenantView):
    """Replacing a key."""

    permissions: ClassVar = {"POST": Permission.KEYS_WRITE}
    shown_once = ("key",)

    @extend_schema(
        operation_id="api_keys_rotate",
        summary="Replace an API key",
        tags=["api-keys"],
        parameters=[LOCATION],
        request=RotateKey,
        responses={201: NewKeyShape, **problem(409, "The key is revoked, expired or already replaced")},
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        """Create a new key with the same name and permissions. The old key stays valid for `grace` seconds."""
        grace = validated(RotateKey, request.data)["grace"]
        key, text = rotate_key(by=self.actor, principal=self.principal, key_id=key_id, grace=grace)
        return _made(request, key, text)


def show_key(key: ApiKey) -> dict[str, Any]:
    """``KeyShape`` of a row."""
    return {
        "id": str(key.pk),
        "name": key.name,
        "prefix": key.key_id,
        "last4": key.last4,
        "role": key.role,
        "scopes": key.scopes,
        "usable": key.usable,
        "created_by": show_user(key.created_by),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaced_by": None if key.replaced_by_id is None else str(key.replaced_by_id),
    }


def _made(request: Request, key: ApiKey, text: str) -> Response:
    location = reverse("api-key", kwargs={"key_id": key.pk}, request=request)
    return Response(show_key(key) | {"key": text}, status=201, headers={"Location": location})
