"""`POST /api/v1/auth/tickets`."""

from datetime import timedelta

import pytest
from django.utils import timezone

from events import tickets
from events.models import StreamTicket
from tenants.access import Role
from tenants.errors import InvalidKeyError, InvalidTokenError
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member, make_run, make_tenant
from tests.support.factories.worlds import token_of

OPERATION = "auth_tickets"
PATH = "/api/v1/auth/tickets"
pytestmark = [pytest.mark.api, pytest.mark.vendor("a row is deleted by one of two that redeem it at once")]


@pytest.fixture
def run(tenant):
    return make_run(tenant)


def test_a_ticket_acts_once_for_the_key_that_asked(api: Api, tenant, run):
    key, text = make_api_key(tenant, name="narrow", scopes=["runs:read"])
    answer = Api(text).post(PATH, {"run": str(run.pk)})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    body = read(answer)
    assert (body["run"], body["expires_in"]) == (str(run.pk), 30)
    row = StreamTicket.objects.for_tenant(tenant).get()
    assert body["ticket"] not in row.token_hash
    principal = tickets.redeem(body["ticket"], run_id=run.pk)
    assert (principal.id, principal.scopes) == (str(key.pk), frozenset({"runs:read"}))
    with pytest.raises(InvalidTokenError):
        tickets.redeem(body["ticket"], run_id=run.pk)


@pytest.mark.parametrize("asked", [{}, {"run": None}])
def test_a_ticket_is_for_one_stream(api: Api, run, asked):
    text = read(api.post(PATH, asked))["ticket"]
    with pytest.raises(InvalidTokenError):
        tickets.redeem(text, run_id=run.pk)
    assert tickets.redeem(read(api.post(PATH, asked))["ticket"], run_id=None).kind == "key"


def test_a_ticket_ends_with_its_time_and_with_its_credential(api: Api, tenant):
    late = read(api.post(PATH, {}))["ticket"]
    StreamTicket.objects.for_tenant(tenant).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(InvalidTokenError):
        tickets.redeem(late, run_id=None)
    key, text = make_api_key(tenant, name="short")
    revoked = read(Api(text).post(PATH, {}))["ticket"]
    key.revoke()
    with pytest.raises(InvalidKeyError):
        tickets.redeem(revoked, run_id=None)


def test_a_ticket_of_a_member_acts_for_them_while_they_are_one(tenant):
    member = make_member(tenant, Role.VIEWER)
    api = Api(token_of(member))
    principal = tickets.redeem(read(api.post(PATH, {}))["ticket"], run_id=None)
    assert (principal.kind, principal.role) == ("user", "viewer")
    assert principal.credential_ends_at is not None
    text = read(api.post(PATH, {}))["ticket"]
    member.delete()
    with pytest.raises(InvalidTokenError):
        tickets.redeem(text, run_id=None)


def test_tickets_that_expired_are_removed_with_the_next(api: Api, tenant):
    api.post(PATH, {})
    StreamTicket.objects.for_tenant(tenant).update(expires_at=timezone.now())
    api.post(PATH, {})
    assert StreamTicket.objects.for_tenant(tenant).count() == 1


def test_a_ticket_is_no_credential_of_a_request(api: Api):
    text = read(api.post(PATH, {}))["ticket"]
    for credential in (f"Ticket {text}", f"Bearer {text}"):
        answer = api.get("/api/v1/events", authorization=credential)
        assert answer.status_code == 401
    assert_problem(api.get(f"/api/v1/events?ticket={text}"), 422, "input_invalid")


def test_it_hides_other_tenants(api: Api):
    run = make_run(make_tenant("other"))
    assert_problem(api.post(PATH, {"run": str(run.pk)}), 404, "run_not_found")


def test_it_needs_a_key():
    assert_problem(Api().post(PATH, {}), 401, "not_authenticated")


def test_it_takes_a_fixed_number_of_queries(api: Api, run, django_assert_num_queries):
    api.post(PATH, {})
    with django_assert_num_queries(3):
        api.post(PATH, {"run": str(run.pk)})
