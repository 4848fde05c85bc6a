"""`GET /api/v1/health/ready`."""

import base64
import os

import pytest
from django.db import OperationalError, connection

from pyflow_site import health
from secrets_vault.services import create_secret
from tenants import scoping
from tests.support.api import YAML, Api, read
from tests.support.factories.rows import a_test
from tests.support.servers import launcher

OPERATION = "health_ready"
ROW_SECURITY = {"row_security": "ok"} if connection.vendor == "postgresql" else {}
PATH = "/api/v1/health/ready"
pytestmark = [pytest.mark.api, pytest.mark.vendor("what has to be in place differs between vendors")]


def test_everything_is_in_place(nobody: Api, settings):
    settings.PYFLOW_EXECUTOR = "inprocess"
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response) == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "master_key": "ok"} | ROW_SECURITY,
    }


@pytest.mark.fleet
def test_a_real_broker_is_in_place(nobody: Api):
    assert read(nobody.get(PATH))["checks"] == {
        "database": "ok",
        "migrations": "ok",
        "master_key": "ok",
        "row_security": "ok",
        "broker": "ok",
    }


@pytest.mark.fleet
def test_row_security_that_does_not_hold_is_named(nobody: Api, settings, monkeypatch):
    """It is no reason to serve nothing; how it comes about is in `tests/integration/tenants/test_web_role.py`."""
    monkeypatch.setattr(scoping, "WEB_ROLE", "no_such_role")
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response)["checks"]["row_security"] == "off"


def test_a_broker_that_is_away_is_named_and_takes_no_process_out_of_service(nobody: Api, settings):
    settings.PYFLOW_EXECUTOR = "celery"
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{launcher.free_port()}/0"
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response)["status"] == "degraded"
    assert read(response)["checks"]["broker"] == "unreachable"


def test_a_master_key_that_is_lost_is_named(nobody: Api, tenant, settings):
    create_secret(name="API_KEY", value="a long value", by=a_test(tenant))
    settings.PYFLOW_EXECUTOR = "inprocess"
    settings.PYFLOW_MASTER_KEYS = f"other:{base64.b64encode(os.urandom(32)).decode()}"
    response = nobody.get(PATH)
    assert (response.status_code, read(response)["status"]) == (200, "degraded")
    assert read(response)["checks"]["master_key"] == "lost"
    settings.PYFLOW_MASTER_KEYS = ""
    assert read(nobody.get(PATH))["checks"]["master_key"] == "lost"


def test_no_master_key_where_none_is_needed_is_nothing_to_mend(nobody: Api, settings):
    settings.PYFLOW_EXECUTOR, settings.PYFLOW_MASTER_KEYS = "inprocess", ""
    assert read(nobody.get(PATH))["status"] == "ok"
    assert read(nobody.get(PATH))["checks"]["master_key"] == "off"


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
    assert read(response)["checks"] == {"database": "ok", "migrations": "pending"}


def test_it_answers_in_yaml(nobody: Api):
    response = nobody.get(PATH, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["checks"]["database"] == "ok"


def test_a_probe_costs_two_queries(nobody: Api, django_assert_num_queries):
    nobody.get(PATH)
    with django_assert_num_queries(2):  # does it answer; data keys of other master keys
        nobody.get(PATH)
