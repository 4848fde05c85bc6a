"""With whom a workflow is shared, over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.serializers import Strict, validated
from tenants.access import Level, Permission, Role
from tenants.api.views import TenantView
from tenants.grants import Grant, grants_of, share, unshare
from workflows.services import find_workflow

NAME = OpenApiParameter("name", str, OpenApiParameter.PATH, description="The workflow's name.")
PROBLEM = "application/problem+json"


class ShareWorkflow(Strict):
    """The grantee, a member or a role, and the level."""

    member = serializers.UUIDField(required=False)
    role = serializers.ChoiceField([role.value for role in Role], required=False)
    level = serializers.ChoiceField(
        [level.value for level in Level], help_text="`run` includes `read`; `write` includes `run`."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of the two."""
        if ("member" in attrs) == ("role" in attrs):
            raise serializers.ValidationError("Name either a `member` or a `role`.")
        return attrs


class GrantShape(serializers.Serializer[Any]):
    """Permission of a member or a role on a workflow."""

    id = serializers.CharField(help_text="`member:<id>` or `role:<role>`.")
    kind = serializers.ChoiceField(["member", "role"])
    name = serializers.CharField(help_text="The member's user name, or the role.")
    level = serializers.ChoiceField([level.value for level in Level])


class GrantListShape(serializers.Serializer[Any]):
    """The grants of a workflow."""

    results = GrantShape(many=True)


class GrantsView(TenantView):
    """With whom one workflow is shared."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_SHARE, "POST": Permission.WORKFLOWS_SHARE}

    @extend_schema(
        operation_id="grants_list", summary="List a workflow's grants", parameters=[NAME], responses=GrantListShape
    )
    def get(self, request: Request, name: str) -> Response:
        """List the grants of a workflow: roles first, then members by name."""
        workflow = find_workflow(tenant_id=self.principal.tenant_id, name=name)
        return Response({"results": [_show(grant) for grant in grants_of(workflow)]})

    @extend_schema(
        operation_id="grants_create",
        summary="Share a workflow",
        parameters=[NAME],
        request=ShareWorkflow,
        responses={201: GrantShape},
        examples=[OpenApiExample("Viewers may run it", value={"role": "viewer", "level": "run"}, request_only=True)],
    )
    def post(self, request: Request, name: str) -> Response:
        """Share the workflow with a member or a role. Repeating it with another level changes the level."""
        body = validated(ShareWorkflow, request.data)
        workflow = find_workflow(tenant_id=self.principal.tenant_id, name=name)
        kind = "member" if "member" in body else "role"
        grant = share(
            by=self.actor,
            principal=self.principal,
            obj=workflow,
            target=f"workflow:{workflow.name}",
            level=Level(body["level"]),
            kind=kind,
            grantee=str(body[kind]),
        )
        return Response(_show(grant), status=201)


class GrantView(TenantView):
    """One grant."""

    permissions: ClassVar = {"DELETE": Permission.WORKFLOWS_SHARE}

    @extend_schema(
        operation_id="grants_delete",
        summary="Stop sharing a workflow",
        parameters=[NAME, OpenApiParameter("grant_id", str, OpenApiParameter.PATH, description="The grant's `id`.")],
        responses={
            204: OpenApiResponse(description="The grant is removed."),
            (404, PROBLEM): OpenApiResponse(
                OpenApiTypes.OBJECT, description="The workflow or the grant does not exist."
            ),
        },
    )
    def delete(self, request: Request, name: str, grant_id: str) -> Response:
        """The grantee's role applies again immediately."""
        workflow = find_workflow(tenant_id=self.principal.tenant_id, name=name)
        unshare(by=self.actor, obj=workflow, target=f"workflow:{workflow.name}", grant_id=grant_id)
        return Response(status=204)


def _show(grant: Grant) -> dict[str, Any]:
    return {"id": grant.id, "kind": grant.kind, "name": grant.name, "level": grant.level.value}
