"""The identity of the credential of a request, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.access import Permission
from tenants.api.members import LAST_OWNER, ROLES, UserShape, show_user
from tenants.api.tenant import TenantBriefShape, show_brief
from tenants.api.views import TenantView
from tenants.errors import ForbiddenError
from tenants.members import leave_tenant
from tenants.models import Tenant

SCOPES = [permission.value for permission in Permission]


class MeShape(serializers.Serializer[Any]):
    """The caller and its permissions."""

    kind = serializers.ChoiceField(["key", "user"])
    id = serializers.CharField(help_text="Id of the API key or the user.")
    name = serializers.CharField()
    role = serializers.ChoiceField(ROLES)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(SCOPES),
        allow_null=True,
        help_text="Scopes that restrict the role; null if there are none.",
    )
    permissions = serializers.ListField(child=serializers.ChoiceField(SCOPES), help_text="Effective permissions.")
    user = UserShape(
        allow_null=True, help_text="The member that the credential belongs to; null for a key of the tenant itself."
    )
    tenant = TenantBriefShape()


class MeView(TenantView):
    """The caller."""

    permissions: ClassVar = {"GET": None, "DELETE": None}

    @extend_schema(operation_id="me_read", summary="Read the caller's identity", tags=["me"], responses=MeShape)
    def get(self, request: Request) -> Response:
        """Works with every valid credential."""
        principal = self.principal
        user = None if principal.user_id is None else User.objects.filter(pk=principal.user_id).first()
        return Response(
            {
                "kind": principal.kind,
                "id": principal.id,
                "name": principal.name,
                "role": principal.role.value,
                "scopes": None if principal.scopes is None else sorted(principal.scopes),
                "permissions": sorted(principal.permissions),
                "user": show_user(user),
                "tenant": show_brief(Tenant.objects.get(pk=principal.tenant_id)),
            }
        )

    @extend_schema(
        operation_id="me_leave",
        summary="Leave the tenant",
        tags=["me"],
        responses={204: OpenApiResponse(description="Left"), **LAST_OWNER},
    )
    def delete(self, request: Request) -> Response:
        """End the caller's own membership. For users only, not for API keys."""
        if self.principal.kind != "user" or self.principal.user_id is None:
            raise ForbiddenError("A key cannot leave a tenant: sign in as a user, or revoke the key.")
        leave_tenant(by=self.actor, user_id=self.principal.user_id)
        return Response(status=204)
