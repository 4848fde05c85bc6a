"""A query that does not say whose rows it wants is refused."""

import pytest
from django.apps import apps
from django.db.models import ProtectedError
from django.utils import timezone

from runs.models import LogState, NodeItem, NodeRun, NodeTask, RunLog, RunSignal, Slot
from tenants.access import Actor, Role
from tenants.audit import record
from tenants.errors import UnscopedQueryError
from tenants.models import (
    ApiKey,
    IdempotentAnswer,
    Invitation,
    Membership,
    RefreshToken,
    Tenant,
    UsageCounter,
)
from tenants.scoping import TenantOwned
from tests.support.factories.rows import make_api_key, make_run, make_superuser, make_tenant, make_workflow
from tests.support.factories.secrets import make_secret
from tests.support.invariants import made_of_rows
from workflows.models import Workflow

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
UNSCOPED = {
    "all": lambda objects: objects.all(),
    "get": lambda objects: objects.get(pk=1),
    "filter": lambda objects: objects.filter(pk=1),
    "exclude": lambda objects: objects.exclude(pk=1),
    "first": lambda objects: objects.first(),
    "count": lambda objects: objects.count(),
    "exists": lambda objects: objects.exists(),
    "values": lambda objects: objects.values(),
    "update": lambda objects: objects.update(),
    "none": lambda objects: objects.none(),
    "in_bulk": lambda objects: objects.in_bulk(),
    "aggregate": lambda objects: objects.aggregate(),
    "get_or_create": lambda objects: objects.get_or_create(pk=1),
    "update_or_create": lambda objects: objects.update_or_create(pk=1),
    "bulk_update": lambda objects: objects.bulk_update([], ["name"]),
    "iterator": lambda objects: objects.iterator(),
    "raw": lambda objects: list(objects.raw("SELECT 1")),
    "create": lambda objects: objects.create(name="x"),
}
pytestmark = [pytest.mark.database, made_of_rows]


def test_every_model_of_ours_but_the_tenant_belongs_to_one():
    ours = {model.__name__ for model in apps.get_models() if model.__module__.split(".")[0] in _APPS}
    # A counter of transactions over all tenants, for SQLite.
    assert ours - {"Tenant", "LogCounter"} == {model.__name__ for model in OWNED}


_APPS = {"tenants", "secrets_vault", "plugins", "workflows", "runs"}


@pytest.mark.parametrize("query", [name for name in UNSCOPED if name != "raw"])
@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_an_unscoped_query_is_refused(model, query: str):
    with pytest.raises(UnscopedQueryError):
        UNSCOPED[query](model.objects)


@pytest.mark.django_db
@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_a_scoped_query_has_the_rows_of_its_tenant(model):
    mine, other = make_tenant(), make_tenant()
    for tenant in (mine, other):
        make_api_key(tenant)
        run = make_run(tenant)
        NodeRun.objects.create(tenant=tenant, run=run, node_id="a")
        item = {"node_id": "a", "index": 0, "key": "0", "state": "succeeded", "at": run.created_at}
        NodeItem.objects.create(tenant=tenant, run=run, **item)
        RunSignal.objects.create(tenant=tenant, run=run, name="go", dedupe_id="1")
        RunLog.objects.create(tenant=tenant, run=run, seq=1, node_id="a", level=20, at=run.created_at, message="m")
        NodeTask.objects.create(tenant=tenant, run=run, run_epoch=1, node_id="a", places=[])
        Slot.objects.create(tenant=tenant, run=run, key="k", lane="l", limit=1, held=True)
        LogState.objects.create(tenant=tenant)
        make_secret(tenant)
        _add_access(tenant)
    assert model.objects.across_tenants().count() >= 2
    assert {row.tenant_id for row in model.objects.for_tenant(mine)} <= {mine.pk}
    assert model.objects.for_tenant(mine).count() == model.objects.for_tenant(mine.pk).count()


def _add_access(tenant: Tenant) -> None:
    """A row of everything that says who may do what, and what was done."""
    user, soon = make_superuser(f"of {tenant.slug}"), timezone.now()
    Membership.objects.create(tenant=tenant, user=user, role=Role.VIEWER.value)
    Invitation.objects.create(
        tenant=tenant, email="a@b.example", role="viewer", token_hash=tenant.slug, expires_at=soon
    )
    RefreshToken.objects.create(tenant=tenant, user=user, family=tenant.pk, token_hash=tenant.slug, expires_at=soon)
    UsageCounter.objects.create(tenant=tenant, name="runs", period="2026-11-24")
    stored = {"principal": "key:1", "route": "r", "key": "k", "fingerprint": "f", "status": 202, "body": "{}"}
    IdempotentAnswer.objects.create(tenant=tenant, **stored)
    record(by=Actor.system(tenant.pk, "test"), action="tenant.created", target=f"tenant:{tenant.pk}")


@pytest.mark.django_db
def test_a_tenant_whose_deeds_are_recorded_is_not_deleted():
    tenant = make_tenant()
    make_api_key(tenant)
    make_workflow(tenant)
    with pytest.raises(ProtectedError):
        tenant.delete()
    assert Workflow.objects.for_tenant(tenant).exists()
    assert ApiKey.objects.for_tenant(tenant).exists()
