"""`manage.py setplan`, and the plan in the admin: both give it by the one verb."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tenants import quotas
from tenants.access import Actor
from tenants.models import AuditEntry, Tenant, UsageCounter
from tenants.plans import Quota
from tests.support.factories.rows import make_superuser, make_tenant

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def setplan(*arguments: str) -> str:
    out = StringIO()
    call_command("setplan", *arguments, stdout=out)
    return out.getvalue()


def test_it_gives_a_plan_and_says_what_holds_now():
    tenant = make_tenant("acme")
    assert setplan("acme", "pro") == "acme: pro\n"
    told = setplan("acme", "free", "--limit", "workflows=3", "--limit", "stored_bytes=none")
    assert told == "acme: free, workflows 3, stored_bytes unlimited\n"
    tenant.refresh_from_db()
    assert (tenant.plan, tenant.limits) == ("free", {"workflows": 3, "stored_bytes": None})
    assert quotas.limit_of(tenant.pk, Quota.WORKFLOWS) == 3
    assert setplan("acme", "free") == "acme: free\n", "limits that are not named end"


def test_it_is_audited():
    tenant = make_tenant("acme")
    setplan("acme", "pro")
    entry = AuditEntry.objects.for_tenant(tenant).get(action="tenant.plan_changed")
    assert (entry.actor_kind, entry.actor) == ("system", "setplan")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody", "pro"), "no tenant 'nobody'"),
        (("acme", "gold"), "no plan 'gold'"),
        (("acme", "pro", "--limit", "runs=1"), "no quota 'runs'"),
        (("acme", "pro", "--limit", "workflows"), "NAME=VALUE"),
        (("acme", "pro", "--limit", "workflows=-1"), "NAME=VALUE"),
        (("acme", "pro", "--limit", "workflows=many"), "NAME=VALUE"),
        (("acme", "pro", "--limit", f"workflows={2**63}"), "whole number"),
    ],
)
def test_what_there_is_not_is_refused_and_changes_nothing(arguments: tuple[str, ...], said: str):
    tenant = make_tenant("acme")
    with pytest.raises(CommandError, match=said):
        setplan(*arguments)
    tenant.refresh_from_db()
    assert (tenant.plan, tenant.limits) == ("enterprise", {})
    assert not AuditEntry.objects.for_tenant(tenant).exists()


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(make_superuser("root"))
    return client


def edit(root: Client, tenant: Tenant, **values: str) -> int:
    limits = json.dumps(tenant.limits)
    form = {"slug": tenant.slug, "name": tenant.name, "plan": tenant.plan, "limits": limits, "initial-limits": limits}
    return root.post(reverse("admin:tenants_tenant_change", args=[tenant.pk]), form | values).status_code


def test_the_admin_gives_limits_by_the_same_verb(root: Client, monkeypatch):
    tenant = make_tenant()
    for thread in range(3):  # without a limit, several threads count in rows of their own
        monkeypatch.setattr(quotas.threading, "get_native_id", lambda thread=thread: thread)
        quotas.consume(tenant_id=tenant.pk, amounts={Quota.RUNS_PER_DAY: 2})
    assert edit(root, tenant, plan="pro", limits='{"runs_per_day": 7}') == 302
    tenant.refresh_from_db()
    assert (tenant.plan, tenant.limits, tenant.auth_version) == ("pro", {"runs_per_day": 7}, 1)
    assert UsageCounter.objects.for_tenant(tenant).get(name=Quota.RUNS_PER_DAY).count == 6
    entry = AuditEntry.objects.for_tenant(tenant).get(action="tenant.plan_changed")
    assert (entry.actor_kind, json.loads(entry.record)["actor"]["name"]) == ("user", "root")


@pytest.mark.parametrize("limits", ['{"runs": 1}', '{"workflows": -1}', '{"workflows": "3"}', "[]", "3"])
def test_limits_that_mean_nothing_are_shown_to_be_wrong(root: Client, limits: str):
    tenant = make_tenant()
    assert edit(root, tenant, limits=limits) == 200, "the form again"
    tenant.refresh_from_db()
    assert tenant.limits == {}


def test_what_is_renamed_in_the_admin_keeps_what_others_have_changed(root: Client):
    tenant = make_tenant()
    quotas.set_plan(tenant=tenant, plan="pro", overrides={"workflows": 3}, by=Actor.system(tenant.pk, "a test"))
    tenant.refresh_from_db()
    assert edit(root, tenant, name="Acme") == 302
    tenant.refresh_from_db()
    assert (tenant.name, tenant.plan, tenant.limits, tenant.auth_version) == ("Acme", "pro", {"workflows": 3}, 1)
