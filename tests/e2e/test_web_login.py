"""Web processes with a database login of their own, which is a member of the web's role and nothing else."""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from tenants.access import Role
from tenants.models import Membership, Tenant
from tenants.scoping import WEB_ROLE
from tests.support import waiting
from tests.support.factories.rows import (
    make_api_key,
    make_invitation,
    make_member,
    make_run,
    make_superuser,
    make_tenant,
    make_workflow,
)
from tests.support.factories.secrets import make_secret
from tests.support.passwords import PASSWORD
from tests.support.processes.platform import Server, Worker, database_url, environment
from tests.support.servers import launcher

OPERATOR = """INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff,
    is_active, date_joined) VALUES ('x', '', '', '', '', true, true, true, now())"""
INTRUDER = """INSERT INTO tenants_membership (id, tenant_id, user_id, role, created_at, updated_at)
    VALUES (gen_random_uuid(), '{tenant}', {user}, 'owner', now(), now())"""
pytestmark = [pytest.mark.fleet, pytest.mark.e2e]


@pytest.fixture
def login(transactional_db) -> Iterator[str]:
    """The URL of the tests' database for a login of the web, made as `docs/how-to/access.md` says."""
    name = f"web_{secrets.token_hex(6)}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'a test' IN ROLE {WEB_ROLE}")
    url = urlsplit(database_url())
    yield url._replace(netloc=f"{name}:a%20test@{url.hostname}:{url.port}").geturl()
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE {name}")


@pytest.fixture
def tenant(transactional_db) -> Tenant:
    return make_tenant()


def _gunicorn(server: Server) -> None:
    listen = ["-b", f"127.0.0.1:{server.port}", "-k", "gthread", "--threads", "4"]
    server.command = [sys.executable, "-m", "gunicorn", "pyflow_site.wsgi:application", *listen]


@pytest.mark.parametrize("as_wsgi", [True, False], ids=["gunicorn", "daphne"])
def test_the_platform_is_served_with_it(login: str, tenant: Tenant, tmp_path: Path, as_wsgi: bool):
    member = make_member(tenant, Role.EDITOR)
    make_workflow(tenant)
    _, invitation = make_invitation(tenant, "ada@example.org")
    _, key = make_api_key(tenant)
    with launcher.redis() as broker:
        owner = environment(tmp_path / "home", REDIS_URL=broker, PYFLOW_EXECUTOR="celery")
        server = Server(owner | {"DATABASE_URL": login}, tmp_path / "server", key)
        if as_wsgi:
            _gunicorn(server)
        worker = Worker(owner, tmp_path / "worker")
        server.is_forked = worker.is_forked = False  # the commands themselves, as an operator starts them
        with server, worker:
            status, ready = server.call("GET", "/api/v1/health/ready")
            assert (status, set(ready["checks"].values())) == (200, {"ok"})
            who = {"username": member.user.get_username(), "password": PASSWORD, "tenant": tenant.slug}
            status, pair = server.call("POST", "/api/v1/auth/token", who)
            assert status == 200, pair
            accepted = {"token": invitation, "password": PASSWORD}
            assert server.call("POST", "/api/v1/invitations/accept", accepted)[0] == 201
            status, run = server.call("POST", "/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}})
            assert status == 202, run
            address = f"/api/v1/runs/{run['id']}"
            waiting.until(lambda: server.call("GET", address)[1]["finished_at"], what="end of the run")
            assert server.call("GET", address)[1]["outputs"] == {"greeting": "Hello Ada"}
        assert "permission denied" not in server.log()
    assert Membership.objects.for_tenant(tenant).filter(user__username="ada@example.org").exists()


def test_sql_of_the_worst_kind_gives_nothing(login: str, tenant: Tenant):
    """Whatever a web process is made to execute: rows of tenants stay apart, and nobody becomes more."""
    root, user = make_superuser(), make_member(tenant).user
    make_run(tenant)
    make_secret(tenant)
    mine = make_tenant()
    with psycopg.connect(login, autocommit=True) as web:
        web.execute("SELECT set_config('pyflow.tenant_id', %s, false)", [str(mine.pk)])
        for table in ("runs_run", "runs_runevent", "workflows_workflow", "secrets_vault_secretversion"):
            assert web.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        for statement in (
            "SELECT * FROM django_session",
            "SELECT * FROM django_admin_log",
            "SELECT * FROM auth_user_groups",
            "DELETE FROM auth_user",
            f"UPDATE auth_user SET is_superuser = true WHERE id = {user.pk}",
            f"UPDATE auth_user SET is_active = false WHERE id = {user.pk}",
            "UPDATE tenants_tenant SET plan = 'enterprise'",
            "UPDATE tenants_tenant SET suspended_at = NULL",
            "DELETE FROM tenants_tenant",
            OPERATOR,
            INTRUDER.format(tenant=tenant.pk, user=user.pk),
            "CREATE TABLE loot (x int)",
            "CREATE FUNCTION loot() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "COPY runs_run TO PROGRAM 'cat'",
            "SELECT pg_read_file('/etc/hostname')",
            "SET row_security = off; SELECT * FROM runs_run",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(statement)
        web.execute("RESET row_security")
        assert web.execute("UPDATE auth_user SET password = 'x' WHERE is_superuser").rowcount == 0
    root.refresh_from_db()
    assert root.password != "x"
    assert not User.objects.filter(username="x").exists()
