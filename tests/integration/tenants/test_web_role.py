"""The role of web processes has no more privileges than it needs, and a system check warns the operator otherwise."""

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection

from tenants import scoping
from tenants.row_security import shortcomings
from tenants.scoping import WEB_ROLE, tenant_scope
from tests.support.factories.members import log_in
from tests.support.factories.rows import make_member, make_tenant
from tests.support.passwords import PASSWORD
from tests.support.processes import forked

pytestmark = pytest.mark.fleet


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _warnings() -> list[str]:
    return [message.msg for message in run_checks(databases=["default"]) if message.id == "tenants.W001"]


def test_after_the_migrations_nothing_is_missing_and_nothing_too_much(db):
    assert shortcomings(connection) == []
    assert _warnings() == []


BROKEN = {
    "ALTER TABLE workflows_workflow DISABLE ROW LEVEL SECURITY": "without a policy: workflows_workflow",
    "DROP POLICY pyflow_tenant ON runs_run": "without a policy: runs_run",
    f"REVOKE ALL ON runs_run FROM {WEB_ROLE}": "not granted to pyflow_web: runs_run",
    f"GRANT SELECT ON django_session TO {WEB_ROLE}": "granted to pyflow_web without need: django_session",
    f"GRANT SELECT (id) ON auth_user_groups TO {WEB_ROLE}": "granted to pyflow_web without need: auth_user_groups",
    f"ALTER ROLE {WEB_ROLE} BYPASSRLS": "above row-level security",
}


@pytest.mark.parametrize("statement", [statement for statement in BROKEN if "ROLE" not in statement.split()[:2]])
def test_what_is_wrong_is_named_and_mended_by_a_command(db, statement: str):
    _execute(statement)
    assert len(_warnings()) == 1
    assert BROKEN[statement] in _warnings()[0]
    call_command("rowsecurity")
    assert _warnings() == []


def test_a_role_above_the_policies_is_named(db):
    _execute(f"ALTER ROLE {WEB_ROLE} BYPASSRLS")
    assert "above row-level security" in _warnings()[0]


def test_a_role_that_is_not_there_is_named_and_logged_once(db, monkeypatch, caplog):
    monkeypatch.setattr(scoping, "WEB_ROLE", "no_such_role")
    monkeypatch.setattr("tenants.row_security.WEB_ROLE", "no_such_role")
    monkeypatch.setattr(scoping, "_may_take_role", None)
    assert _warnings() == ["Row-level security is not complete. The role no_such_role does not exist."]
    tenant = make_tenant()
    for _ in range(2):
        with tenant_scope(tenant.pk, write=False):
            pass
    assert len([record for record in caplog.records if "without row-level security" in record.message]) == 1


@pytest.mark.parametrize("is_staff", [True, False])
def test_an_old_hash_keeps_nobody_out_whose_password_the_web_may_not_change(db, is_staff: bool):
    """Django hashes a password anew at a login; of staff, the web's role cannot store that."""
    member = make_member(make_tenant())
    member.user.is_staff = is_staff
    member.user.password = before = PBKDF2PasswordHasher().encode(PASSWORD, "a-salt-of-long-ago", iterations=2)
    member.user.save()
    _execute(f"SET ROLE {WEB_ROLE}")
    assert log_in(member).status_code == 200
    _execute("RESET ROLE")
    member.user.refresh_from_db()
    assert (member.user.password == before) is is_staff
    assert log_in(member, password="another").status_code == 401


@pytest.fixture
def plain() -> Iterator[dict[str, str]]:
    """The environment of an owner of a database who may make no roles; its URL is that of a database of its own."""
    name, url = f"plain_{secrets.token_hex(6)}", urlsplit(os.environ["DATABASE_URL"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as root:
        root.execute(f"CREATE ROLE {name} LOGIN")
        root.execute(f"CREATE DATABASE {name} OWNER {name}")
        own = url._replace(netloc=f"{name}@{url.hostname}:{url.port}", path=f"/{name}").geturl()
        yield {**os.environ, "DATABASE_URL": own, "OWNER": name}
        root.execute(f"DROP DATABASE {name} WITH (FORCE)")
        root.execute(f"DROP ROLE {name}")


def _manage(environment: dict[str, str], *arguments: str) -> str:
    ran = forked.run(["manage.py", *arguments], environment)
    return ran.stdout + ran.stderr


@pytest.mark.django_db
def test_an_owner_without_the_right_to_create_roles_is_warned_and_another_user_can_create_them(plain: dict[str, str]):
    """`docs/how-to/access.md`, as it is written. The role is one of the server's: the tests' database has made it."""
    assert "Applying tenants.0001_initial" in _manage(plain, "migrate")
    told = _manage(plain, "check", "--database", "default")
    assert "tenants.W001" in told
    assert f"may not act as {WEB_ROLE}" in told
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as root:
        root.execute(f"GRANT {WEB_ROLE} TO {plain['OWNER']}")
    assert "Row-level security holds for every request." in _manage(plain, "rowsecurity")
    assert "no issues" in _manage(plain, "check", "--database", "default")
