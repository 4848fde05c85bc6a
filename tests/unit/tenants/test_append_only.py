"""The audit's table takes new rows and nothing else: tried on the database itself."""

import pytest
from django.db import DatabaseError, connection, models, transaction

from tenants import audit
from tenants.access import Actor
from tenants.models import AppendOnlyError, AuditEntry, Tenant
from tests.support import append_only
from tests.support.factories.rows import make_tenant

pytestmark = [pytest.mark.database, pytest.mark.django_db]
TABLE = append_only.TABLE


@pytest.fixture
def entry() -> AuditEntry:
    tenant = make_tenant()
    return audit.record(by=Actor.system(tenant.pk, "test"), action="thing.done", target="thing:1")


def refused(statement: str, *parameters: object) -> None:
    connection.check_constraints()  # PostgreSQL truncates nothing while such checks are to come
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)


@pytest.mark.parametrize("column", ["action", "record", "hash", "seq"])
def test_an_entry_is_not_updated(entry: AuditEntry, column: str):
    refused(f"UPDATE {TABLE} SET {column} = {column}")
    assert AuditEntry.objects.across_tenants().get() == entry


def test_an_entry_is_not_deleted(entry: AuditEntry):
    refused(f"DELETE FROM {TABLE}")
    assert AuditEntry.objects.across_tenants().count() == 1


def test_the_table_is_not_emptied(entry: AuditEntry):
    if connection.vendor == "postgresql":
        refused(f"TRUNCATE {TABLE}")
        refused("TRUNCATE tenants_tenant CASCADE")
    else:  # SQLite's way to replace a row
        columns = "id, tenant_id, seq, at, actor_kind, actor, action, target, record, previous, hash"
        refused(f"INSERT OR REPLACE INTO {TABLE} ({columns}) SELECT {columns} FROM {TABLE}")
    assert AuditEntry.objects.across_tenants().count() == 1


def test_queries_of_django_are_refused_too(entry: AuditEntry):
    rows = AuditEntry.objects.across_tenants()
    for attempt in (lambda: rows.update(action="other"), lambda: rows._raw_delete(rows.db)):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()


def test_a_row_says_so_before_the_database_does(entry: AuditEntry):
    for attempt in (entry.save, entry.delete):
        with pytest.raises(AppendOnlyError):
            attempt()


def test_a_tenant_with_a_history_is_not_deleted(entry: AuditEntry):
    with pytest.raises(models.ProtectedError):
        Tenant.objects.get(pk=entry.tenant_id).delete()


def test_a_tampering_test_tampers(entry: AuditEntry):
    """Or the tests of what verification finds would find nothing."""
    with append_only.lifted():
        AuditEntry.objects.across_tenants().update(action="other")
    assert AuditEntry.objects.across_tenants().get().action == "other"
    refused(f"DELETE FROM {TABLE}")


@pytest.mark.django_db(transaction=True)
def test_the_tables_of_a_test_with_transactions_are_emptied_after_it(entry: AuditEntry):
    refused(f"DELETE FROM {TABLE}")
