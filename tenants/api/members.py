"""Members over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db.models import Q
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.rest.conditional import ETAG, IF_MATCH, IF_MATCH_OPTIONAL, check_match, etag
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.problems import MISSED, UNCONDITIONAL, problem
from plumbing.rest.serializers import Strict, validated
from tenants.access import Permission, Role
from tenants.api.views import TenantView
from tenants.members import change_role, find_member, lock_member, members_of, remove_member
from tenants.models import Membership

ROLES = [role.value for role in Role]
LAST_OWNER = problem(409, "The member is the last owner")


class UserShape(serializers.Serializer[Any]):
    """A user."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField(allow_blank=True)


class MemberShape(serializers.Serializer[Any]):
    """A member as the API shows it."""

    id = serializers.UUIDField()
    user = UserShape()
    role = serializers.ChoiceField(ROLES)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class MemberPageShape(serializers.Serializer[Any]):
    """A page of members."""

    results = MemberShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class MemberQuery(PageQuery):
    """Query parameters of the list of members."""

    role = serializers.ChoiceField(ROLES, required=False)
    search = serializers.CharField(
        required=False, max_length=150, help_text="Part of a user name or an e-mail address."
    )


class ChangeRole(Strict):
    """The fields of a member that can be changed."""

    role = serializers.ChoiceField(ROLES)


class MembersView(TenantView):
    """The members of the tenant."""

    permissions: ClassVar = {"GET": Permission.MEMBERS_READ}
    reads_query = frozenset({"GET"})

    @extend_schema(
        operation_id="members_list",
        summary="List members",
        tags=["members"],
        parameters=[MemberQuery],
        responses=MemberPageShape,
    )
    def get(self, request: Request) -> Response:
        """List members, in the order in which they joined."""
        query = validated(MemberQuery, request.query_params)
        rows = members_of(self.principal.tenant_id)
        if "role" in query:
            rows = rows.filter(role=query["role"])
        if "search" in query:
            part = query["search"]
            rows = rows.filter(Q(user__username__icontains=part) | Q(user__email__icontains=part))
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("id",))
        return page.response(show_member)


class MemberView(TenantView):
    """One member."""

    permissions: ClassVar = {
        "GET": Permission.MEMBERS_READ,
        "PATCH": Permission.MEMBERS_WRITE,
        "DELETE": Permission.MEMBERS_WRITE,
    }

    @extend_schema(
        operation_id="members_read",
        summary="Read a member",
        tags=["members"],
        parameters=[ETAG],
        responses=MemberShape,
    )
    def get(self, request: Request, member_id: UUID) -> Response:
        """The member with its user."""
        return _answer(find_member(tenant_id=self.principal.tenant_id, member_id=member_id))

    @extend_schema(
        operation_id="members_update",
        summary="Change a member's role",
        tags=["members"],
        parameters=[ETAG, IF_MATCH],
        request=ChangeRole,
        responses={200: MemberShape, **LAST_OWNER, **MISSED, **UNCONDITIONAL},
    )
    def patch(self, request: Request, member_id: UUID) -> Response:
        """A member cannot assign a role above their own, or change a member with such a role."""
        role = Role(validated(ChangeRole, request.data)["role"])
        member = lock_member(tenant_id=self.principal.tenant_id, member_id=member_id)
        check_match(request, _tag(member), required=True)
        return _answer(change_role(by=self.actor, principal=self.principal, member=member, role=role))

    @extend_schema(
        operation_id="members_remove",
        summary="Remove a member",
        tags=["members"],
        parameters=[IF_MATCH_OPTIONAL],
        responses={204: OpenApiResponse(description="Removed"), **LAST_OWNER, **MISSED},
    )
    def delete(self, request: Request, member_id: UUID) -> Response:
        """API keys that the member created are revoked with the membership."""
        member = lock_member(tenant_id=self.principal.tenant_id, member_id=member_id)
        check_match(request, _tag(member), required=False)
        remove_member(by=self.actor, principal=self.principal, member=member)
        return Response(status=204)


def show_user(user: AbstractUser | None) -> dict[str, Any] | None:
    """``UserShape`` of a row."""
    return None if user is None else {"id": user.pk, "username": user.get_username(), "email": user.email}


def show_member(member: Membership) -> dict[str, Any]:
    """``MemberShape`` of a row."""
    return {
        "id": str(member.pk),
        "user": show_user(member.user),
        "role": member.role,
        "created_at": member.created_at,
        "updated_at": member.updated_at,
    }


def _answer(member: Membership) -> Response:
    return Response(show_member(member), headers={"ETag": _tag(member)})


def _tag(member: Membership) -> str:
    return etag("member", member.pk, member.role, member.updated_at.isoformat())
