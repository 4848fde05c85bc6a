"""The admin between tenants: members of staff see the rows of their tenants, as far as their role allows."""

from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission as ModelPermission
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from runs.models import EventRecord, NodeItem, NodeRun, Run, RunSignal
from secrets_vault.models import Secret
from secrets_vault.services import create_secret
from tenants.access import Role
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Tenant
from tests.support.api import Api
from tests.support.factories import members
from tests.support.factories.records import record
from tests.support.factories.rows import (
    a_test,
    make_api_key,
    make_invitation,
    make_member,
    make_run,
    make_superuser,
    make_tenant,
)
from tests.support.invariants import made_of_rows
from workflows.models import Version, Workflow

pytestmark = [pytest.mark.database, pytest.mark.e2e, pytest.mark.django_db, made_of_rows]
OWNED = (
    Membership,
    Invitation,
    ApiKey,
    AuditEntry,
    Secret,
    Workflow,
    Version,
    Run,
    NodeRun,
    EventRecord,
    NodeItem,
    RunSignal,
)
VALUE = "a-value-that-nobody-sees"


def address(model: type[Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def furnished(slug: str) -> Tenant:
    """A tenant with a row of everything."""
    tenant = make_tenant(slug)
    run = make_run(tenant)
    record(run)
    NodeItem.objects.create(tenant=tenant, run=run, node_id="e", index=0, key="k", state="failed", at=run.created_at)
    RunSignal.objects.create(tenant=tenant, run=run, name="paid", dedupe_id="1")
    make_invitation(tenant)
    make_api_key(tenant)
    create_secret(name="API_KEY", value=VALUE, by=a_test(tenant))
    return tenant


def staff(member: Membership, *names: str) -> Client:
    """A member who is staff with Django's permissions: all of them, or those named."""
    user = member.user
    user.is_staff = True
    user.save()
    rows = ModelPermission.objects.all()
    user.user_permissions.set(rows.filter(codename__in=names) if names else rows)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ours() -> Tenant:
    return furnished("acme")


@pytest.fixture
def theirs() -> Tenant:
    tenant = furnished("rival")
    make_member(tenant, name="their-member")
    return tenant


@pytest.fixture
def owner(ours: Tenant, theirs: Tenant) -> Client:
    return staff(make_member(ours, Role.OWNER, "ada"))


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_staff_see_the_rows_of_their_tenants_and_no_others(owner: Client, ours: Tenant, theirs: Tenant, model):
    response = owner.get(address(model, "changelist"))
    listed = {row.tenant_id for row in response.context["cl"].result_list}
    assert listed == {ours.pk}
    assert "rival" not in response.content.decode()
    for tenant, status in ((ours, 200), (theirs, 302)):
        row = model.unscoped.filter(tenant=tenant).first()
        assert row is not None
        for page in ("change", "history"):
            assert owner.get(address(model, page, row.pk)).status_code == status


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_another_tenants_rows_are_not_reached_by_filters_searches_or_posts(owner: Client, theirs: Tenant, model):
    row = model.unscoped.filter(tenant=theirs).first()
    assert row is not None
    before = list(model.unscoped.filter(tenant=theirs).values())
    for query in ({"tenant__id__exact": theirs.pk}, {"id": row.pk}, {"q": str(row.pk)}):
        response = owner.get(address(model, "changelist"), query, follow=True)
        assert [row.tenant_id for row in response.context["cl"].result_list if row.tenant_id == theirs.pk] == []
    for action in ("revoke", "archive", "restore", "suspend", "delete_selected", "cancel"):
        owner.post(address(model, "changelist"), {"action": action, "_selected_action": [row.pk], "post": "yes"})
    for page in ("change", "delete"):
        owner.post(address(model, page, row.pk), {"role": "viewer", "value": "another-value", "post": "yes"})
    assert list(model.unscoped.filter(tenant=theirs).values()) == before


def test_staff_see_their_tenant_alone_and_change_nothing_of_it(owner: Client, ours: Tenant, theirs: Tenant):
    response = owner.get(address(Tenant, "changelist"))
    assert [tenant.slug for tenant in response.context["cl"].result_list] == ["acme"]
    assert owner.get(address(Tenant, "change", theirs.pk)).status_code == 302
    for page, args in (("change", [ours.pk]), ("delete", [ours.pk]), ("add", [])):
        assert owner.post(address(Tenant, page, *args), {"name": "x", "plan": "free", "post": "yes"}).status_code == 403
    owner.post(address(Tenant, "changelist"), {"action": "suspend", "_selected_action": [str(ours.pk)]})
    ours.refresh_from_db()
    assert (ours.name, ours.plan, ours.suspended_at) == ("acme", "enterprise", None)


@pytest.mark.parametrize(
    ("role", "hidden"),
    [
        (Role.VIEWER, {Secret, ApiKey, AuditEntry}),
        (Role.EDITOR, {ApiKey, AuditEntry}),
        (Role.ADMIN, set()),
    ],
)
def test_what_a_role_does_not_read_is_not_shown(ours: Tenant, theirs: Tenant, role: Role, hidden: set[type[Model]]):
    make_member(ours)
    client = staff(make_member(ours, role))
    refused = {model for model in OWNED if client.get(address(model, "changelist")).status_code == 403}
    assert refused == hidden


def test_without_djangos_permission_a_screen_is_closed(ours: Tenant):
    client = staff(make_member(ours, Role.OWNER), "view_run")
    assert client.get(address(Run, "changelist")).status_code == 200
    for model in (Workflow, Secret, ApiKey):
        assert client.get(address(model, "changelist")).status_code == 403


def test_staff_without_a_tenant_and_of_a_suspended_one_see_nothing(ours: Tenant):
    client = staff(make_member(ours, Role.OWNER))
    Tenant.objects.filter(pk=ours.pk).update(suspended_at=ours.created_at)
    for model in (*OWNED, Tenant):
        assert client.get(address(model, "changelist")).status_code == 403


@pytest.mark.parametrize("page", ["changelist", "add"])
def test_accounts_are_the_operators_alone(owner: Client, page: str):
    assert owner.get(reverse(f"admin:auth_user_{page}")).status_code == 403
    root = Client()
    root.force_login(make_superuser())
    assert root.get(reverse(f"admin:auth_user_{page}")).status_code == 200


def test_an_account_is_not_deleted(ours: Tenant):
    root = Client()
    root.force_login(make_superuser())
    member = make_member(ours)
    assert root.post(reverse("admin:auth_user_delete", args=[member.user_id]), {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=member.user_id).exists()


@pytest.mark.django_db(transaction=True)
def test_who_is_made_inactive_is_out_at_once_with_every_key_and_token(monkeypatch: pytest.MonkeyPatch):
    """Other processes learn it from the database; this one's own cache is not updated."""
    tenants = [make_tenant(), make_tenant()]
    member = make_member(tenants[0], Role.ADMIN)
    Membership.objects.create(tenant=tenants[1], user=member.user, role="admin")
    token = members.api_of(member)
    keys = [Api(make_api_key(tenant, created_by=member.user)[1]) for tenant in tenants]
    assert [api.get("/api/v1/workflows").status_code for api in (token, *keys)] == [200, 200, 200]
    monkeypatch.setattr("tenants.models.cache", SimpleNamespace(outdate=lambda _: None))
    root = Client()
    root.force_login(make_superuser())
    page = reverse("admin:auth_user_change", args=[member.user_id])
    form = root.get(page).context["adminform"].form
    fields = {name: value for name, value in form.initial.items() if value and name not in {"password", "is_active"}}
    joined = fields.pop("date_joined")
    fields |= {"date_joined_0": joined.date().isoformat(), "date_joined_1": joined.time().isoformat("seconds")}
    assert root.post(page, fields).status_code == 302
    assert not User.objects.get(pk=member.user_id).is_active
    assert [api.get("/api/v1/workflows").status_code for api in (token, *keys)] == [401, 401, 401]


def test_a_viewer_has_no_field_for_a_value(ours: Tenant):
    client = staff(make_member(ours, Role.EDITOR))
    secret = Secret.objects.for_tenant(ours).get()
    html = client.get(address(Secret, "change", secret.pk)).content.decode()
    assert "API_KEY" in html
    assert 'name="value"' not in html
    assert client.post(address(Secret, "change", secret.pk), {"value": "another-value"}).status_code == 403
