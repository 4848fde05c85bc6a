"""`POST /api/v1/auth/revoke`."""

import pytest

from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, read
from tests.support.factories.members import log_in
from tests.support.factories.rows import make_member

OPERATION = "auth_revoke"
PATH = "/api/v1/auth/revoke"
pytestmark = pytest.mark.api


def _revoke(token: str):
    return Api().post(PATH, {"refresh_token": token})


def test_who_logs_out_is_out_at_once(tenant):
    pair = read(log_in(make_member(tenant)))
    api = Api(pair["access_token"])
    assert api.get("/api/v1/workflows").status_code == 200
    assert _revoke(pair["refresh_token"]).status_code == 204
    assert_problem(api.get("/api/v1/workflows"), 401, "authentication_failed")
    assert_problem(Api().post("/api/v1/auth/refresh", {"refresh_token": pair["refresh_token"]}), 401, "token_invalid")
    assert AuditEntry.objects.for_tenant(tenant).filter(action="session.ended").count() == 1


def test_an_unknown_token_is_as_good_as_ended(nobody: Api):
    assert _revoke("x").status_code == 204


def test_logging_out_twice_is_logging_out_once(tenant):
    token = read(log_in(make_member(tenant)))["refresh_token"]
    assert [_revoke(token).status_code for _ in range(2)] == [204, 204]
    assert AuditEntry.objects.for_tenant(tenant).filter(action="session.ended").count() == 1


def test_its_queries_are_counted(tenant, django_assert_num_queries):
    token = read(log_in(make_member(tenant)))["refresh_token"]
    # The token, twice: whose it is, and its lock; the user; the family; the version; the audit's head, entry, new end.
    with django_assert_num_queries(8):
        assert _revoke(token).status_code == 204
