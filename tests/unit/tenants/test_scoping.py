"""A query that does not say whose rows it wants is refused."""

import pytest
from django.apps import apps
from django.db.models import ProtectedError
from django.utils import timezone

from tenants.errors import UnscopedQueryError
from tenants.models import ApiKey, RefreshToken
from tenants.scoping import TenantOwned
from tests.support.factories.rows import make_api_key, make_superuser, make_tenant, make_workflow
from tests.support.factories.worlds import make_world
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
    # A counter of transactions over all tenants (SQLite), and the lease of the process that looks at schedules.
    assert ours - {"Tenant", "LogCounter", "TickerLease"} == {model.__name__ for model in OWNED}


_APPS = {"tenants", "secrets_vault", "plugins", "workflows", "runs", "events", "triggers"}


@pytest.mark.parametrize("query", [name for name in UNSCOPED if name != "raw"])
@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_an_unscoped_query_is_refused(model, query: str):
    with pytest.raises(UnscopedQueryError):
        UNSCOPED[query](model.objects)


@pytest.mark.django_db
def test_a_scoped_query_has_the_rows_of_its_tenant():
    """Of every model, each of two tenants has a row."""
    mine, other = (make_world(name).tenant for name in ("mine", "other"))
    for tenant in (mine, other):
        user = make_superuser(f"of {tenant.slug}")
        token = {"family": tenant.pk, "token_hash": tenant.slug, "expires_at": timezone.now()}
        RefreshToken.objects.create(tenant=tenant, user=user, **token)
    missing = [model.__name__ for model in OWNED if not model.objects.for_tenant(mine).exists()]
    assert missing == []
    for model in OWNED:
        for tenant in (mine, other):
            assert {row.tenant_id for row in model.objects.for_tenant(tenant)} == {tenant.pk}, model
            assert model.objects.for_tenant(tenant).count() == model.objects.for_tenant(tenant.pk).count()


@pytest.mark.django_db
def test_a_tenant_whose_deeds_are_recorded_is_not_deleted():
    tenant = make_tenant()
    make_api_key(tenant)
    make_workflow(tenant)
    with pytest.raises(ProtectedError):
        tenant.delete()
    assert Workflow.objects.for_tenant(tenant).exists()
    assert ApiKey.objects.for_tenant(tenant).exists()
