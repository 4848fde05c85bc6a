"""What the admin changes, it changes by the verbs: with their rules, and an entry in the audit."""

import json

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from secrets_vault.models import Secret, SecretVersion
from tenants.access import Role
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Tenant
from tests.support.api import Api
from tests.support.factories.rows import (
    make_invitation,
    make_member,
    make_superuser,
    make_tenant,
    make_user,
    make_workflow,
)
from workflows.models import Workflow

pytestmark = [pytest.mark.api, pytest.mark.e2e]
VALUE = "correct-horse-battery"


def address(model: type[Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant("acme")


def audited(tenant: Tenant) -> list[str]:
    """The actions in a tenant's audit that a user of the admin took."""
    rows = AuditEntry.objects.for_tenant(tenant).order_by("seq")
    return [entry.action for entry in rows if json.loads(entry.record)["actor"]["name"] == "root"]


def take(client: Client, model: type[Model], action: str, row: Model) -> str:
    posted = {"action": action, "_selected_action": [str(row.pk)]}
    return client.post(address(model, "changelist"), posted, follow=True).content.decode()


def test_a_tenant_is_made_renamed_and_given_a_plan(root: Client):
    assert root.post(address(Tenant, "add"), {"slug": "new", "name": "New"}).status_code == 302
    tenant = Tenant.objects.get(slug="new")
    posted = {"slug": "other", "name": "Newer", "plan": "pro", "limits": '{"workflows": 3}'}
    assert root.post(address(Tenant, "change", tenant.pk), posted).status_code == 302
    tenant.refresh_from_db()
    assert (tenant.slug, tenant.name, tenant.plan, tenant.limits) == ("new", "Newer", "pro", {"workflows": 3})
    assert audited(tenant) == ["tenant.created", "tenant.renamed", "tenant.plan_changed"]


def test_a_taken_slug_is_refused(root: Client, tenant: Tenant):
    response = root.post(address(Tenant, "add"), {"slug": "acme", "name": "Another"})
    assert "already exists" in response.content.decode()
    assert Tenant.objects.count() == 1


def test_an_unknown_limit_is_refused(root: Client, tenant: Tenant):
    posted = {"name": "acme", "plan": "pro", "limits": '{"wishes": 3}'}
    assert "no quota" in root.post(address(Tenant, "change", tenant.pk), posted).content.decode()
    tenant.refresh_from_db()
    assert tenant.plan == "enterprise"


def test_a_tenant_is_suspended_and_resumed(root: Client, tenant: Tenant):
    take(root, Tenant, "suspend", tenant)
    tenant.refresh_from_db()
    assert tenant.suspended_at is not None
    take(root, Tenant, "resume", tenant)
    tenant.refresh_from_db()
    assert tenant.suspended_at is None
    assert audited(tenant) == ["tenant.suspended", "tenant.resumed"]


def test_a_member_is_added_and_given_another_role_and_removed(root: Client, tenant: Tenant):
    user = make_user("ada")
    make_member(tenant, Role.OWNER)
    posted = {"tenant": str(tenant.pk), "user": user.pk, "role": "viewer"}
    assert root.post(address(Membership, "add"), posted).status_code == 302
    member = Membership.objects.for_tenant(tenant).get(user=user)
    assert root.post(address(Membership, "change", member.pk), {"role": "admin"}).status_code == 302
    member.refresh_from_db()
    assert member.role == "admin"
    assert root.post(address(Membership, "delete", member.pk), {"post": "yes"}).status_code == 302
    assert not Membership.objects.for_tenant(tenant).filter(pk=member.pk).exists()
    assert audited(tenant) == ["member.added", "member.role_changed", "member.removed"]


@pytest.mark.parametrize("way", ["change", "delete", "selection"])
def test_the_last_owner_stays(root: Client, tenant: Tenant, way: str):
    member = make_member(tenant, Role.OWNER)
    posted = {"role": "viewer", "post": "yes", "action": "delete_selected", "_selected_action": [str(member.pk)]}
    page = address(Membership, "changelist") if way == "selection" else address(Membership, way, member.pk)
    assert "last owner" in root.post(page, posted, follow=True).content.decode()
    member.refresh_from_db()
    assert member.role == "owner"
    assert audited(tenant) == []


def test_a_member_is_invited_and_the_token_is_shown_once(root: Client, tenant: Tenant):
    posted = {"tenant": str(tenant.pk), "email": "Grace@example.org", "role": "editor"}
    response = root.post(address(Invitation, "add"), posted)
    assert "no-store" in response.headers["Cache-Control"]
    [token] = [line for line in response.content.decode().split(">") if line.startswith("pyf_invite_")]
    token = token.partition("<")[0]
    invitation = Invitation.objects.for_tenant(tenant).get()
    accepted = Api().post("/api/v1/invitations/accept", {"token": token, "password": "a long and good passphrase"})
    assert accepted.status_code == 201, accepted.content
    for page, args in (("changelist", []), ("change", [invitation.pk])):
        html = root.get(address(Invitation, page, *args)).content.decode()
        assert token not in html
        assert invitation.token_hash not in html
    assert all(token not in str(morsel) for morsel in root.cookies.values())
    assert audited(tenant) == ["invitation.created"]


def test_an_invitation_is_revoked(root: Client, tenant: Tenant):
    invitation, _ = make_invitation(tenant)
    take(root, Invitation, "revoke", invitation)
    invitation.refresh_from_db()
    assert invitation.state == "revoked"
    assert audited(tenant) == ["invitation.revoked"]


def test_a_key_is_made_shown_once_and_works(root: Client, tenant: Tenant):
    posted = {"tenant": str(tenant.pk), "name": "ci", "role": "editor", "scopes": ["workflows:read"]}
    response = root.post(address(ApiKey, "add"), posted)
    key = ApiKey.objects.for_tenant(tenant).get()
    assert "no-store" in response.headers["Cache-Control"]
    [text] = [part.partition("<")[0] for part in response.content.decode().split(">") if part.startswith("pyf_live_")]
    assert (key.scopes, key.role, key.created_by) == (["workflows:read"], "editor", None)
    assert Api(text).get("/api/v1/workflows").status_code == 200
    assert Api(text).get("/api/v1/runs").status_code == 403
    assert text not in root.get(address(ApiKey, "changelist")).content.decode()
    assert audited(tenant) == ["api_key.created"]


def test_a_key_beyond_its_role_is_refused(root: Client, tenant: Tenant):
    posted = {"tenant": str(tenant.pk), "name": "ci", "role": "viewer", "scopes": ["audit:read"]}
    assert "does not have" in root.post(address(ApiKey, "add"), posted, follow=True).content.decode()
    assert not ApiKey.objects.for_tenant(tenant).exists()


def test_a_secret_is_written_and_never_shown(root: Client, tenant: Tenant):
    posted = {"tenant": str(tenant.pk), "name": "API_KEY", "description": "of the shop", "value": VALUE}
    assert root.post(address(Secret, "add"), posted).status_code == 302
    secret = Secret.objects.for_tenant(tenant).get()
    replaced = {"description": "of the new shop", "value": f"{VALUE}-2"}
    assert root.post(address(Secret, "change", secret.pk), replaced).status_code == 302
    secret.refresh_from_db()
    assert (secret.version, secret.description) == (2, "of the new shop")
    newest = SecretVersion.objects.for_tenant(tenant).select_related("data_key").get(number=2)
    assert newest.open() == f"{VALUE}-2"
    for page, args in (("changelist", []), ("change", [secret.pk]), ("history", [secret.pk])):
        assert VALUE not in root.get(address(Secret, page, *args)).content.decode()
    assert root.post(address(Secret, "delete", secret.pk), {"post": "yes"}).status_code == 302
    assert audited(tenant) == ["secret.created", "secret.replaced", "secret.deleted"]
    assert all(VALUE not in entry.record for entry in AuditEntry.objects.for_tenant(tenant))


def test_a_value_is_not_in_the_form_that_is_shown_again(root: Client, tenant: Tenant):
    posted = {"tenant": str(tenant.pk), "name": "no name", "value": VALUE}
    response = root.post(address(Secret, "add"), posted)
    assert response.status_code == 200
    assert VALUE not in response.content.decode()


def test_a_workflow_is_archived_and_restored(root: Client, tenant: Tenant):
    workflow = make_workflow(tenant).workflow
    take(root, Workflow, "archive", workflow)
    workflow.refresh_from_db()
    assert workflow.archived_at is not None
    take(root, Workflow, "restore", workflow)
    workflow.refresh_from_db()
    assert workflow.archived_at is None
    assert len(audited(tenant)) == 2
