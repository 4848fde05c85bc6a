"""A chain has a known beginning and an end from the creation of its tenant on: an emptied one is not whole."""

import importlib
from collections.abc import Callable

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tenants import audit
from tenants.access import Actor
from tenants.errors import AuditBrokenError
from tenants.models import AuditEntry, AuditHead, Tenant
from tenants.services import create_tenant
from tests.support import append_only
from tests.support.factories.rows import make_tenant

pytestmark = [
    pytest.mark.database,
    pytest.mark.django_db,
    pytest.mark.breaks_invariant("the_audit_is_whole", reason="audits are emptied, to see that it shows"),
]


def write(tenant: Tenant) -> AuditEntry:
    return audit.record(by=Actor.system(tenant.pk, "a test"), action="thing.done", target="thing:1")


def kinds(tenant: Tenant) -> list[str]:
    return [finding.kind for finding in audit.verify(tenant_id=tenant.pk)]


def heads(tenant: Tenant):
    return AuditHead.objects.for_tenant(tenant)


def empty(tenant: Tenant) -> None:
    with append_only.lifted():
        AuditEntry.objects.for_tenant(tenant)._raw_delete("default")


def test_a_new_tenant_has_a_head_and_a_first_entry():
    tenant = create_tenant(slug="acme")
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert (entry.seq, entry.action, heads(tenant).get().hash) == (1, "tenant.created", entry.hash)
    assert kinds(tenant) == []
    write(tenant)
    assert kinds(tenant) == []


@pytest.mark.parametrize(
    "head",
    [
        lambda tenant: None,
        lambda tenant: heads(tenant).delete(),
        lambda tenant: heads(tenant).update(seq=0, hash=""),
    ],
    ids=["kept", "deleted", "reset"],
)
@pytest.mark.parametrize("entries", [1, 3])
def test_an_emptied_audit_is_not_whole(head: Callable[[Tenant], None], entries: int):
    tenant = create_tenant(slug="acme")
    for _ in range(entries - 1):
        write(tenant)
    empty(tenant)
    head(tenant)
    assert kinds(tenant)


def test_an_audit_that_was_emptied_and_goes_on_is_not_whole():
    tenant = create_tenant(slug="acme")
    write(tenant)
    empty(tenant)
    heads(tenant).update(seq=0, hash="")
    assert write(tenant).seq == 1
    assert kinds(tenant) == ["removed"]


def test_nothing_is_recorded_without_a_head():
    """Or a chain that was removed with it would begin anew."""
    tenant = create_tenant(slug="acme")
    heads(tenant).delete()
    with pytest.raises(AuditBrokenError, match="verify_audit"):
        write(tenant)
    assert kinds(tenant) == ["head"]


def test_the_migration_begins_the_chains_of_tenants_from_before():
    """One without entries; one with some, and no head; one that has all."""
    bare, headless, whole = make_tenant("bare"), create_tenant(slug="headless"), create_tenant(slug="whole")
    for tenant in (bare, headless):
        heads(tenant).delete()
    apps = MigrationExecutor(connection).loader.project_state([("tenants", "0001_initial")]).apps
    migration = importlib.import_module("tenants.migrations.0002_audit_genesis")
    for _ in range(2):
        migration.begin(apps, None)
        assert [kinds(tenant) for tenant in (bare, headless, whole)] == [[], [], []]
    assert AuditEntry.objects.for_tenant(bare).get().action == "audit.began"
    assert write(headless).seq == 2
