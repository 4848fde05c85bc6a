"""Invitations over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from plumbing.database.transactions import retried
from plumbing.rest.client_address import address_of
from plumbing.rest.pagination import PageQuery, paginate
from plumbing.rest.problems import problem
from plumbing.rest.serializers import Strict, validated
from plumbing.rest.views import StrictView
from tenants.access import Permission, Principal, Role
from tenants.api.idempotency import answer_once, in_flight
from tenants.api.members import ROLES, MemberShape, show_member, show_user
from tenants.api.tenant import TenantBriefShape, show_brief
from tenants.api.views import TenantView
from tenants.invitations import (
    DEFAULT_LIFETIME,
    EMAIL_LENGTH,
    MAX_LIFETIME,
    accept_invitation,
    find_invitation,
    invitations_of,
    invite,
    revoke_invitation,
    tenant_of_token,
)
from tenants.models import Invitation, Tenant
from tenants.scoping import tenant_scope

STATES = ["open", "accepted", "revoked", "expired"]
LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201], description="URL of the new object."
)


class InviterShape(serializers.Serializer[Any]):
    """The member that created the invitation."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField(allow_blank=True)


class InvitationShape(serializers.Serializer[Any]):
    """An invitation as the API shows it."""

    id = serializers.UUIDField()
    email = serializers.CharField()
    role = serializers.ChoiceField(ROLES)
    state = serializers.ChoiceField(STATES)
    invited_by = InviterShape(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    accepted_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewInvitationShape(InvitationShape):
    """A new invitation with its token."""

    token = serializers.CharField(
        allow_null=True, help_text="Shown only once; null in the response to a repeated request."
    )


class InvitationPageShape(serializers.Serializer[Any]):
    """A page of invitations."""

    results = InvitationShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class InvitationQuery(PageQuery):
    """Query parameters of the list of invitations."""

    email = serializers.CharField(required=False, max_length=EMAIL_LENGTH)


class CreateInvitation(Strict):
    """The address and role of an invitation."""

    email = serializers.EmailField(max_length=EMAIL_LENGTH)
    role = serializers.ChoiceField(ROLES)
    expires_in = serializers.IntegerField(
        required=False, default=DEFAULT_LIFETIME, min_value=60, max_value=MAX_LIFETIME, help_text="Seconds."
    )


class AcceptInvitation(Strict):
    """The invitation token, and the caller's proof of identity."""

    token = serializers.CharField(max_length=200)
    password = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=128,
        trim_whitespace=False,
        help_text="Password of the account, or of the new account. Not needed with a user's access token.",
    )


class AcceptedShape(serializers.Serializer[Any]):
    """The accepted invitation."""

    tenant = TenantBriefShape()
    member = MemberShape()


class InvitationsView(TenantView):
    """The invitations of the tenant."""

    permissions: ClassVar = {"GET": Permission.MEMBERS_READ, "POST": Permission.MEMBERS_WRITE}
    reads_query = frozenset({"GET"})
    shown_once = ("token",)

    @extend_schema(
        operation_id="invitations_list",
        summary="List invitations",
        tags=["invitations"],
        parameters=[InvitationQuery],
        responses=InvitationPageShape,
    )
    def get(self, request: Request) -> Response:
        """List invitations, newest first, including accepted, revoked and expired ones."""
        query = validated(InvitationQuery, request.query_params)
        rows = invitations_of(self.principal.tenant_id)
        if "email" in query:
            rows = rows.filter(email=query["email"].lower())
        page = paginate(request, rows, query, tenant_id=self.principal.tenant_id, order=("-id",))
        return page.response(show_invitation)

    @extend_schema(
        operation_id="invitations_create",
        summary="Create an invitation",
        tags=["invitations"],
        parameters=[LOCATION],
        request=CreateInvitation,
        responses={
            201: NewInvitationShape,
            **problem(409, "The address belongs to a member or has an open invitation"),
        },
    )
    def post(self, request: Request) -> Response:
        """The response contains the token; it is shown only once. Pass it to the invited person: no mail is sent."""
        body = validated(CreateInvitation, request.data)
        invitation, token = invite(
            by=self.actor,
            principal=self.principal,
            email=body["email"],
            role=Role(body["role"]),
            lifetime=body["expires_in"],
        )
        location = reverse("invitation", kwargs={"invitation_id": invitation.pk}, request=request)
        return Response(show_invitation(invitation) | {"token": token}, status=201, headers={"Location": location})


