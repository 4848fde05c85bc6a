"""PostgreSQL's row-level security holds where the managers do not: tried with SQL of the worst kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from tenants.models import Tenant
from tenants.scoping import WEB_ROLE, TenantOwned, lookup_scope, tenant_scope
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
LOGIN = "pyflow_web_of_a_test"
pytestmark = pytest.mark.fleet


def _rows(statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


@pytest.mark.django_db
@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_every_table_has_a_policy(model):
    found = _rows("SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass", model._meta.db_table)
    assert found == [(True,)]
    assert _rows("SELECT polname FROM pg_policy WHERE polrelid = %s::regclass", model._meta.db_table)


@pytest.fixture
def other(db) -> Tenant:
    tenant = make_tenant()
    make_workflow(tenant)
    return tenant


def test_an_unscoped_query_of_a_request_sees_nothing_of_others(other):
    mine = make_tenant()
    make_workflow(mine)
    with tenant_scope(mine.pk, write=False):
        assert _rows("SELECT DISTINCT tenant_id FROM workflows_workflow") == [(mine.pk,)]
        assert _rows("SELECT id FROM tenants_tenant") == [(mine.pk,)]


def test_a_request_changes_nothing_of_others(other):
    mine = make_tenant()
    with tenant_scope(mine.pk, write=True), connection.cursor() as cursor:
        cursor.execute("UPDATE workflows_workflow SET description = 'stolen'")
        assert cursor.rowcount == 0
        cursor.execute("DELETE FROM workflows_version")
        assert cursor.rowcount == 0
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            cursor.execute(
                "INSERT INTO tenants_usagecounter (id, tenant_id, name, period, count) VALUES (%s, %s, 'x', 'y', 1)",
                [UUID(int=1), other.pk],
            )


def test_the_scope_ends_with_its_block(other):
    with tenant_scope(make_tenant().pk, write=False):
        pass
    assert _rows("SELECT count(*) FROM workflows_workflow") == [(1,)]
    assert _rows("SELECT current_setting('role')") == [("none",)]


def test_a_scope_inside_another_puts_back_what_was(other):
    mine = make_tenant()
    with tenant_scope(mine.pk, write=False):
        with tenant_scope(other.pk, write=False):
            assert _rows("SELECT count(*) FROM workflows_workflow") == [(1,)]
        assert _rows("SELECT count(*) FROM workflows_workflow") == [(0,)]


def test_who_shows_a_key_sees_that_key_alone(other):
    key, _ = make_api_key(other)
    make_api_key(other)
    with lookup_scope(key.key_id):
        assert _rows("SELECT id FROM tenants_apikey") == [(key.pk,)]
        assert _rows("SELECT count(*) FROM workflows_workflow") == [(0,)]


@contextmanager
def _login_of_the_web() -> Iterator[psycopg.Connection]:
    """A connection of a login that is a member of the web role and nothing else."""
    settings = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {LOGIN}")
        cursor.execute(f"CREATE ROLE {LOGIN} LOGIN IN ROLE {WEB_ROLE}")
    try:
        with psycopg.connect(
            host=settings["HOST"], port=settings["PORT"], dbname=settings["NAME"], user=LOGIN, autocommit=True
        ) as web:
            yield web
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP ROLE {LOGIN}")


@pytest.mark.django_db(transaction=True)
def test_a_login_of_the_web_has_no_way_out():
    tenant = make_tenant()
    make_workflow(tenant)
    with _login_of_the_web() as web:
        count = "SELECT count(*) FROM workflows_workflow"
        assert web.execute(count).fetchone() == (0,)
        for way in ("RESET ROLE", "SET ROLE none", f"SET ROLE {WEB_ROLE}", "SET row_security = on"):
            web.execute(way)
            assert web.execute(count).fetchone() == (0,), way
        owner = connection.settings_dict["USER"]
        for way in (
            f'SET ROLE "{owner}"',
            f'SET SESSION AUTHORIZATION "{owner}"',
            "ALTER TABLE workflows_workflow DISABLE ROW LEVEL SECURITY",
            "DROP POLICY pyflow_tenant ON workflows_workflow",
            f"ALTER ROLE {LOGIN} BYPASSRLS",
        ):
            with pytest.raises(psycopg.Error):
                web.execute(way)
        web.execute("SELECT set_config('pyflow.tenant_id', %s, false)", [str(tenant.pk)])
        assert web.execute(count).fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_the_history_is_not_changed_by_the_web():
    tenant = make_tenant()
    with _login_of_the_web() as web:
        web.execute("SELECT set_config('pyflow.tenant_id', %s, false)", [str(tenant.pk)])
        for way in ("UPDATE tenants_auditentry SET action = 'x'", "DELETE FROM tenants_auditentry"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(way)
