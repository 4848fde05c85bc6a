"""Accounts, groups of staff and the schedule in the admin: the operator's, and audited or not to be edited."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.auth.models import Permission as ModelPermission
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from tenants.access import Role
from tenants.models import AuditEntry, Tenant
from tests.support.factories.rows import make_member, make_superuser, make_tenant

pytestmark = [pytest.mark.e2e, pytest.mark.django_db]


@pytest.fixture
def tenants() -> tuple[Tenant, Tenant]:
    return make_tenant("acme"), make_tenant("beta")


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


def entries(tenant: Tenant) -> list[dict[str, Any]]:
    rows = AuditEntry.objects.for_tenant(tenant).order_by("seq")
    return [json.loads(text) for text in rows.values_list("record", flat=True)]


def change(client: Client, kind: str, pk: int, **values: Any) -> None:
    """Change fields of an account or a group, by its form."""
    page = reverse(f"admin:auth_{kind}_change", args=[pk])
    initial = client.get(page).context["adminform"].form.initial
    fields = {name: value for name, value in initial.items() if value and name not in {"password", "last_login"}}
    for name in ("date_joined", "last_login"):
        if moment := fields.pop(name, None):
            fields |= {f"{name}_0": moment.date().isoformat(), f"{name}_1": moment.time().isoformat("seconds")}
    for name in ("groups", "user_permissions", "permissions"):
        if name in fields:
            fields[name] = [row.pk for row in fields[name]]
    fields = {name: value for name, value in (fields | values).items() if value is not None}
    response = client.post(page, fields)
    assert response.status_code == 302, response.context["errors"]


def test_a_change_of_an_account_is_in_the_audit_of_its_tenants(root: Client, tenants):
    ours, theirs = tenants
    member = make_member(ours, Role.EDITOR, name="ada")
    change(root, "user", member.user_id, is_staff="on")
    (entry,) = entries(ours)
    assert (entry["action"], entry["target"]) == ("account.changed", f"account:{member.user_id}")
    assert entry["after"]["is_staff"] is True
    assert "Staff status" in entry["after"]["fields"]
    assert entry["actor"]["name"] == "root"
    assert entries(theirs) == []


def test_a_superuser_is_in_the_audit_of_every_tenant_when_made_and_when_unmade(root: Client, tenants):
    user = User.objects.create(username="eve")
    change(root, "user", user.pk, is_superuser="on")
    change(root, "user", user.pk, is_superuser=None)
    for tenant in tenants:
        assert [entry["after"]["is_superuser"] for entry in entries(tenant)] == [True, False]


def test_a_new_password_is_in_the_audit_and_not_its_value(root: Client, tenants):
    member = make_member(tenants[0])
    new = "correct horse battery staple"
    page = reverse("admin:auth_user_password_change", args=[member.user_id])
    assert root.post(page, {"password1": new, "password2": new, "usable_password": "true"}).status_code == 302
    (entry,) = entries(tenants[0])
    assert entry["action"] == "account.changed"
    assert new not in json.dumps(entry)


def test_a_group_is_in_the_audit_of_the_tenants_of_its_users(root: Client, tenants):
    group = Group.objects.create(name="support")
    make_member(tenants[0]).user.groups.add(group)
    permission = ModelPermission.objects.get(codename="view_run")
    change(root, "group", group.pk, permissions=[permission.pk])
    (entry,) = entries(tenants[0])
    assert (entry["action"], entry["after"]["permissions"]) == ("staff_group.changed", ["view_run"])
    assert entries(tenants[1]) == []


def test_the_schedule_is_looked_at_by_superusers_and_edited_by_nobody(root: Client, tenants):
    every = IntervalSchedule.objects.create(every=2, period="seconds")
    task = PeriodicTask.objects.create(name="sweep", task="runs.sweep", interval=every)
    member = make_member(tenants[0], Role.OWNER)
    member.user.is_staff = True
    member.user.save()
    member.user.user_permissions.set(ModelPermission.objects.all())
    staff = Client()
    staff.force_login(member.user)
    for model, pk in ((PeriodicTask, task.pk), (IntervalSchedule, every.pk), (CrontabSchedule, 1)):
        name = f"admin:django_celery_beat_{model._meta.model_name}"
        listed, row = reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[pk])
        assert (root.get(listed).status_code, staff.get(listed).status_code) == (200, 403)
        changes = (reverse(f"{name}_add"), reverse(f"{name}_delete", args=[pk]), row)
        for client in (root, staff):
            assert {client.post(address, {"name": "mine"}).status_code for address in changes} <= {302, 403}
    assert PeriodicTask.objects.get().name == "sweep"
    assert IntervalSchedule.objects.count() == 1
    assert root.get(reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])).status_code == 200