class InvitationView(TenantView):
    """One invitation."""

    permissions: ClassVar = {"GET": Permission.MEMBERS_READ, "DELETE": Permission.MEMBERS_WRITE}

    @extend_schema(
        operation_id="invitations_read",
        summary="Read an invitation",
        tags=["invitations"],
        responses=InvitationShape,
    )
    def get(self, request: Request, invitation_id: UUID) -> Response:
        """The invitation without its token."""
        found = find_invitation(tenant_id=self.principal.tenant_id, invitation_id=invitation_id)
        return Response(show_invitation(found))

    @extend_schema(
        operation_id="invitations_revoke",
        summary="Revoke an invitation",
        tags=["invitations"],
        responses={204: OpenApiResponse(description="Revoked"), **problem(409, "It was accepted")},
    )
    def delete(self, request: Request, invitation_id: UUID) -> Response:
        """The token can no longer be used. Idempotent: revoking it again changes nothing."""
        revoke_invitation(by=self.actor, invitation_id=invitation_id)
        return Response(status=204)


class AcceptInvitationView(StrictView):
    """Acceptance of an invitation by the invited person."""

    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="invitations_accept",
        summary="Accept an invitation",
        tags=["invitations"],
        auth=[],
        request=AcceptInvitation,
        parameters=[
            LOCATION,
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="A repeated request takes effect once and gets the same response.",
            ),
        ],
        responses={
            201: AcceptedShape,
            **problem(403, "The token or the password is wrong"),
            **problem(409, "The invitation is closed, or the account is a member already"),
        },
    )
    def post(self, request: Request) -> Response:
        """The token is the only credential needed.

        An account of the invited address is proved by its password, or by sending the user's own access token as
        `Authorization`; without an account one is made, with the password and the address as its user name.
        """
        body = validated(AcceptInvitation, request.data)
        tenant_id, invitation_id = tenant_of_token(token=body["token"])
        caller: object = request.user
        user_id = caller.user_id if isinstance(caller, Principal) and caller.kind == "user" else None

        def accept() -> Response:
            member = accept_invitation(
                tenant_id=tenant_id,
                token=body["token"],
                password=body["password"],
                user_id=user_id,
                request_id=getattr(request, "request_id", ""),
                address=address_of(request),
            )
            location = reverse("member", kwargs={"member_id": member.pk}, request=request)
            shown = {"tenant": show_brief(Tenant.objects.get(pk=tenant_id)), "member": show_member(member)}
            return Response(shown, status=201, headers={"Location": location})

        @retried
        def transact() -> Response:
            if "Idempotency-Key" not in request.headers:
                with tenant_scope(tenant_id, write=True):
                    return accept()
            # Whoever has the token is one and the same, as far as repeating goes.
            bearer = Principal(tenant_id, "user", f"invitation:{invitation_id}", "", Role.VIEWER)
            with in_flight(bearer, request) as once, tenant_scope(tenant_id, write=True):
                return answer_once(once, accept, hidden=())

        return transact()


def show_invitation(invitation: Invitation) -> dict[str, Any]:
    """``InvitationShape`` of a row."""
    return {
        "id": str(invitation.pk),
        "email": invitation.email,
        "role": invitation.role,
        "state": invitation.state,
        "invited_by": show_user(invitation.invited_by),
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
        "accepted_at": invitation.accepted_at,
        "revoked_at": invitation.revoked_at,
    }
