"""The tenant of the credential, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import ETAG, IF_MATCH, check_match, etag
from plumbing.rest.problems import MISSED, UNCONDITIONAL
from plumbing.rest.serializers import Strict, validated
from tenants.access import Permission
from tenants.api.views import TenantView
from tenants.models import Tenant
from tenants.services import rename_tenant


class TenantShape(serializers.Serializer[Any]):
    """A tenant as the API shows it."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    plan = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class TenantBriefShape(serializers.Serializer[Any]):
    """A short description of a tenant."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()


class RenameTenant(Strict):
    """The fields of a tenant that can be changed."""

    name = serializers.CharField(max_length=200)


class TenantDetailView(TenantView):
    """The tenant that the credential belongs to."""

    permissions: ClassVar = {"GET": Permission.TENANT_READ, "PATCH": Permission.TENANT_WRITE}

    @extend_schema(
        operation_id="tenant_read", summary="Read the tenant", tags=["tenant"], parameters=[ETAG], responses=TenantShape
    )
    def get(self, request: Request) -> Response:
        """The tenant of the credential."""
        return _answer(Tenant.objects.get(pk=self.principal.tenant_id))

    @extend_schema(
        operation_id="tenant_update",
        summary="Rename the tenant",
        tags=["tenant"],
        parameters=[ETAG, IF_MATCH],
        request=RenameTenant,
        responses={200: TenantShape, **MISSED, **UNCONDITIONAL},
    )
    def patch(self, request: Request) -> Response:
        """Change the tenant's name. The slug cannot be changed."""
        name = validated(RenameTenant, request.data)["name"]
        tenant = Tenant.objects.select_for_update(no_key=True).get(pk=self.principal.tenant_id)
        check_match(request, _tag(tenant), required=True)
        return _answer(rename_tenant(by=self.actor, tenant=tenant, name=name))


def show_brief(tenant: Tenant) -> dict[str, Any]:
    """``TenantBriefShape`` of a row."""
    return {"id": str(tenant.pk), "slug": tenant.slug, "name": tenant.name}


def _answer(tenant: Tenant) -> Response:
    more = {"plan": tenant.plan, "created_at": tenant.created_at, "updated_at": tenant.updated_at}
    return Response(show_brief(tenant) | more, headers={"ETag": _tag(tenant)})


def _tag(tenant: Tenant) -> str:
    return etag("tenant", tenant.pk, tenant.name, tenant.plan, tenant.updated_at.isoformat())
