"""`POST /api/v1/auth/refresh`."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tenants.models import AuditEntry, RefreshToken
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.members import log_in
from tests.support.factories.rows import make_member

OPERATION = "auth_refresh"
PATH = "/api/v1/auth/refresh"
pytestmark = pytest.mark.api


def _refresh(token: str):
    return Api().post(PATH, {"refresh_token": token})


def test_a_refresh_token_is_traded_for_the_next_pair(tenant):
    first = read(log_in(make_member(tenant)))
    response = _refresh(first["refresh_token"])
    second = read(response)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert second["refresh_token"] != first["refresh_token"]
    assert Api(second["access_token"]).get("/api/v1/workflows").status_code == 200
    assert read(_refresh(second["refresh_token"]))["access_token"]


def test_a_token_that_is_shown_twice_ends_the_whole_session(tenant):
    first = read(log_in(make_member(tenant)))
    second = read(_refresh(first["refresh_token"]))
    assert_problem(_refresh(first["refresh_token"]), 401, "token_invalid")
    assert_problem(_refresh(second["refresh_token"]), 401, "token_invalid")
    for pair in (first, second):
        assert_problem(Api(pair["access_token"]).get("/api/v1/workflows"), 401, "authentication_failed")
    assert AuditEntry.objects.for_tenant(tenant).filter(action="session.ended").count() == 1


def test_another_session_of_the_same_user_goes_on(tenant):
    member = make_member(tenant)
    one, other = read(log_in(member)), read(log_in(member))
    _refresh(one["refresh_token"])
    _refresh(one["refresh_token"])
    assert _refresh(other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("what", ["too old", "of somebody who left", "unknown"])
def test_what_is_not_good_any_more_is_refused_alike(tenant, what: str):
    member = make_member(tenant)
    token = read(log_in(member))["refresh_token"]
    if what == "too old":
        RefreshToken.objects.for_tenant(tenant).update(expires_at=timezone.now() - timedelta(seconds=1))
    elif what == "unknown":
        token = "x" * 43
    else:
        member.delete()
    response = _refresh(token)
    assert_problem(response, 401, "token_invalid")
    assert_same_answer(response, _refresh("y"))


def test_stored_data_does_not_reveal_the_token(tenant):
    token = read(log_in(make_member(tenant)))["refresh_token"]
    kept = [str(value) for row in RefreshToken.objects.for_tenant(tenant).values_list() for value in row]
    assert not any(token in value for value in kept)


def test_guessing_is_throttled(nobody: Api):
    for number in range(30):
        assert_problem(_refresh(f"guess {number}"), 401, "token_invalid")
    assert_problem(_refresh("another guess"), 429, "too_many_failures")


def test_its_queries_are_counted(tenant, django_assert_num_queries):
    token = read(log_in(make_member(tenant)))["refresh_token"]
    with django_assert_num_queries(5):  # the token, twice: whose it is, and its lock; the member; it is used; the next
        assert _refresh(token).status_code == 200
