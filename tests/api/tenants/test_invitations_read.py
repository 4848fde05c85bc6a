"""`GET /api/v1/invitations/{id}`."""

import pytest
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.models import Invitation
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_invitation

OPERATION = "invitations_read"
PATH = "/api/v1/invitations"
pytestmark = pytest.mark.api


def test_it_shows_what_became_of_it(api: Api, tenant):
    invitation, token = make_invitation(tenant, "ada@example.org")
    response = api.get(f"{PATH}/{invitation.pk}")
    assert (read(response)["email"], read(response)["state"]) == ("ada@example.org", "open")
    assert token.encode() not in response.content
    Invitation.objects.for_tenant(tenant).update(expires_at=timezone.now())
    assert read(api.get(f"{PATH}/{invitation.pk}"))["state"] == "expired"


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(nobody.get(f"{PATH}/{make_invitation(tenant)[0].pk}"), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    theirs = other_api.get(f"{PATH}/{make_invitation(tenant)[0].pk}")
    assert_problem(theirs, 404, "invitation_not_found")
    assert_same_answer(theirs, other_api.get(f"{PATH}/{new_uuid()}"))


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    invitation, _ = make_invitation(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        api.get(f"{PATH}/{invitation.pk}")
