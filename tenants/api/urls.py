"""Routes of a tenant's own resources, below ``/api/v1/``."""

from django.urls import path

from tenants.api.api_keys import KeysView, KeyView, RotateKeyView
from tenants.api.audit import AuditView, VerifyAuditView
from tenants.api.auth import JwksView, RefreshView, RevokeView, TokenView
from tenants.api.invitations import AcceptInvitationView, InvitationsView, InvitationView
from tenants.api.me import MeView
from tenants.api.members import MembersView, MemberView
from tenants.api.tenant import TenantDetailView

urlpatterns = [
    path("auth/token", TokenView.as_view(), name="auth-token"),
    path("auth/refresh", RefreshView.as_view(), name="auth-refresh"),
    path("auth/revoke", RevokeView.as_view(), name="auth-revoke"),
    path("auth/jwks", JwksView.as_view(), name="auth-jwks"),
    path("tenants/current", TenantDetailView.as_view(), name="tenant"),
    path("me", MeView.as_view(), name="me"),
    path("members", MembersView.as_view(), name="members"),
    path("members/<uuid:member_id>", MemberView.as_view(), name="member"),
    path("invitations", InvitationsView.as_view(), name="invitations"),
    path("invitations/accept", AcceptInvitationView.as_view(), name="invitation-accept"),
    path("invitations/<uuid:invitation_id>", InvitationView.as_view(), name="invitation"),
    path("api-keys", KeysView.as_view(), name="api-keys"),
    path("api-keys/<uuid:key_id>", KeyView.as_view(), name="api-key"),
    path("api-keys/<uuid:key_id>/rotate", RotateKeyView.as_view(), name="api-key-rotate"),
    path("audit", AuditView.as_view(), name="audit"),
    path("audit/verify", VerifyAuditView.as_view(), name="audit-verify"),
]
