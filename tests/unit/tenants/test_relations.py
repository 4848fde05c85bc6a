"""No relation leads from a row of one tenant, or from the tenant itself, to rows of another."""

import pytest
from django.apps import apps
from django.core.exceptions import FieldError
from django.db.models import Count, Prefetch

from runs.models import NodeRun, Run
from tenants.models import Tenant
from tenants.scoping import TenantOwned
from tests.support.factories.rows import make_run, make_tenant
from workflows.models import Version, Workflow

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
pytestmark = [pytest.mark.database, pytest.mark.django_db]


@pytest.fixture
def runs() -> dict[Tenant, Run]:
    """Two tenants with the same workflow and a run of it."""
    made = {tenant: make_run(tenant) for tenant in (make_tenant(), make_tenant())}
    for tenant, run in made.items():
        NodeRun.objects.create(tenant=tenant, run=run, node_id="greet")
    return made


def test_a_tenant_has_no_reverse_managers():
    """`tenant.runs` would be a way around `for_tenant`, and `Tenant.objects.filter(run=…)` one to ask about others."""
    reverse = [relation for relation in Tenant._meta.get_fields(include_hidden=True) if relation.auto_created]
    assert len(reverse) >= len(OWNED)
    assert all(relation.hidden for relation in reverse)


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_nothing_is_counted_by_way_of_the_tenant(model):
    with pytest.raises(FieldError):
        Tenant.objects.annotate(found=Count(model._meta.model_name)).exists()


def test_reverse_relations_have_the_rows_of_their_own_tenant(runs):
    for tenant, run in runs.items():
        for row in (run, run.workflow, run.version):
            for relation in row._meta.related_objects:
                if not relation.one_to_one and not relation.hidden:
                    rows = getattr(row, relation.get_accessor_name()).all()
                    assert {found.tenant_id for found in rows} <= {tenant.pk}, relation


def test_what_is_fetched_along_is_of_the_same_tenant(runs):
    for tenant in runs:
        workflows = Workflow.objects.for_tenant(tenant).prefetch_related(
            Prefetch("versions", queryset=Version.objects.across_tenants())
        )
        assert {version.tenant_id for found in workflows for version in found.versions.all()} == {tenant.pk}
        found = Run.objects.for_tenant(tenant).values_list("workflow__tenant", "version__tenant", "tenant__slug")
        assert set(found) == {(tenant.pk, tenant.pk, tenant.slug)}


def test_figures_are_of_one_tenant(runs):
    for tenant in runs:
        assert Run.objects.for_tenant(tenant).aggregate(found=Count("pk"))["found"] == 1
        assert Workflow.objects.for_tenant(tenant).aggregate(found=Count("versions"))["found"] == 1
        assert NodeRun.objects.for_tenant(tenant).filter(run__workflow__name="hello").count() == 1


def test_joined_queries_stay_in_their_tenant(runs):
    mine, theirs = (Run.objects.for_tenant(tenant) for tenant in runs)
    assert (mine & theirs).count() == 0
    assert mine.filter(workflow__in=Workflow.objects.across_tenants()).count() == 1
