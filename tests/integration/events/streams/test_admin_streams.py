"""Streams of the admin's pages, which know their user by the session."""

import httpx2
import pytest
from django.test import Client
from django.urls import reverse

from tests.support.factories.records import record
from tests.support.factories.rows import make_run, make_superuser, make_user
from tests.support.streams import SSE, EventFrames

pytestmark = pytest.mark.django_db(transaction=True)


def session(user) -> dict[str, str]:
    client = Client()
    client.force_login(user, "tenants.passwords.PasswordBackend")
    return SSE | {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def test_a_session_follows_a_run_while_it_may(server: str, tenant):
    user = make_superuser()
    run = make_run(tenant)
    address = f"http://{server}{reverse('live-run', args=[run.pk])}"
    with httpx2.Client(timeout=20) as client:
        with client.stream("GET", f"{address}?after=1", headers=session(user)) as response:
            stream = EventFrames(response)
            stream.next()
            record(run)
            assert [frame.id for frame in stream.rest()] == ["2", "3", "4", "5", None]
        log = f"http://{server}{reverse('live-tenant', args=[tenant.pk])}"
        with client.stream("GET", log, headers=session(user)) as response:
            stream = EventFrames(response)
            stream.next()
            user.is_active = False
            user.save()
            assert [frame.data["reason"] for frame in stream.rest()] == ["forbidden"]


def test_others_see_nothing(server: str, tenant):
    run = make_run(tenant)
    stranger = make_user("stranger")
    stranger.is_staff = True
    stranger.save()
    for name, id in (("live-run", run.pk), ("live-tenant", tenant.pk)):
        address = f"http://{server}{reverse(name, args=[id])}"
        assert httpx2.get(address, headers=SSE).status_code == 403
        assert httpx2.get(address, headers=session(stranger)).status_code == 404
