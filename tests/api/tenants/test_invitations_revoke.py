"""`DELETE /api/v1/invitations/{id}`."""

import pytest

from pyflow.core.ids import new_uuid
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer
from tests.support.factories.rows import make_api_key, make_invitation

OPERATION = "invitations_revoke"
PATH = "/api/v1/invitations"
pytestmark = pytest.mark.api


def revoke(api: Api, invitation):
    return api.send("DELETE", f"{PATH}/{invitation.pk}")


def test_its_token_is_of_no_use_afterwards(api: Api, nobody: Api, tenant):
    invitation, token = make_invitation(tenant)
    assert revoke(api, invitation).status_code == 204
    assert revoke(api, invitation).status_code == 204
    response = nobody.post(f"{PATH}/accept", {"token": token, "password": "correct horse battery"})
    assert_problem(response, 409, "invitation_closed")
    actions = AuditEntry.objects.for_tenant(tenant).values_list("action", flat=True)
    assert list(actions) == ["invitation.created", "invitation.revoked"]


def test_what_was_accepted_is_not_revoked(api: Api, tenant):
    invitation, _ = make_invitation(tenant)
    invitation.accept()
    assert_problem(revoke(api, invitation), 409, "invitation_closed")


def test_an_editor_does_not_revoke(tenant):
    invitation, _ = make_invitation(tenant)
    assert_problem(revoke(Api(make_api_key(tenant, role="editor")[1]), invitation), 403, "forbidden")


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(revoke(nobody, make_invitation(tenant)[0]), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    invitation, _ = make_invitation(tenant)
    theirs = revoke(other_api, invitation)
    assert_problem(theirs, 404, "invitation_not_found")
    assert_same_answer(theirs, other_api.send("DELETE", f"{PATH}/{new_uuid()}"))
    invitation.refresh_from_db()
    assert invitation.open


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    first, second = make_invitation(tenant)[0], make_invitation(tenant)[0]
    revoke(api, first)
    with django_assert_num_queries(5):  # itself, twice; the audit's head, entry and head
        revoke(api, second)
