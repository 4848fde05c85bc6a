"""What operators see and do about webhooks in the admin."""

import pytest
from django.contrib.auth.models import Permission as ModelPermission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import Delivery, DeliveryAttempt, WebhookEndpoint
from events.webhooks.endpoints import try_endpoint
from tenants.access import Role
from tenants.models import AuditEntry, Tenant
from tests.support.factories.rows import a_test, make_member, make_superuser, make_tenant
from tests.support.factories.webhooks import make_endpoint

pytestmark = [pytest.mark.api, pytest.mark.e2e]
LIST, DELIVERIES = "admin:events_webhookendpoint_changelist", "admin:events_delivery_changelist"


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def broken(tenant: Tenant) -> WebhookEndpoint:
    """An endpoint with two dead deliveries, one of which has an attempt on record."""
    endpoint, _ = make_endpoint(tenant, "https://broken.example/")
    for _ in range(2):
        row = try_endpoint(by=a_test(tenant), endpoint=endpoint)
    Delivery.objects.for_tenant(tenant).update(state="exhausted", due_at=None, finished_at=timezone.now())
    DeliveryAttempt.objects.create(
        tenant=tenant, delivery=row, number=1, at=timezone.now(), duration_ms=12, status=502, error="status",
        excerpt="<b>bad gateway</b>",
    )  # fmt: skip
    return endpoint


def post(client: Client, view: str, action: str, row: WebhookEndpoint | Delivery) -> str:
    posted = {"action": action, "_selected_action": [str(row.pk)]}
    return client.post(reverse(view), posted, follow=True).content.decode()


def test_endpoints_with_dead_deliveries_are_found(root: Client, broken: WebhookEndpoint, tenant: Tenant):
    make_endpoint(tenant, "https://works.example/")
    every, dead = (root.get(reverse(LIST) + query).content.decode() for query in ("", "?dead=yes"))
    assert "https://works.example/" in every
    assert "https://broken.example/" in dead
    assert "https://works.example/" not in dead
    assert '<td class="field-dead_deliveries">2</td>' in dead


def test_dead_deliveries_are_sent_again(root: Client, broken: WebhookEndpoint, tenant: Tenant):
    assert "2 deliveries are sent again." in post(root, LIST, "redeliver_dead", broken)
    assert set(Delivery.objects.for_tenant(tenant).values_list("state", flat=True)) == {"pending"}
    entry = AuditEntry.objects.for_tenant(tenant).get(action="webhook.redelivered")
    assert entry.actor_kind == "user"


def test_one_is_paused_and_resumed(root: Client, broken: WebhookEndpoint):
    for action, state in (("pause", "paused"), ("resume", "active")):
        post(root, LIST, action, broken)
        broken.refresh_from_db()
        assert broken.state == state


def test_a_delivery_shows_what_the_receiver_said(root: Client, broken: WebhookEndpoint, tenant: Tenant):
    row = DeliveryAttempt.objects.for_tenant(tenant).get().delivery
    html = root.get(reverse("admin:events_delivery_change", args=[row.pk])).content.decode()
    assert "&lt;b&gt;bad gateway&lt;/b&gt;" in html
    post(root, DELIVERIES, "redeliver", row)
    row.refresh_from_db()
    assert row.state == "pending"


def test_no_page_shows_a_secret(root: Client, tenant: Tenant):
    endpoint, secret = make_endpoint(tenant)
    html = root.get(reverse("admin:events_webhookendpoint_change", args=[endpoint.pk])).content.decode()
    assert "receiver.example" in html
    assert secret not in html


def test_a_member_sees_those_of_their_tenant_as_their_role_allows(broken: WebhookEndpoint):
    make_endpoint(make_tenant(), "https://theirs.example/")
    for role, sees in ((Role.ADMIN, True), (Role.EDITOR, True), (Role.VIEWER, False)):
        user = make_member(broken.tenant, role).user
        user.is_staff = True
        user.save()
        user.user_permissions.set(ModelPermission.objects.all())
        client = Client()
        client.force_login(user)
        html = client.get(reverse(LIST)).content.decode()
        assert ("https://broken.example/" in html) == sees, role
        assert "https://theirs.example/" not in html
