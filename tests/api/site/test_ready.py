"""`GET /api/v1/health/ready`."""

import pytest
from django.db import OperationalError, connection

from pyflow_site import health
from tenants import scoping
from tests.support import launcher
from tests.support.api import YAML, Api, read

OPERATION = "health_ready"
ROW_SECURITY = {"row_security": "ok"} if connection.vendor == "postgresql" else {}
PATH = "/api/v1/health/ready"
pytestmark = pytest.mark.database


def test_everything_is_in_place(nobody: Api, settings):
    settings.PYFLOW_EXECUTOR = "inprocess"
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response) == {"status": "ok", "checks": {"database": "ok", "migrations": "ok"} | ROW_SECURITY}


@pytest.mark.fleet
def test_a_real_broker_is_in_place(nobody: Api):
    assert read(nobody.get(PATH))["checks"] == {
        "database": "ok",
        "migrations": "ok",
        "row_security": "ok",
        "broker": "ok",
    }


@pytest.mark.fleet
def test_row_security_that_does_not_hold_is_named(nobody: Api, settings, monkeypatch):
    """It is no reason to serve nothing; how it comes about is in `tests/integration/test_web_role.py`."""
    monkeypatch.setattr(scoping, "WEB_ROLE", "no_such_role")
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response)["checks"]["row_security"] == "off"


def test_a_broker_that_is_away_is_named(nobody: Api, settings):
    settings.PYFLOW_EXECUTOR = "celery"
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{launcher.free_port()}/0"
    response = nobody.get(PATH)
    assert response.status_code == 503
    assert read(response)["status"] == "failing"
    assert read(response)["checks"]["broker"] == "unreachable"


def test_a_database_that_is_away_is_named(nobody: Api, settings, monkeypatch):
    class Away:
        def cursor(self) -> None:
            raise OperationalError("connection refused by 10.1.2.3")

    settings.PYFLOW_EXECUTOR = "inprocess"
    monkeypatch.setattr(health, "connection", Away())
    response = nobody.get(PATH)
    assert response.status_code == 503
    assert read(response) == {"status": "failing", "checks": {"database": "unreachable"}}
    assert b"10.1.2.3" not in response.content


def test_migrations_that_are_pending_are_named(nobody: Api, settings, monkeypatch):
    settings.PYFLOW_EXECUTOR = "inprocess"
    monkeypatch.setattr(health, "_migrated", False)
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda *_: [("runs", "0002")])
    response = nobody.get(PATH)
    assert response.status_code == 503
    assert read(response)["checks"] == {"database": "ok", "migrations": "pending"} | ROW_SECURITY


def test_it_answers_in_yaml(nobody: Api):
    response = nobody.get(PATH, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["checks"]["database"] == "ok"


def test_a_probe_costs_one_query(nobody: Api, django_assert_num_queries):
    nobody.get(PATH)
    with django_assert_num_queries(1):
        nobody.get(PATH)
