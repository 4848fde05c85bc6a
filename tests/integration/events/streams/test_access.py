"""A stream ends when what it was allowed by ends."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tenants.access import Role
from tests.support.factories.rows import make_api_key, make_member
from tests.support.factories.worlds import token_of
from tests.support.streams import following, happen

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
PATH = "/api/v1/events?after=now"


def test_a_revoked_key_ends_its_stream_and_no_other(server: str, tenant, credential: str):
    key, text = make_api_key(tenant, name="to be revoked")
    with following(server, PATH, f"Bearer {text}") as stream, following(server, PATH, credential) as other:
        stream.next()
        other.next()
        key.revoke()
        [end] = stream.rest()
        happen(tenant)
        assert other.events(1)[0].event == "custom.made"
    assert (end.event, end.id, end.data["reason"]) == ("end", None, "not_authenticated")


def test_a_membership_that_ends_ends_its_streams(server: str, tenant):
    member = make_member(tenant, Role.VIEWER)
    with following(server, PATH, f"Bearer {token_of(member)}") as stream:
        stream.next()
        member.delete()
        [end] = stream.rest()
    assert end.data["reason"] == "not_authenticated"


def test_a_credential_that_expires_ends_its_stream(server: str, tenant):
    _, text = make_api_key(tenant, name="short", expires_at=timezone.now() + timedelta(seconds=2))
    with following(server, PATH, f"Bearer {text}") as stream:
        [end] = stream.rest()
    assert end.data["reason"] == "not_authenticated"
