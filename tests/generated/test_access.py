"""Every operation, without a credential, in each role and in each scope: allowed to whom the matrix allows it.

The matrix is asked before the database is, so one of the two is enough; `test_smoke.py` sends valid requests to both.
"""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import transaction

from tenants.access import LEAST_ROLE, Permission, Role
from tests.support.api import Api
from tests.support.factories.calls import CALLS, NEEDED, NOT_FOR_KEYS, OPEN
from tests.support.factories.rows import make_api_key, make_member
from tests.support.factories.worlds import FullTenant, token_of
from tests.support.invariants import made_of_rows
from tests.support.operations import Operation, operations

pytestmark = made_of_rows

CLOSED = {id: operation for id, operation in operations().items() if not operation.is_open}


def attempt(world: FullTenant, operation: Operation, api: Api) -> Any:
    """The answer to a valid request, whose effects are undone."""
    with transaction.atomic():
        response = world.call(operation, api)
        transaction.set_rollback(True)
    return response


def is_refused(response: Any) -> bool:
    """Whether the matrix said no: not the state of the object, nor a rule about what may be given away."""
    return response.status_code == 403 and json.loads(response.content)["code"] == "forbidden"


def refused(world: FullTenant, api: Api, asked: Iterable[str] = CLOSED) -> set[str]:
    """The operations that a client may not use, of those that are asked."""
    answers = {id: attempt(world, CLOSED[id], api) for id in asked}
    assert {
        id for id, answer in answers.items() if answer.status_code in {401, 429} or answer.status_code >= 500
    } == set()
    return {id for id, answer in answers.items() if is_refused(answer)}


def beyond(role: Role) -> set[str]:
    """The operations that a role does not have the permission for."""
    return {id for id, needed in NEEDED.items() if needed is not None and LEAST_ROLE[needed].rank > role.rank}


def test_every_operation_says_what_it_needs():
    assert NEEDED.keys() | OPEN == operations().keys(), (
        "name the operation in NEEDED of tests/support/factories/calls.py"
    )
    assert operations().keys() - CLOSED.keys() == OPEN
    assert CALLS.keys() <= operations().keys()


def test_nothing_is_answered_without_a_credential(ours: FullTenant):
    for id, operation in CLOSED.items():
        for api in (Api(), Api("pyf_live_0000000000000000_00000000000000000000000000000000AAAAAA")):
            response = attempt(ours, operation, api)
            assert response.status_code == 401, id
            assert response.headers["WWW-Authenticate"].startswith("Bearer"), id


@pytest.mark.parametrize("role", list(Role))
def test_a_key_may_what_its_role_may(ours: FullTenant, role: Role):
    assert refused(ours, Api(make_api_key(ours.tenant, role=role.value)[1])) == beyond(role) | NOT_FOR_KEYS


@pytest.mark.parametrize("role", list(Role))
def test_a_member_may_what_their_role_may(ours: FullTenant, role: Role):
    assert refused(ours, Api(token_of(make_member(ours.tenant, role)))) == beyond(role)


@pytest.mark.parametrize("scope", list(Permission))
def test_a_scope_lets_through_what_needs_it_and_nothing_else(ours: FullTenant, scope: Permission):
    only = Api(make_api_key(ours.tenant, scopes=[scope.value])[1])
    assert refused(ours, only) == {id for id, needed in NEEDED.items() if needed not in {None, scope}} | NOT_FOR_KEYS
    others = Api(make_api_key(ours.tenant, scopes=[item.value for item in Permission if item != scope])[1])
    needing = {id for id, needed in NEEDED.items() if needed == scope}
    assert refused(ours, others, needing) == needing


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR, Role.OWNER])
def test_a_scope_adds_nothing_to_a_role(ours: FullTenant, role: Role):
    everything = [permission.value for permission in Permission]
    assert (
        refused(ours, Api(make_api_key(ours.tenant, role=role.value, scopes=everything)[1]))
        == beyond(role) | NOT_FOR_KEYS
    )
