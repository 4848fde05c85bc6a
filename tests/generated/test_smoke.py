"""Each operation of the OpenAPI document is called once, on SQLite and on PostgreSQL, and answers as documented."""

import pytest
from django.db import transaction

from tenants.access import Role
from tests.support.api import Api, read
from tests.support.factories.calls import CALLS, Call
from tests.support.factories.members import log_in
from tests.support.factories.rows import make_invitation, make_member
from tests.support.factories.worlds import FullTenant, token_of
from tests.support.invariants import made_of_rows
from tests.support.operations import operations
from tests.support.passwords import PASSWORD

pytestmark = [
    pytest.mark.api,
    pytest.mark.vendor("any statement may be refused by one vendor only"),
    made_of_rows,
]


@pytest.mark.parametrize("id", operations())
def test_a_valid_request_of_the_owner_is_answered_as_documented(ours: FullTenant, id: str):
    owner = Api(token_of(make_member(ours.tenant, Role.OWNER)))
    with transaction.atomic():
        answer = ours.call(operations()[id], owner)
        transaction.set_rollback(True)
    assert answer.status_code == CALLS.get(id, Call()).status, answer.content
    assert str(answer.status_code) in operations()[id].spec["responses"]


#: Requests with a password, a token of a session or a token of an invitation, none of which a world has.
PROOFS = {
    "auth_token": lambda ours: log_in(make_member(ours.tenant)),
    "auth_refresh": lambda ours: _with_session(ours, "/api/v1/auth/refresh"),
    "auth_revoke": lambda ours: _with_session(ours, "/api/v1/auth/revoke"),
    "invitations_accept": lambda ours: Api().post(
        "/api/v1/invitations/accept", {"token": make_invitation(ours.tenant)[1], "password": PASSWORD}
    ),
}


def test_the_others_are_refused_for_lack_of_a_proof():
    assert {id for id, call in CALLS.items() if call.status >= 400} <= PROOFS.keys()


@pytest.mark.parametrize("id", PROOFS)
def test_who_proves_who_they_are_is_let_in(ours: FullTenant, id: str):
    answer = PROOFS[id](ours)
    assert answer.status_code < 300, answer.content
    assert str(answer.status_code) in operations()[id].spec["responses"]


def _with_session(ours: FullTenant, path: str):
    return Api().post(path, {"refresh_token": read(log_in(make_member(ours.tenant)))["refresh_token"]})
